"""What the tests of misuse share: the command with and without its training, and what counts as an answer."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

Lab = Callable[..., tuple[int, str, str]]
Answer = Callable[..., str]
Planned = list[tuple[str, Any, Any]]  # study, launcher and jobs of each multirun

settings.register_profile(
    "misuse",
    deadline=None,
    derandomize=True,  # the same examples on every machine
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],  # explaining traces every line of torch
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
PROFILE = settings.get_profile("misuse")

TINY = (
    "data=digits",
    "model.hidden_size=4",
    "train.epochs=1",
    "train.device=cpu",
    "evaluation.pictures=false",
)
VAE_LAB = (sys.executable, "-c", "from vae_lab.cli import main; main()")
LONGEST = 1300  # characters of a message; the longest list the valid keys


def left_behind(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@contextmanager
def browsed() -> Iterator[str]:
    """Runs `vae-lab ui` over the store of this folder; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen([*VAE_LAB, "ui", "--port", str(port)], stdout=subprocess.PIPE, text=True) as ui:
        assert ui.stdout is not None
        while "Ctrl-C stops it" not in (line := ui.stdout.readline()):
            assert line
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            ui.send_signal(signal.SIGINT)


@pytest.fixture
def answer(lab: Lab, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Answer:
    """`vae-lab train ...` up to where it would open a store: gives its one message, empty if it would run.

    Composing, checking and preparing are the lab's own; only the training itself is left out.
    """
    from vae_lab.jobs.lines import multirun, single

    monkeypatch.setattr(single, "run_once", lambda job: str(job.parts))
    monkeypatch.setattr(multirun, "run_multirun", lambda *_: None)
    before = left_behind(folder)

    def ask(*arguments: str) -> str:
        code, _, err = lab(*arguments)
        assert left_behind(folder) == before
        assert code in (0, 2), err
        assert (code == 2) == bool(err), err
        if err:
            assert err.startswith("vae-lab: "), err
            assert len(err.splitlines()) == 1, err
            assert len(err) < LONGEST, err
        return err.removeprefix("vae-lab: ")

    return ask


@pytest.fixture
def command(folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Lab:
    """`vae-lab ...` in this process: gives exit code, standard output and standard error."""
    from vae_lab.cli import main

    def run(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["vae-lab", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        assert "Traceback" not in err, err
        return int(ended.value.code or 0), out, err

    return run


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> Planned:
    """The multiruns that a line would start, by their study's name and their launcher."""
    from vae_lab.jobs.lines import multirun, rounds

    multiruns: Planned = []

    def planned_only(master: Any, arguments: Any, grid: Any, launch: Any) -> None:
        axes, jobs = grid(1)
        multiruns.append((rounds.study_name(master, axes), master.hydra.launcher, jobs))

    monkeypatch.setattr(multirun, "run_multirun", planned_only)
    return multiruns
