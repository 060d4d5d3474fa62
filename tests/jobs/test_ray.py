"""Runs on workers of Ray: equal to the last bit, and a lost worker costs what it had under way."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cluster import ray_processes
from tests.conftest import trained
from vae_lab.jobs.crews.crew import LostWorkerError, Queue, Stint, work_off
from vae_lab.jobs.crews.ray_worker import Order, OtherResultError
from vae_lab.jobs.crews.workers import Thread
from vae_lab.jobs.job import Job, job_of
from vae_lab.jobs.progress import open_display
from vae_lab.jobs.runs.reports import Assignment, Report
from vae_lab.jobs.runs.run import Run
from vae_lab.tracking import Store

Lab = Callable[..., tuple[int, str, str]]
LINE = ("-m", "data=digits", "model.hidden_size=16", "train.device=cpu", "train.epochs=4", "model=vae,cvae")
SHARE = ("hydra.launcher.workers=2", "evaluation.pictures=false")
SECRET = "a word that no worker may learn"

needs_ray = pytest.mark.skipif(
    sys.platform != "linux" or subprocess.run([sys.executable, "-c", "import ray"]).returncode != 0,
    reason="looks at Ray's processes as Linux shows them; Ray is the extra `ray`",
)


def losses(folder: Path) -> dict[str, list[dict[int, float]]]:
    """The held-out losses of every finished run of a store, by fingerprint."""
    store = Store.open(f"sqlite:///{folder / 'mlflow.db'}")
    curves: dict[str, list[dict[int, float]]] = {}
    for run in store.tagged("vae_lab.kind", "run"):
        assert run.status == "FINISHED"
        history = store.client.get_metric_history(run.run_id, "test/loss")
        curve = {point.step: point.value for point in history}
        curves.setdefault(run.tags["vae_lab.fingerprint"], []).append(curve)
    return curves


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[int, float]]]:
    """What the runs come to in threads of one process."""
    return losses(trained(tmp_path_factory.mktemp("threads"), *LINE, *SHARE))


@needs_ray
def test_a_killed_worker_costs_what_it_had_under_way_and_nothing_of_ray_is_left(
    folder: Path, undisturbed: dict[str, list[dict[int, float]]]
) -> None:
    environment = os.environ | {"MLFLOW_TRACKING_PASSWORD": SECRET}
    command = [sys.executable, "-m", "vae_lab", "train", *LINE, *SHARE, "hydra/launcher=ray"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as lab:
        assert lab.stderr is not None
        said = [next(line for line in lab.stderr if "epoch 1/4" in line)]
        keeper = ray_processes.keeper_of(lab.pid)
        assert keeper is not None
        processes = ray_processes.of_session(keeper)
        workers = [process.number for process in processes if process.line.startswith("ray::Worker")]
        os.kill(workers[0], signal.SIGKILL)
        said += lab.stderr.readlines()
    assert lab.returncode == 0, said
    assert len(workers) == 2
    assert re.search(r"process \d+: this worker is gone; c?vae", "".join(said)), said
    assert not any(SECRET in process.variables + process.line for process in processes)
    assert ray_processes.of_session(keeper) == []
    assert losses(folder) == undisturbed


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


def test_without_ray_one_line_names_the_extra(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, err = lab(*LINE, "hydra/launcher=ray")
    assert code == 2
    assert "hydra/launcher=ray: Ray is not installed; pip install 'vae-lab[ray]'" in err


@pytest.fixture
def job(composed: Callable[..., Any], folder: Path) -> Job:
    address = f"sqlite:///{folder / 'mlflow.db'}"
    line = [*LINE[1:5], f"tracking.uri={address}", "optimizer.lr=3e-5"]
    return job_of(composed(*line), line, {})


def test_settings_travel_without_the_stores_address(job: Job) -> None:
    order = Order.of(Assignment(job, None, 4))
    assert "sqlite" not in repr(order)
    there = order.assignment().job
    assert there.parts.fingerprint == job.parts.fingerprint
    assert there.settings.optimizer.lr == 3e-5


def test_a_worker_refuses_what_would_have_another_result(job: Job) -> None:
    order = Order.of(Assignment(job, None, 4))
    with pytest.raises(OtherResultError, match=r": its code is not that of the command \(fingerprint "):
        order._replace(fingerprint="0" * 12).assignment()
    with pytest.raises(OtherResultError, match=": its data are not that of the command"):
        order._replace(fingerprint="0" * 12, data="0" * 12).assignment()


class Mortal(Thread):
    """A member whose machine is lost after some of its reports."""

    def __init__(self, reports: int) -> None:
        super().__init__(threads=1)
        self.reports = reports

    def train(
        self, assignments: Mapping[int, Assignment], wanted: Container[int]
    ) -> Iterator[Sequence[Report]]:
        for number, reports in enumerate(super().train(assignments, wanted)):
            if number == self.reports:
                raise LostWorkerError("A machine is gone.")
            yield reports


class Mortals:
    """A crew whose members live for so many reports, one after the other; then there are no more."""

    size = 1

    def __init__(self, *reports: int) -> None:
        self.reports = iter(reports)

    def member(self, _over: Callable[[], bool]) -> Mortal | None:
        return next((Mortal(count) for count in self.reports), None)


def test_a_run_goes_on_in_another_workers_hands_from_the_last_epoch(
    job: Job, undisturbed: dict[str, list[dict[int, float]]]
) -> None:
    plain = replace(job, settings=job.settings.copy())
    plain.settings.optimizer.lr = 1e-3
    plain.settings.evaluation.pictures = False
    run = Run(plain)
    with open_display(1, 4):
        work_off(Mortals(0, 3, 9), Queue([Stint([run])]))
    assert isinstance(run.result, str)
    (curve,) = losses(Path.cwd())[plain.parts.fingerprint]
    assert [curve] in undisturbed.values()


def test_a_run_that_ends_three_workers_is_given_up_and_others_are_not(job: Job) -> None:
    other = replace(job, settings=job.settings.copy())
    other.settings.seed = 1
    runs = [Run(job), Run(other)]
    with open_display(2, 8):
        work_off(Mortals(1, 1, 1, 9), Queue([Stint([run]) for run in runs]))
    assert "Given up: this was its worker number 3." in str(runs[0].result)
    assert isinstance(runs[1].result, str)


def test_without_any_worker_left_what_is_open_is_closed_as_failed(job: Job) -> None:
    run = Run(job)
    with open_display(1, 4), pytest.raises(Exception, match=r"No worker is left\. A machine is gone\."):
        work_off(Mortals(1), Queue([Stint([run])]))
    (stored,) = Store.open(job.settings.tracking.uri).tagged("vae_lab.kind", "run")
    assert stored.status == "FAILED"
