"""A run as it is read back from a store, and the names of its tags and artifacts; imports nothing heavy."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vae_lab.errors import UserError

KIND, STUDY, FINGERPRINT = "vae_lab.kind", "vae_lab.study", "vae_lab.fingerprint"
RUN, SWEEP = "run", "sweep"  # values of the tag KIND
PARENT, NOTE = "mlflow.parentRunId", "mlflow.note.content"
OWNER = "mlflow.user"  # tag: who started a run
EXPERIMENT = "vae_lab"  # that holds the runs if nothing names another
EXPERIMENT_NAME, EXPERIMENT_NUMBER = "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"  # variables of MLflow's
EVALUATION = "vae_lab.evaluation"  # tag: the settings at which each of a run's measures was taken
EVALUATION_AT_END = "vae_lab.evaluation_at_end"  # tag: that of EVALUATION when a run ended, or NO_EVALUATION
NO_EVALUATION = "none"  # value of the tag EVALUATION_AT_END
WITHDRAWN = "vae_lab.withdrawn"  # tag: a metric that is NaN could not be measured anew, and has no value
ENVIRONMENT, COMMAND = "vae_lab.environment", "vae_lab.command"
FAULT = "vae_lab.fault"  # tag: the fault that a run was given on purpose
ERROR = "vae_lab.error"  # tag: the first line of what ended a run that did not finish
PROCESS = "vae_lab.process"  # tag: the process that is at work on a run, as JSON
ATTEMPT = "vae_lab.attempt"  # tag: names the attempt at a run that was resumed; the first has none
WAITING = "vae_lab.waiting"  # tag: what a run waits for that its process is not at work on, TURN or WORKER
TURN, WORKER = "turn", "worker"  # values of the tag WAITING: in a search; in place of one that is gone
STOPPED = "vae_lab.stopped"  # tag: the epoch after which a search stopped a run, which can still go on
SUPERSEDED = "vae_lab.superseded"  # tag: the multirun that left this run, made by other code, behind
IMAGES = "vae_lab.images"  # tag: the shape of a run's images and the number of their classes, as JSON
HEARTBEAT = "vae_lab.heartbeat"  # tag: the last finished epoch and when it was recorded, as JSON
Points = dict[str, dict[str, dict[int, float]]]  # values by run, metric and step
STATUSES = ("RUNNING", "FINISHED", "FAILED", "KILLED")
LATEST = 253_402_300_799_000  # milliseconds since 1970 of the last second that a date can name
LARGEST = 1e100  # of a metric; the sums and squares of larger ones overflow
LONGEST_NUMBER = 18  # digits; Python refuses thousands of them
# Artifacts of a run, images without title or frame: a row of samples, and grids for the study's page.
STRIP_FILE = "samples_strip.png"
STEPS_FILE = "step_losses.csv"  # a row a step
EXPLORER_FILE = "explorer.html"  # artifact of a run or a parent: its models, which decode in the browser
INTERPOLATION_FILE, CLASS_FILE = "grids/interpolation.png", "grids/class_grid.png"


@dataclass(frozen=True)
class StoredRun:
    """One run as it was read back from the store."""

    run_id: str
    experiment_id: str
    name: str
    status: str  # one of STATUSES
    params: Mapping[str, str]
    metrics: Mapping[str, float]  # the last value of each that has not been withdrawn
    tags: Mapping[str, str]
    started: int  # milliseconds since 1970
    ended: int = 0  # the same; 0 while it has not

    def __post_init__(self) -> None:
        """Gives what other tools left out, or hold in another form, the form that it has here."""
        forms = {
            "name": self.name if isinstance(self.name, str) else "",
            "status": self.status if self.status in STATUSES else STATUSES[0],
            "started": _time(self.started),
            "ended": _time(self.ended),
        }
        for field, value in forms.items():
            object.__setattr__(self, field, value)
        if WITHDRAWN in self.tags:  # a store deletes no value
            valid = {key: value for key, value in self.metrics.items() if not math.isnan(value)}
            object.__setattr__(self, "metrics", valid)

    @property
    def kind(self) -> str:
        """RUN for a training, SWEEP for the parent of a multirun, empty for a stranger's run."""
        return self.tags.get(KIND, "")


class DeletedRunError(UserError):
    """A run was deleted that is asked for; until it is deleted for good its rows are there.

    Args:
        run_id: Its id.
        store: The store's name.
    """

    def __init__(self, run_id: str, store: str) -> None:
        super().__init__(f"{run_id}: was deleted in {store}; restore it in MLflow's UI, or name another run.")


def _time(at: object) -> int:
    return at if isinstance(at, int) and 0 < at < LATEST else 0


def metric_value(value: object, is_nan: object = False) -> float:
    """Returns a metric's value as a store holds it: NaN for what is no number, infinity for the absurd.

    Examples:
        >>> [metric_value(value) for value in (104.5, None, -1e200)]
        [104.5, nan, -inf]
    """
    if is_nan or not isinstance(value, (int, float)) or math.isnan(value):
        return math.nan
    return float(value) if abs(value) <= LARGEST else math.copysign(math.inf, value)


def whole_number(text: str) -> int | None:
    """Returns the whole number that a text is; None for any other, and for one of absurd length.

    Examples:
        >>> whole_number("12"), whole_number("1.5"), whole_number("9" * 5000)
        (12, None, None)
    """
    return int(text) if text.isdecimal() and len(text) <= LONGEST_NUMBER else None


def parsed_object(text: str) -> dict[str, Any]:
    """Returns the JSON object in a tag; an empty one if it was cut or is not the lab's own.

    Examples:
        >>> parsed_object('{"epoch": 3}'), parsed_object("[" * 100_000)
        ({'epoch': 3}, {})
    """
    try:
        parsed = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def measured_at(tags: Mapping[str, str]) -> dict[str, str]:
    """Returns the settings at which a run's measures were taken, by the names they have in `evaluation`.

    Metrics of the user's own are there by their keys, with the checksum of their code.

    Examples:
        >>> measured_at({EVALUATION: "samples=5000 judges=3"})
        {'samples': '5000', 'judges': '3'}
    """
    parts = (part.partition("=") for part in tags.get(EVALUATION, "").split())
    return {key: value for key, _, value in parts}


def checksum_tag(path: str) -> str:
    """Returns the tag that holds the checksum of an artifact that the lab reads back.

    Examples:
        >>> checksum_tag("model/model.pt")
        'vae_lab.checksum.model.model.pt'
    """
    return f"vae_lab.checksum.{path.replace('/', '.')}"


def member_tag(parent_run_id: str) -> str:
    """Returns the tag that every run of a multirun carries; a run can belong to several.

    Examples:
        >>> member_tag("1f")
        'vae_lab.sweep.1f'
    """
    return f"vae_lab.sweep.{parent_run_id}"
