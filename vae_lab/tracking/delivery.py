"""Hands the records of a journal to MLflow, in order, and again when it is not sure that they arrived.

Doing so twice does no harm: MLflow keeps one point of equal key, step, time and value, a tag or a file
replaces its like, and a record's time and file names are chosen when it is written to the journal.
"""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from pathlib import Path

import requests
from mlflow import MlflowClient
from mlflow.entities import Dataset as MlflowDataset
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from vae_lab.tracking.journal import Damaged, Entry, Journal, checksum

# Its failures come with tracebacks in the log, and are raised too.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)

_KINDS = ("metrics", "params", "files", "tags", "dataset", "status")
METRICS_A_CALL = 1000  # MLflow's limit
# What the store answers to a record that it will never take; everything else may be otherwise tomorrow.
_REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE")
_REFUSED_FILES = (400, 404, 405, 413, 415)  # the same from a server that takes artifacts


class RefusedError(Exception):
    """The store will never take this record."""


def deliver_first(client: MlflowClient, journal: Journal) -> bool:
    """Hands the oldest record over; False if there is none.

    Raises:
        RefusedError: the store does not take it, or it is damaged; that is noted and the next may follow.
        Exception: whatever MLflow and its storage raise while they cannot take records.
    """
    entry = journal.first()
    if entry is None:
        return False
    number = journal.delivered + 1
    try:
        faults = [] if isinstance(entry, Damaged) else deliver(client, journal, entry)
    except Exception as error:
        if not (reason := refusal(error)):
            raise
        faults = [(f"record {number} ({_kind(entry)})", reason)]
    if isinstance(entry, Damaged):
        faults = [(f"record {number}", entry.reason)]
    for what, reason in faults:
        journal.refuse(what, reason)
    journal.done()
    if faults:
        raise RefusedError("; ".join(f"{what} {reason}" for what, reason in faults))
    return True


def deliver(client: MlflowClient, journal: Journal, entry: Entry) -> list[tuple[str, str]]:
    """Hands one record to MLflow; gives the files of it that are lost, with the reason."""
    run_id = journal.run_id
    match _kind(entry):
        case "metrics":
            at, step = entry["at"], entry["step"]
            points = [Metric(key, value, at, step) for key, value in entry["metrics"].items()]
            name, values, first = entry["curve"] or ("", [], 0)
            points += [Metric(name, value, at, first + i) for i, value in enumerate(values)]
            for start in range(METRICS_A_CALL, len(points), METRICS_A_CALL):
                client.log_batch(run_id, metrics=points[start : start + METRICS_A_CALL])
            # The tags say how far the run is, so they come with the last points.
            client.log_batch(run_id, metrics=points[:METRICS_A_CALL], tags=_tags(entry))
        case "params":
            client.log_batch(run_id, params=[Param(key, value) for key, value in entry["params"].items()])
        case "tags":
            client.log_batch(run_id, tags=_tags(entry))
            for key in [key for key, value in entry["tags"].items() if value is None]:
                with suppress(MlflowException):  # it is not there: removed already
                    client.delete_tag(run_id, key)
        case "dataset":
            data = MlflowDataset(**entry["dataset"])
            linked = [DatasetInput(data, [InputTag("mlflow.data.context", "training")])]
            try:
                client.log_inputs(run_id, linked)
            except MlflowException:
                # MLflow inserts a data set that it did not find; another run was faster, now it is there.
                client.log_inputs(run_id, linked)
        case "files":
            lost = _deliver_files(client, journal, entry)
            if tags := _tags(entry):
                client.log_batch(run_id, tags=tags)
            return lost
        case "status":
            if entry["status"] == "RUNNING":
                client.update_run(run_id, status="RUNNING")
            else:
                client.set_terminated(run_id, entry["status"], end_time=entry["at"])
        case _:
            return [("a record", "is of a kind that this version of the lab does not know")]
    return []


def _tags(entry: Entry) -> list[RunTag]:
    return [RunTag(key, value) for key, value in entry.get("tags", {}).items() if value is not None]


def _deliver_files(client: MlflowClient, journal: Journal, entry: Entry) -> list[tuple[str, str]]:
    folder, lost = journal.files / entry["files"], []
    if journal.replaying and not folder.exists():
        return []
    for name, expected in entry["sums"].items():
        file = folder / name
        if not file.is_file():
            lost.append((f"the file {name}", "is missing"))
        elif checksum(file) != expected:
            lost.append((f"the file {name}", "is damaged: its checksum does not match"))
        else:
            parent = Path(name).parent.as_posix()
            client.log_artifact(journal.run_id, str(file), None if parent == "." else parent)
    return lost


def _kind(entry: Entry | Damaged) -> str:
    if isinstance(entry, Damaged):
        return "damaged"
    return next((key for key in _KINDS if key in entry), "?")


def refusal(error: Exception) -> str:
    """Why the store will never take a record; empty if it may at another time."""
    if isinstance(error, MlflowException) and error.error_code in _REFUSALS:
        return f"was refused: {first_line(error)}"
    answer = error.response if isinstance(error, requests.HTTPError) else None
    if answer is not None and answer.status_code in _REFUSED_FILES:
        return f"was refused: {first_line(error)}"
    return ""


def why(error: BaseException) -> str:
    """Why a store cannot be used now, in a few words."""
    text = str(error)
    if "Connection refused" in text:
        return "connection refused"
    if "timed out" in text or "imeout" in type(error).__name__:
        return "no answer in time"
    if "RemoteDisconnected" in text or "Connection aborted" in text or "Connection reset" in text:
        return "the connection broke"
    if found := re.search(r"too many (\d+) error responses", text):
        return f"it answers with HTTP error {found[1]}"
    if found := re.search(r"\(sqlite3\.\w+\) (.+)", text):
        return found[1].strip()
    return first_line(error)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, else its class."""
    return (str(error) or type(error).__name__).splitlines()[0]
