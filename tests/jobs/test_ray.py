"""Runs on workers of Ray: equal to the last bit, and a lost worker costs what it had under way."""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Container, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import torch
from mlflow.exceptions import MlflowException

from benchmarks.cluster import ray_processes
from tests.conftest import trained
from vae_lab import interruption, machine
from vae_lab.errors import LabError, UserError
from vae_lab.jobs.crews import crew
from vae_lab.jobs.crews.cluster import cluster_at
from vae_lab.jobs.crews.crew import LostWorkerError, Member, Queue, RefusedError, RunsTogether, train_all
from vae_lab.jobs.crews.local_ray import without_secrets
from vae_lab.jobs.crews.ray_worker import OtherResultError, Refused, Worker, WorkerTask, _sent
from vae_lab.jobs.crews.workers import Thread
from vae_lab.jobs.job import Job, job_of
from vae_lab.jobs.progress import open_display
from vae_lab.jobs.runs.ran_on import DEVICE
from vae_lab.jobs.runs.reports import Assignment, Began, Failed, Finished, Report
from vae_lab.jobs.runs.run import Run
from vae_lab.jobs.search.source import fails_again
from vae_lab.tracking import Store
from vae_lab.training import DivergedError

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


@pytest.fixture
def job(composed: Callable[..., Any], folder: Path) -> Job:
    address = f"sqlite:///{folder / 'mlflow.db'}"
    line = [*LINE[1:5], f"tracking.uri={address}", f"search.storage={address}", "optimizer.lr=3e-5"]
    return job_of(composed(*line), line, {})


def test_settings_travel_without_the_addresses_of_stores(job: Job) -> None:
    task = WorkerTask.of(Assignment(job, None, 4))
    assert "sqlite" not in repr(task)
    there = task.assignment().job
    assert there.parts.fingerprint == job.parts.fingerprint
    assert there.settings.optimizer.lr == 3e-5


def test_a_worker_refuses_what_would_have_another_result(job: Job) -> None:
    task = WorkerTask.of(Assignment(job, None, 4))
    with pytest.raises(OtherResultError, match=r": its code is not that of the command \(fingerprint "):
        task._replace(fingerprint="0" * 12).assignment()
    with pytest.raises(OtherResultError, match=": its data are not that of the command"):
        task._replace(fingerprint="0" * 12, data="0" * 12).assignment()


@pytest.fixture
def environment() -> Iterator[MutableMapping[str, str]]:
    """The variables of this process, of which a worker removes some."""
    before = dict(os.environ)
    yield os.environ
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.usefixtures("environment")
def test_a_machine_that_cannot_prepare_a_run_refuses_it(job: Job) -> None:
    task = WorkerTask.of(Assignment(job, None, 4))
    (target,) = re.findall(r"_target_: (\S+digits)", task.settings)
    elsewhere = task._replace(settings=task.settings.replace(target, "absent_here.digits"))
    (answer,) = Worker(gpus=1).train({0: elsewhere}, threads=1, number=1)
    assert isinstance(answer, Refused)
    assert "data._target_=absent_here.digits: no function of that name can be imported" in answer.reason


