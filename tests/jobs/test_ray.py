"""Runs on workers of Ray: equal to the last bit, and a lost worker costs what it had under way."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.cluster import ray_processes
from tests.jobs.conftest import LINE, SHARE, losses
from vae_lab.jobs.crews.cluster import cluster_at

Lab = Callable[..., tuple[int, str, str]]
SECRET = "a word that no worker may learn"

needs_ray = pytest.mark.skipif(
    sys.platform != "linux" or subprocess.run([sys.executable, "-c", "import ray"]).returncode != 0,
    reason="looks at Ray's processes as Linux shows them; Ray is the extra `ray`",
)


@needs_ray
def test_a_killed_worker_costs_what_it_had_under_way_and_nothing_of_ray_is_left(
    folder: Path, undisturbed: dict[str, list[dict[int, float]]]
) -> None:
    # An address is that of a Ray that somebody else uses, and has none to do with one of the command's own.
    environment = os.environ | {"MLFLOW_TRACKING_PASSWORD": SECRET, "RAY_ADDRESS": "127.0.0.1:1"}
    command = [sys.executable, "-m", "vae_lab", "train", *LINE, *SHARE, "hydra/launcher=ray"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as lab:
        assert lab.stderr is not None
        said = [next(line for line in lab.stderr if "epoch 1/4" in line)]
        keeper = ray_processes.keeper_of(lab.pid)
        assert keeper is not None
        processes = ray_processes.of_session(keeper)
        workers = [process.number for process in processes if process.line.startswith("ray::Worker")]
        training = [process for process in processes if process.line.startswith("ray::Worker.train")]
        os.kill(training[0].number, signal.SIGKILL)  # the other one may be starting
        said += lab.stderr.readlines()
    assert lab.returncode == 0, said
    assert len(workers) == 2
    assert re.search(r"process \d+: this worker is gone; c?vae", "".join(said)), said
    assert not any(SECRET in process.variables + process.line for process in processes)
    assert ray_processes.of_session(keeper) == []
    assert losses(folder) == undisturbed


@needs_ray
def test_one_ray_serves_all_multiruns_of_a_command_and_a_worker_lost_as_it_starts_is_replaced(
    folder: Path, undisturbed: dict[str, list[dict[int, float]]]
) -> None:
    batches = ("hydra/sweeper=basic", "hydra.sweeper.max_batch_size=1")
    command = [sys.executable, "-m", "vae_lab", "train", *LINE, *SHARE, "hydra/launcher=ray", *batches]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as lab:
        assert lab.stderr is not None
        while not (starting := workers_of(lab.pid)) and lab.poll() is None:
            time.sleep(0.1)
        os.kill(starting[0], signal.SIGKILL)
        said = [next(line for line in lab.stderr if "epoch 1/4" in line)]
        (first,) = workers_of(lab.pid)
        said += lab.stderr.readlines()
    assert lab.returncode == 0, said
    assert first != starting[0]
    assert losses(folder) == undisturbed


def workers_of(command: int) -> list[int]:
    """The processes of a command's Ray that train or are about to."""
    keeper = ray_processes.keeper_of(command)
    if keeper is None:
        return []
    session = ray_processes.of_session(keeper)
    return [process.number for process in session if process.line.startswith("ray::Worker")]


@needs_ray
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("hydra.launcher.cpus=0", "cpus=0: must be a part of one such as 0.25, or a whole number above 0."),
        ("hydra.launcher.gpus=1.5", "gpus=1.5: must be null, 0 or a part of one such as 0.25, or a whole"),
        ("hydra.launcher.address=ray://head:10001", "is of Ray Client, which is not used here"),
        ("hydra.launcher.address=127.0.0.1:1", "hydra.launcher.address=127.0.0.1:1: nobody answers there"),
    ],
)
def test_what_ray_cannot_lend_is_refused_in_one_line(lab: Lab, override: str, message: str) -> None:
    code, _, err = lab(*LINE, "hydra/launcher=ray", override)
    assert code in (1, 2)
    assert message in err
    assert "Traceback" not in err


@needs_ray
def test_a_ray_of_the_commands_own_without_room_for_one_worker_is_not_waited_for(folder: Path) -> None:
    command = [sys.executable, "-m", "vae_lab", "train", *LINE, *SHARE, "hydra/launcher=ray"]
    lab = subprocess.run([*command, "hydra.launcher.gpus=99"], capture_output=True, text=True, timeout=120)
    assert lab.returncode == 2
    assert "hydra.launcher.gpus=99: no machine of this Ray has as many; they have " in lab.stderr
    assert "Traceback" not in lab.stderr


def test_a_process_uses_one_ray_until_another_address_takes_its_place() -> None:
    first = cluster_at("127.0.0.1:1", 1)
    assert cluster_at("127.0.0.1:1", 99) is first
    assert cluster_at("127.0.0.1:2", 1) is not first


def test_without_ray_one_line_names_the_extra(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, err = lab(*LINE, "hydra/launcher=ray")
    assert code == 2
    assert "hydra/launcher=ray: Ray is not installed; pip install 'vae-lab[ray]'" in err
