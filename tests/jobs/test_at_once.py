"""Equal commands at once: the second says so, and nothing is trained twice."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import SMALL
from vae_lab import tracking
from vae_lab.errors import UserError
from vae_lab.tracking import StoredRun, reader

Lab = Callable[..., tuple[int, str, str]]
LINE = (*SMALL[:2], "train.device=cpu", "train.epochs=60", "evaluation.pictures=false")


def start(*arguments: str) -> subprocess.Popen[str]:
    program = "from vae_lab.cli import main; main()"
    command = [sys.executable, "-c", program, "train", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def runs() -> list[StoredRun]:
    try:
        return reader().tagged(tracking.KIND, tracking.RUN)
    except UserError:  # there is no store yet
        return []


def test_of_two_equal_runs_that_start_together_one_is_trained(folder: Path) -> None:
    processes = [start(*LINE) for _ in range(2)]
    said = {process.wait(): process.communicate()[1] for process in processes}
    [run] = runs()
    assert run.status == "FINISHED"
    assert sorted(said) in ([0, 2], [0])  # the second may have come to a run that is there already
    if 2 in said:
        line = said[2].splitlines()[-1]
        assert "is at work on it (run " in line
        assert any(f"process {process.pid} on " in line for process in processes)


@pytest.fixture
def held(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that holds up the training of processes with the variable HELD, while it is there."""
    (folder / "held.py").write_text(
        "import os, pathlib, time, torch\n"
        "class Adam(torch.optim.Adam):\n"
        "    def step(self, closure=None):\n"
        "        while 'HELD' in os.environ and pathlib.Path('held').exists():\n"
        "            time.sleep(0.05)\n"
        "        return super().step(closure)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.syspath_prepend(str(folder))
    return folder / "held"


def test_an_equal_multirun_is_refused_and_another_waits_for_runs_that_it_shares(
    lab: Lab, held: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = (*LINE, "optimizer._target_=held.Adam")
    with monkeypatch.context() as patch:
        patch.setenv("HELD", "true")
        first = start("-m", *line, "seed=0,1")
    while len(runs()) < 2:
        assert first.poll() is None
        time.sleep(0.05)
    held.touch()
    code, _, err = lab("-m", *line, "seed=0,1")
    assert code == 2
    assert f"vae-lab: seed: process {first.pid} on " in err
    code, _, err = lab(*line, "seed=0")
    assert code == 2
    assert f"vae L3 Z15 s0: process {first.pid} on " in err

    def let_go() -> None:
        while not any(run.name.startswith("epochs=1 ") and run.status == "FINISHED" for run in runs()):
            time.sleep(0.05)
        held.unlink()

    threading.Thread(target=let_go, daemon=True).start()
    code, _, err = lab("-m", *line, "seed=1", "train.epochs=60,1")
    assert code == 0, err
    assert f"epochs=60 vae L3 Z15 s1: process {first.pid} on " in err
    assert "Waiting for it." in err
    assert first.wait() == 0
    first.communicate()
    names = ["epochs=1 vae L3 Z15 s1", "vae L3 Z15 s0", "vae L3 Z15 s1"]
    assert sorted((run.name, run.status) for run in runs()) == [(name, "FINISHED") for name in names]
    parents = reader().tagged(tracking.KIND, tracking.SWEEP)
    assert [len(reader().members(parent.run_id)) for parent in parents] == [2, 2]