@pytest.mark.usefixtures("environment")
def test_a_run_that_needs_more_memory_than_is_free_fails_and_its_worker_goes_on(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = WorkerTask.of(Assignment(job, None, 4))
    monkeypatch.setattr(machine, "free_memory", lambda device: 0)
    (answer,) = Worker(gpus=1).train({0: task}, threads=1, number=1)
    assert isinstance(answer, list)
    (report,) = answer
    assert isinstance(report, Failed)
    assert "must fit into memory" in str(report.error)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(("number", "finishes"), [(1, True), (2, False)])
def test_what_is_dropped_of_an_earlier_training_is_not_dropped_of_the_next(
    job: Job, number: int, finishes: bool
) -> None:
    job.settings.evaluation.pictures = False
    worker = Worker(gpus=1)
    reports = worker.train({0: WorkerTask.of(Assignment(job, None, 4))}, threads=1, number=2)
    next(reports)
    worker.drop(number, {0})
    further = [report for answer in reports if isinstance(answer, list) for report in answer]
    assert any(isinstance(report, Finished) for report in further) == finishes


SECRETS = (
    "AIRFLOW_CONNECTION_STRING AUTH AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AZURE_STORAGE_ACCOUNTKEY "
    "AZURE_STORAGE_CONNECTION_STRING AZURE_STORAGE_KEY DATABASE_DSN DB_CONNSTR DB_PASS DB_PASSWORD DB_PWD "
    "ENCRYPTION_KEY GITHUB_PAT GOOGLE_APPLICATION_CREDENTIALS HF_TOKEN MLFLOW_TRACKING_URI MYSQL_PWD "
    "OPENAI_API_KEY PASSPHRASE PGPASSWORD RAY_AUTH_TOKEN REDISCLI_AUTH SQLCONNSTR_LAB SSHPASS SSH_AUTH_SOCK "
    "SSH_PRIVATE_KEY WANDB_APIKEY db_pass"
)
HARMLESS = (
    "CUDA_VISIBLE_DEVICES GIT_AUTHOR_NAME GNOME_KEYRING_CONTROL HOME INIT_CWD LANG MONKEY OLDPWD "
    "OMP_NUM_THREADS PATH PWD PYTHONPATH RAY_TLS_SERVER_KEY TERM "
    "TOKENIZERS_PARALLELISM XDG_SESSION_ID XDG_STATE_HOME"
)
SECRET_VALUES = (
    "postgresql://a:b@c/d",
    "host=c password=b",
    "Server=c;Pwd=b",
    "AccountName=a;AccountKey=b==",
)


def test_what_gives_somebody_in_does_not_reach_workers_and_all_else_does() -> None:
    assert without_secrets(dict.fromkeys(SECRETS.split(), "a")) == {}
    assert [*without_secrets(dict.fromkeys(HARMLESS.split(), "a"))] == HARMLESS.split()
    assert without_secrets({f"LAB_{number}": value for number, value in enumerate(SECRET_VALUES)}) == {}


def test_a_worker_has_no_secrets_of_those_who_started_its_ray_and_keeps_what_is_rays_own(
    environment: MutableMapping[str, str],
) -> None:
    ray = dict.fromkeys(("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_REDIS_PASSWORD"), "a")
    environment.clear()
    environment.update(dict.fromkeys((*SECRETS.split(), *HARMLESS.split()), "a") | ray)
    Worker(gpus=1)
    child = subprocess.run(["/usr/bin/env"], capture_output=True, text=True, check=True)
    there = {line.partition("=")[0] for line in child.stdout.splitlines()}
    assert {*HARMLESS.split(), *ray} <= there
    assert {*SECRETS.split()} & there == {"RAY_AUTH_TOKEN"}


class OwnError(Exception):
    """Of a class that the driver does not have."""


class OwnUserError(OwnError, UserError):
    """One of what the user asked for."""


class OwnDiskError(OwnError, OSError):
    """One of the system's."""


class OwnLookupError(KeyError):
    """One whose class in the language shows its message in quotes."""


class OwnTextError(UnicodeDecodeError):
    """One whose class in the language takes more than a message."""


@pytest.mark.parametrize(
    "error",
    [
        *(DivergedError("loss is NaN"), ValueError("7"), LabError("a full disk"), OSError("a full disk")),
        *(torch.OutOfMemoryError("CUDA"), np.linalg.LinAlgError("singular"), MlflowException("is away")),
        *(requests.ConnectionError("is away"), OwnError("7"), OwnUserError("7"), OwnDiskError("full")),
        *(OwnLookupError("7"), OwnTextError("utf-8", b"7", 0, 1, "is odd")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_ends_a_run_for_good_is_told_from_what_may_pass_after_it_has_travelled(error: Exception) -> None:
    travelled = pickle.loads(pickle.dumps(_sent(Failed(0, error, "")))).error
    assert fails_again(travelled) == fails_again(error)
    assert str(travelled) == str(error)
    assert type(travelled).__module__.partition(".")[0] in ("builtins", "mlflow", "vae_lab")


def test_an_error_without_a_message_travels_by_the_name_of_its_class() -> None:
    sent = _sent(Failed(0, OwnError(), ""))
    assert isinstance(sent, Failed)
    assert str(sent.error) == "OwnError"


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
                self.is_lost = True
                raise LostWorkerError("A machine is gone.")
            yield reports


class Elsewhere(Mortal):
    """A member on a machine of some name, which is lost after some of its reports."""

    def __init__(self, name: str, reports: int) -> None:
        super().__init__(reports)
        self.name = name

    def train(
        self, assignments: Mapping[int, Assignment], wanted: Container[int]
    ) -> Iterator[Sequence[Report]]:
        for reports in super().train(assignments, wanted):
            yield [
                report._replace(tags={**report.tags, DEVICE: self.name})
                if isinstance(report, Began)
                else report
                for report in reports
            ]


class Stopped(Mortal):
    """A member that is lost as the user asks to stop."""

    def train(
        self, assignments: Mapping[int, Assignment], wanted: Container[int]
    ) -> Iterator[Sequence[Report]]:
        try:
            yield from super().train(assignments, wanted)
        except LostWorkerError:
            interruption.request()
            raise


class Refusing(Thread):
    """A member whose machine lacks the data."""

    def train(
        self, assignments: Mapping[int, Assignment], wanted: Container[int]
    ) -> Iterator[Sequence[Report]]:
        raise RefusedError("A machine lacks the data.")


class Spent(Thread):
    """A member that has to be ended when a state that it sends is damaged."""

    def train(
        self, assignments: Mapping[int, Assignment], wanted: Container[int]
    ) -> Iterator[Sequence[Report]]:
        if self.is_lost:
            raise LostWorkerError("A machine is gone.")
        self.is_lost = True
        raise ValueError("a damaged state")


class InTurn:
    """A crew of some members at a time, and others in their place; then there are no more."""

    def __init__(self, size: int, *members: Member) -> None:
        self.size, self.members = size, iter(members)

    def member(self, _over: Callable[[], bool]) -> Member | None:
        return next(self.members, None)


class Full(InTurn):
    """A crew on machines that have room for some members; for the others it waits, as `RayCrew` does."""

    def member(self, over: Callable[[], bool]) -> Member | None:
        member = next(self.members, None)
        while member is None and not over():
            time.sleep(0.01)
        return member


def mortals(*reports: int) -> InTurn:
    """A crew whose members live for so many reports, one after the other."""
    return InTurn(1, *map(Mortal, reports))


def test_a_run_goes_on_in_another_workers_hands_from_the_last_epoch(
    job: Job, undisturbed: dict[str, list[dict[int, float]]]
) -> None:
    plain = replace(job, settings=job.settings.copy())
    plain.settings.optimizer.lr = 1e-3
    plain.settings.evaluation.pictures = False
    run = Run(plain)
    with open_display(1, 4):
        train_all(mortals(0, 3, 9), Queue([RunsTogether([run])]))
    assert isinstance(run.result, str)
    (curve,) = losses(Path.cwd())[plain.parts.fingerprint]
    assert [curve] in undisturbed.values()


@pytest.mark.parametrize(
    ("machines", "device"),
    [
        ([("A", 3), ("B", 2), ("C", 9)], "A to epoch 2, then B to epoch 3, then C"),
        ([("A", 3), ("B", 1), ("C", 9)], "A to epoch 2, then C"),  # B came to no epoch
        ([("A", 3), ("B", 1), ("A", 9)], "A"),
    ],
)
def test_a_run_names_every_machine_that_trained_some_of_its_epochs(
    job: Job, machines: list[tuple[str, int]], device: str
) -> None:
    members = [Elsewhere(name, reports) for name, reports in machines]
    job.settings.evaluation.pictures = False
    with open_display(1, 4):
        train_all(InTurn(1, *members), Queue([RunsTogether([Run(job)])]))
    (stored,) = Store.open(job.settings.tracking.uri).tagged("vae_lab.kind", "run")
    assert stored.tags[DEVICE] == device


def test_a_run_that_ends_three_workers_is_given_up_and_others_are_not(job: Job) -> None:
    other = replace(job, settings=job.settings.copy())
    other.settings.seed = 1
    runs = [Run(job), Run(other)]
    with open_display(2, 8):
        train_all(mortals(1, 1, 1, 9), Queue([RunsTogether([run]) for run in runs]))
    assert "Given up: this was its worker number 3." in str(runs[0].result)
    assert isinstance(runs[1].result, str)


def test_without_any_worker_left_what_is_open_is_closed_as_failed(job: Job) -> None:
    run = Run(job)
    with open_display(1, 4), pytest.raises(Exception, match=r"No worker is left\. A machine is gone\."):
        train_all(mortals(1), Queue([RunsTogether([run])]))
    (stored,) = Store.open(job.settings.tracking.uri).tagged("vae_lab.kind", "run")
    assert stored.status == "FAILED"


def test_what_a_lost_worker_left_is_closed_as_killed_where_the_user_asks_to_stop(job: Job) -> None:
    run = Run(job)
    with open_display(1, 4), pytest.raises(KeyboardInterrupt):
        train_all(InTurn(1, Stopped(2), Thread(1)), Queue([RunsTogether([run])]))
    (stored,) = Store.open(job.settings.tracking.uri).tagged("vae_lab.kind", "run")
    assert stored.status == "KILLED"


def test_who_refuses_is_not_asked_again_and_a_lost_worker_is_still_replaced(job: Job) -> None:
    run = Run(job)
    with open_display(1, 4):
        train_all(InTurn(2, Refusing(1), Mortal(1), Thread(1)), Queue([RunsTogether([run])]))
    assert isinstance(run.result, str)
    assert run.lost_workers == 1


def test_where_all_refuse_the_reason_is_said(job: Job) -> None:
    packs = Queue([RunsTogether([Run(job)])])
    with open_display(1, 4), pytest.raises(LabError, match=r"No worker is left\. A machine lacks the data\."):
        train_all(InTurn(1, Refusing(1), Thread(1)), packs)


@pytest.mark.timeout(30)
def test_where_all_that_have_room_refuse_the_reason_is_said_and_no_others_are_waited_for(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "PATIENCE_SECONDS", 0.1, raising=False)
    packs = Queue([RunsTogether([Run(job)])])
    with open_display(1, 4), pytest.raises(LabError, match=r"No worker is left\. A machine lacks the data\."):
        train_all(Full(3, Refusing(1)), packs)
    (stored,) = Store.open(job.settings.tracking.uri).tagged("vae_lab.kind", "run")
    assert stored.status == "FAILED"


def test_a_further_worker_is_waited_for_while_anybody_trains_and_where_nobody_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(crew, "PATIENCE_SECONDS", 0.0)
    state = crew.CrewState()
    state.came()
    state.came()
    state.tell(LostWorkerError("A machine is gone."))
    state.left()
    assert not state.is_waited_in_vain()
    state.tell(RefusedError("A machine lacks the data."))
    assert not state.is_waited_in_vain()
    state.left()
    assert state.is_waited_in_vain()
    monkeypatch.setattr(crew, "PATIENCE_SECONDS", 60.0)
    assert not state.is_waited_in_vain()  # one may be starting


def test_after_an_error_of_its_own_a_worker_that_has_ended_is_not_taken_for_a_lost_one(job: Job) -> None:
    other = replace(job, settings=job.settings.copy())
    other.settings.seed = 1
    runs = [Run(job), Run(other)]
    with open_display(2, 8):
        train_all(InTurn(1, Spent(1), Thread(1)), Queue([RunsTogether([run]) for run in runs]))
    assert isinstance(runs[0].result, ValueError)
    assert isinstance(runs[1].result, str)
    assert [run.lost_workers for run in runs] == [0, 0]
