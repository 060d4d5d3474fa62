"""Finds the interrupted run that a job goes on with, and locks it for this process."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import NamedTuple

from vae_lab import tracking
from vae_lab.checkpoints import Checkpoint
from vae_lab.files import DamagedError
from vae_lab.jobs.job import Job, UnderWayError
from vae_lab.jobs.runs.present import can_go_on, last_epoch
from vae_lab.jobs.runs.under_way import check_run
from vae_lab.tracking import RunFolder, Store, StoredRun
from vae_lab.tracking.abandoned import unfinished_runs

log = logging.getLogger(__name__)


class InterruptedRun(NamedTuple):
    """A run that ended early and can be resumed; without a checkpoint it had no finished epoch."""

    stored: StoredRun
    folder: RunFolder  # locked
    checkpoint: Checkpoint | None


def find_interrupted(job: Job, store: Store, params: Mapping[str, str]) -> InterruptedRun | None:
    """Returns a run of the same result to resume: one that has a checkpoint, or no epoch yet.

    Args:
        job: What is to be trained; one with `reuse=never` resumes nothing.
        store: Where such a run is looked for.
        params: What the job's run is recorded with.

    Raises:
        UnderWayError: Another process is at work on one, or about to be.
    """
    if job.settings.reuse == "never":
        return None
    unfinished = unfinished_runs(store, tracking.FINGERPRINT, job.parts.fingerprint)
    check_run(job, unfinished)
    for stored in unfinished:
        if not can_go_on(stored, params):
            continue
        folder = RunFolder.lock(store.uri, stored.run_id)
        if folder is None:
            raise UnderWayError(f"{job.name}: another process is training it now.")
        try:
            return InterruptedRun(stored, folder, last_epoch(stored, folder.checkpoint))
        except FileNotFoundError:
            folder.release()
            log.info(f"{job.name}: what run {stored.run_id[:8]} needs to go on is not on this machine.")
        except DamagedError as error:
            folder.release(forget=True)
            log.warning(f"{error} {job.name} is trained from the start, as a new run.")
        _take_out_of_multirun(job, store, stored)
    return None


def _take_out_of_multirun(job: Job, store: Store, stored: StoredRun) -> None:
    """Takes a run that cannot be resumed out of the job's multirun, in which a new one takes its place."""
    if job.multirun is not None:
        member = tracking.member_tag(job.multirun.parent_run_id)
        if member in stored.tags:
            store.recorder(stored).tag({member: None})
