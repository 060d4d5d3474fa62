"""What travels to a worker of Ray and back, what it refuses, and what it must not know."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
from collections.abc import Iterator, MutableMapping

import numpy as np
import pytest
import requests
import torch
from mlflow.exceptions import MlflowException

from vae_lab import machine
from vae_lab.errors import LabError, UserError
from vae_lab.jobs.crews.local_ray import without_secrets
from vae_lab.jobs.crews.ray_worker import OtherResultError, Refused, Worker, WorkerTask, _sent
from vae_lab.jobs.job import Job
from vae_lab.jobs.runs.reports import Assignment, Failed, Finished
from vae_lab.jobs.search.source import fails_again
from vae_lab.training import DivergedError


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
