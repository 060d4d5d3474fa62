"""Runs that another process has under way: they are not trained a second time without a word."""

from __future__ import annotations

import time
from collections.abc import Iterable

from vae_lab import interruption, tracking
from vae_lab.jobs import progress
from vae_lab.jobs.job import Job, UnderWayError
from vae_lab.tracking import Store, StoredRun
from vae_lab.tracking.abandoned import runs_under_way

WAIT_SECONDS = 1.0  # between two looks at such a run


def check_run(job: Job, unfinished: Iterable[StoredRun]) -> None:
    """Looks for other processes at work on runs of the same result as a job.

    Args:
        job: What is about to be trained.
        unfinished: Runs of the same result.

    Raises:
        UnderWayError: One is at work on one of them, and not for the multirun of the job.
    """
    member = tracking.member_tag(job.multirun.parent_run_id) if job.multirun else None
    for run in unfinished:
        if run.status == "RUNNING" and member not in run.tags:
            raise UnderWayError(
                f"{job.name}: {tracking.at_work(run)} (run {run.run_id}). Give the command again when it has "
                "ended; reuse=never trains the same a second time."
            )


def check_multirun(parent: StoredRun) -> None:
    """Says which process may be at work on the multirun of an equal command.

    Raises:
        UnderWayError: It is one of this machine. One of another may have ended, and is worked beside.
    """
    name = parent.tags.get(tracking.STUDY, parent.name)
    text = f"{name}: {tracking.at_work(parent)} (run {parent.run_id})."
    if tracking.is_of_this_machine(parent):
        raise UnderWayError(f"{text} How far it is: vae-lab status {parent.run_id}")
    progress.console.print(f"{text} What it is training now is not trained here, too.", soft_wrap=True)


def wait_for(store: Store, jobs: Iterable[Job]) -> None:
    """Waits until no other process is at work on a run of the same result as one of the jobs."""
    said: set[str] = set()
    for job in jobs:
        while runs := runs_under_way(store, tracking.FINGERPRINT, job.parts.fingerprint):
            if (run_id := runs[0].run_id) not in said:
                said.add(run_id)
                text = f"{job.name}: {tracking.at_work(runs[0])} (run {run_id}). Waiting for it."
                progress.console.print(text, soft_wrap=True)
            interruption.check()
            time.sleep(WAIT_SECONDS)
