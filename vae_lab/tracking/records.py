"""A run as it is read back from a store, and the names of its tags and artifacts; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

KIND, STUDY, FINGERPRINT = "vae_lab.kind", "vae_lab.study", "vae_lab.fingerprint"
RUN, SWEEP = "run", "sweep"  # values of the tag KIND
PARENT, NOTE = "mlflow.parentRunId", "mlflow.note.content"
EVALUATION = "vae_lab.evaluation"  # tag: the settings at which each of a run's measures was taken
ENVIRONMENT, COMMAND = "vae_lab.environment", "vae_lab.command"
ERROR = "vae_lab.error"  # tag: the first line of what ended a run that did not finish
PROCESS = "vae_lab.process"  # tag: the process that is at work on a run, as JSON
ATTEMPT = "vae_lab.attempt"  # tag: names the attempt at a run that was gone on with; the first has none
SUPERSEDED = "vae_lab.superseded"  # tag: the multirun that left this run, made by other code, behind
SEQUENTIAL = "vae_lab.sequential"  # tag: seeds=auto chose how many seeds there are of this run, as "true"
HEARTBEAT = "vae_lab.heartbeat"  # tag: the last finished epoch and when it was recorded, as JSON
# Artifacts of a run, images without title or frame: a row of samples, and grids for the study's page.
STRIP_FILE = "samples_strip.png"
INTERPOLATION_FILE, CLASS_FILE = "grids/interpolation.png", "grids/class_grid.png"


@dataclass(frozen=True)
class StoredRun:
    """One run as it was read back from the store."""

    run_id: str
    experiment_id: str
    name: str
    status: str  # RUNNING, FINISHED, FAILED or KILLED
    params: Mapping[str, str]
    metrics: Mapping[str, float]  # the last value of each
    tags: Mapping[str, str]
    started: int  # milliseconds since 1970

    @property
    def kind(self) -> str:
        """RUN for a training, SWEEP for the parent of a multirun, empty for a stranger's run."""
        return self.tags.get(KIND, "")


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
