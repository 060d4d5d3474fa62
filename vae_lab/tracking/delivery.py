"""Hands records to MLflow, and tells a store that will never take one from a store that is away."""

from __future__ import annotations

import logging
import math
import re
import sys
import time
from contextlib import suppress
from pathlib import Path

import requests
from mlflow import MlflowClient
from mlflow.entities import Dataset as MlflowDataset
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from vae_lab.errors import without_credentials
from vae_lab.files import DamagedError
from vae_lab.tracking.records import ATTEMPT
from vae_lab.tracking.spool import Backlog, NewerRecordError, Record, Spool, look

# Its failures come with tracebacks in the log, and are raised too.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)

ASK_SECONDS = 5.0  # for which it is known to which attempt a run belongs
TAKEN_OVER = "is of an attempt that another process has gone on from since"
METRICS_A_CALL = 900  # MLflow takes 1000 metrics, parameters and tags at once
# What the store answers to a record that it will never take; everything else may be otherwise tomorrow.
_REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE")
_ABSENT = "RESOURCE_DOES_NOT_EXIST"  # so says also another store than the one that has the run
_REFUSED_FILES = (413, 415)  # what stands before a server may say so of a file: too large, no such type


def drain(client: MlflowClient, spool: Spool, *, at_most: float = math.inf) -> None:
    """Hands what waits in a spool to the store, oldest first.

    A record that the store refuses or that is damaged is set aside, and the next follows. All wait if the
    store has not their run, as it may be another store; and behind one that a later version wrote.

    Args:
        client: The store.
        spool: What waits.
        at_most: How many records to hand over or to set aside.

    Raises:
        Exception: Whatever MLflow and its storage raise while they cannot take records; `trouble_of_run`
            tells whether the reason lies in this run.
    """
    count = 0
    while count < at_most:
        with spool.delivering:
            if (number := spool.first) is None:
                return
            try:
                with spool.read(number) as record:
                    if taken_over(client, spool, record):
                        spool.set_aside(number, f"({record.content}) {TAKEN_OVER}")
                    else:
                        deliver(client, spool.run_id, record)
                        spool.attempt = record.tags.get(ATTEMPT) or spool.attempt
                        spool.remove(number)
            except DamagedError as error:
                spool.set_aside(number, str(error))
            except Exception as error:
                spool.attempt = None
                if not (reason := refusal(error)):
                    raise
                spool.set_aside(number, f"({record.content}) {reason}")
        count += 1


def taken_over(client: MlflowClient, spool: Spool, record: Record) -> bool:
    """Returns whether a record is of an attempt at its run that another process has gone on from since.

    The store is asked again after some seconds, as another process takes a run only after a long silence.
    """
    if spool.attempt is None or abs(time.time() - spool.asked) > ASK_SECONDS:
        spool.attempt = client.get_run(spool.run_id).data.tags.get(ATTEMPT, "")
        spool.asked = time.time()
    return spool.attempt not in (record.attempt, record.tags.get(ATTEMPT))


def drain_folder(client: MlflowClient, folder: Path) -> Backlog:
    """Delivers what a dead process left in the folder of a spool and returns what became of it."""
    spool = Spool.reopen(folder)
    if spool is None:
        return look(folder)._replace(note="another process delivers its records")
    note, before = "", spool.pending
    try:
        drain(client, spool)
    except Exception as error:
        note = trouble_of_run(error) or why(error)
    delivered = before - spool.pending - len(spool.refused)
    backlog = look(folder)._replace(delivered=delivered, note=note)
    spool.close()
    return backlog


def deliver(client: MlflowClient, run_id: str, record: Record) -> None:
    """Hands one record to MLflow; to do so twice does no harm."""
    for name, path in record.named_files().items():
        client.log_artifact(run_id, str(path), name.rpartition("/")[0] or None)
    points = [Metric(name, value, record.at, step) for name, value, step in record.metrics]
    for start in range(METRICS_A_CALL, len(points), METRICS_A_CALL):
        client.log_batch(run_id, points[start : start + METRICS_A_CALL], synchronous=True)
    # The tags say how far the run is, so they come with the last points and after the files.
    tags = [RunTag(key, value) for key, value in record.tags.items() if value is not None]
    params = [Param(key, value) for key, value in record.params.items()]
    if points or params or tags:
        client.log_batch(run_id, points[:METRICS_A_CALL], params, tags, synchronous=True)
    for key in [key for key, value in record.tags.items() if value is None]:
        with suppress(MlflowException):  # it is not there: removed already
            client.delete_tag(run_id, key)
    if record.dataset:
        inputs = [
            DatasetInput(MlflowDataset(**record.dataset), [InputTag("mlflow.data.context", "training")])
        ]
        try:
            client.log_inputs(run_id, inputs)
        except MlflowException:
            # MLflow inserts a data set that it did not find; another run was faster, now it is there.
            client.log_inputs(run_id, inputs)
    if record.status == "RUNNING":
        client.update_run(run_id, status="RUNNING")
    elif record.status:
        client.set_terminated(run_id, record.status, end_time=record.at)


def refusal(error: Exception) -> str:
    """Returns why the store will never take a record; empty if it may at another time."""
    answer = error.response if isinstance(error, requests.HTTPError) else None
    is_refused = _code(error) in _REFUSALS or (answer is not None and answer.status_code in _REFUSED_FILES)
    return f"was refused: {first_line(error)}" if is_refused else ""


def is_absent(error: Exception) -> bool:
    """Returns whether a store answers that it has not what it was asked for, or told of."""
    return _code(error) == _ABSENT


def trouble_of_run(error: Exception) -> str:
    """Returns why all records of a run wait, though the store takes those of others; empty if it does not."""
    if isinstance(error, NewerRecordError):
        return str(error)
    return "it has no run of that id" if is_absent(error) else ""


def _code(error: Exception) -> str:
    """Returns MLflow's code of an error; empty if it is not MLflow's."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return _code_in(error.response)
    return str(error.error_code) if isinstance(error, MlflowException) else ""


def _code_in(answer: requests.Response) -> str:
    """Returns MLflow's code of an error; empty if the answer is of something that stands before MLflow."""
    try:
        content = answer.json()
    except ValueError:
        return ""
    return str(content.get("error_code", "")) if isinstance(content, dict) else ""


def failures(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """Returns the errors of MLflow's client, its own and SQLAlchemy's if that is imported, and more."""
    database = sys.modules.get("sqlalchemy.exc")
    return (
        (MlflowException, *more) if database is None else (MlflowException, database.SQLAlchemyError, *more)
    )


def why(error: BaseException) -> str:
    """Returns why a store cannot be used now, in a few words."""
    text = str(error)
    if "to proxy" in text:
        return "the proxy that http_proxy or https_proxy names does not answer"
    if "Failed to resolve" in text or "NameResolutionError" in text:
        return "no such host"
    if "Connection refused" in text:
        return "connection refused"
    if "timed out" in text or "imeout" in type(error).__name__:
        return "no answer in time"
    if re.search(r"RemoteDisconnected|Connection (aborted|broken|reset)", text):
        return "the connection broke"
    if match := re.search(r"too many (\d+) error responses|failed with error code (\d+)", text):
        return f"it answers with HTTP error {match[1] or match[2]}"
    if match := re.search(r"\(sqlite3\.\w+\) (.+)", text):
        return match[1].strip()
    return first_line(error)


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, without passwords; else its class."""
    return without_credentials((str(error) or type(error).__name__).splitlines()[0])
