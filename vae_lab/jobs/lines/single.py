"""Trains jobs one by one, or takes the finished run of the same result in place of one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from vae_lab import interruption
from vae_lab.errors import LabError
from vae_lab.jobs import progress
from vae_lab.jobs.crews.crew import CrewState, Queue, RunsTogether, serve
from vae_lab.jobs.crews.workers import Threads
from vae_lab.jobs.job import Job, Result
from vae_lab.jobs.runs.measuring import add_measures, wants_measures
from vae_lab.jobs.runs.present import recorded_params
from vae_lab.jobs.runs.run import Run
from vae_lab.studies.names import whose
from vae_lab.tracking import Store, StoredRun
from vae_lab.tracking.abandoned import finished_run


class UnmeasuredError(LabError):
    """A finished run that is taken lacks measures, and could not be measured."""


def run_once(job: Job) -> str:
    """Trains and records a job, or takes the finished run of the same result.

    Returns:
        The id of its MLflow run.

    Raises:
        UserError: The config is not valid here; nothing has been written.
        LabError: The run failed; its record says so.
    """
    if (run_id := _there_already(job)) is not None:
        return run_id
    settings = job.settings
    threads = torch.get_num_threads()
    if settings.train.threads is not None:
        torch.set_num_threads(settings.train.threads)
    try:
        with progress.join_display(settings.train.epochs), interruption.listening(progress.announce_stop):
            run = Run(job)
            serve(Threads(1, torch.get_num_threads()), Queue([RunsTogether([run])]), CrewState())
    finally:
        torch.set_num_threads(threads)  # a run that was resumed may have taken those that it had before
    if isinstance(result := run.ended(), Exception):
        raise result
    return result


def train_missing(jobs: Sequence[Job], train: Callable[[Sequence[Job]], Sequence[Result]]) -> list[Result]:
    """Trains those of some jobs without a multirun of which there is no finished run of the same result.

    Args:
        jobs: What is asked for.
        train: Trains jobs; returns one result for each, in their order.

    Returns:
        One result a job, in their order.

    Raises:
        UserError: A config is not valid here; nothing has been trained.
        LabError: The store cannot be had, or what `train` raises.
    """
    results = [_there_or_why_not(job) for job in jobs]
    missing = [place for place, result in enumerate(results) if result is None]
    trained = train([jobs[place] for place in missing]) if missing else []
    by_place = dict(zip(missing, trained, strict=True))
    return [by_place[place] if result is None else result for place, result in enumerate(results)]


def _there_or_why_not(job: Job) -> Result | None:
    """Returns what `_there_already` does; a run that could not be measured is the result of its job alone."""
    try:
        return _there_already(job)
    except UnmeasuredError as error:
        return error


def _there_already(job: Job) -> str | None:
    """Returns the id of a finished run of a job's result, with the measures that the job asks for.

    None if the job is to be trained; one of a multirun is, as the multirun has asked for all of its runs.

    Raises:
        UserError: The config is not valid here.
        UnmeasuredError: The run could not be measured.
    """
    settings = job.settings
    if settings.reuse == "never" or job.multirun is not None:
        return None
    fingerprint = job.parts.fingerprint
    store = Store.open(settings.tracking.uri, create=True)
    if (finished := finished_run(store, fingerprint)) is not None:
        return _reuse(store, finished, job)
    _say_if_changed(store, job)
    return None


def _reuse(store: Store, finished: StoredRun, job: Job) -> str:
    """Says that a run is there already, and adds the measures that the job asks for and it lacks."""
    progress.console.print(_finding(finished, whose(finished, store.uri)), soft_wrap=True)
    if wants_measures(job.settings):
        measured = add_measures(store, finished, finished.name, job.settings)
        if measured == "failed":
            raise UnmeasuredError(f"{finished.name}: is there, but could not be measured.")
    return finished.run_id


def _say_if_changed(store: Store, job: Job) -> None:
    """Says why a run is trained anew of whose settings there is one already."""
    params = recorded_params(job)
    for run in store.tagged("mlflow.runName", job.name):
        if run.status == "FINISHED" and run.params == params:
            there = f"{job.name} is there with other code or other data (run {run.run_id})"
            progress.console.print(f"{there}: it is trained anew.", soft_wrap=True)
            return


def _finding(finished: StoredRun, owner: str) -> str:
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(finished.started / 1000))
    loss = finished.metrics.get("test/loss")
    result = "" if loss is None else f", held-out loss {loss:.2f} nats per image"
    return (
        f"{finished.name}{owner} is there already: trained {when}{result}, run {finished.run_id}.\n"
        "reuse=never trains it again; vae-lab ui shows it."
    )
