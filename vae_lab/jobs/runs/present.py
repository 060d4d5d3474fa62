"""What a store has of a job: a run that has finished, one that can go on, one under way, or none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from vae_lab import config
from vae_lab.checkpoints import Checkpoint
from vae_lab.files import DamagedError
from vae_lab.jobs.job import Job
from vae_lab.tracking import StoredRun
from vae_lab.tracking.abandoned import newest_finished
from vae_lab.tracking.folders import run_folder
from vae_lab.tracking.processes import CHECKPOINT_FILE


class Present(NamedTuple):
    """How far a store is with a job."""

    state: str  # one of studies.status.STATES, but for failed: such a run is trained anew or resumed
    done: int = 0  # finished epochs
    stored: StoredRun | None = None


def recorded_params(job: Job) -> dict[str, str]:
    """Returns the parameters that a job's run is recorded with."""
    return config.parameters(job.settings) | {"model.parameters": str(job.parts.weights)}


def can_go_on(stored: StoredRun, params: Mapping[str, str]) -> bool:
    """Returns whether an unfinished run of the same result may be resumed, by its record.

    Args:
        stored: The run. One that is RUNNING is being trained, in a multirun for another of its points.
        params: What the run would be recorded with.
    """
    return stored.status != "RUNNING" and all(
        params.get(key) == value for key, value in stored.params.items()
    )


def last_epoch(stored: StoredRun, file: Path) -> Checkpoint | None:
    """Returns the last finished epoch of an unfinished run; None if it had none.

    Raises:
        FileNotFoundError: It had one, which is not on this machine.
        DamagedError: The file is damaged.
    """
    try:
        return Checkpoint.load(file)
    except FileNotFoundError:
        if stored.metrics:
            raise
        return None


def present(job: Job, runs: Iterable[StoredRun], uri: str) -> Present:
    """Returns how far a store is with a job; nothing is written.

    Args:
        job: What would be trained.
        runs: The store's of the same fingerprint, newest first; KILLED where their process is gone.
        uri: The store.
    """
    if job.settings.reuse == "never":
        return Present("missing")
    runs = list(runs)
    if (finished := newest_finished(runs)) is not None:
        return Present("finished", job.settings.train.epochs, finished)
    if running := [run for run in runs if run.status == "RUNNING"]:
        return Present("running", 0, running[0])
    params = recorded_params(job)
    for stored in (run for run in runs if can_go_on(run, params)):
        try:
            checkpoint = last_epoch(stored, run_folder(uri, stored.run_id) / CHECKPOINT_FILE)
        except (FileNotFoundError, DamagedError):
            continue
        return Present("interrupted", 0 if checkpoint is None else checkpoint.epoch, stored)
    return Present("missing")
