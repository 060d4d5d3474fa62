"""The jobs of one thread, trained one alone or several of one architecture as a stack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from vae_lab import interruption, stacks, training
from vae_lab.jobs import progress
from vae_lab.jobs.job import Job, Result
from vae_lab.jobs.run import Run
from vae_lab.tracking import Store
from vae_lab.training import DivergedError, Epoch

Trained = Epoch | DivergedError  # what an epoch of one run came to


def train_jobs(jobs: Sequence[Job]) -> list[Result]:
    """Trains jobs as one stack, or one job alone, in this thread; one that fails leaves the others running.

    Args:
        jobs: One, or several of equal `Parts.stack_key`.

    Returns:
        One result a job, in their order.

    Raises:
        KeyboardInterrupt: What was under way is recorded as KILLED.
    """
    thread = ThreadRuns({}, {})
    try:
        for place, job in enumerate(jobs):
            with thread.ending_on_error(place):
                run = thread.runs[place] = Run(job)
                run.start_or_resume(_store(job), progress.current_display(), together=len(jobs))
        while least_advanced := _least_advanced(thread.runs):
            places = list(least_advanced)
            with thread.ending_on_error(places[0], DivergedError):  # a run alone raises it
                for trained in epochs_of(least_advanced, thread.runs):
                    by_index = {0: trained} if isinstance(trained, Epoch) else trained
                    for index, epoch in by_index.items():
                        with thread.ending_on_error(places[index]):
                            thread.runs[places[index]].record_epoch(epoch)
                    interruption.check()
                    if not thread.runs.keys() & least_advanced.keys():
                        break
        for place in list(thread.runs):
            with thread.ending_on_error(place):
                thread.results[place] = thread.runs[place].close()
                del thread.runs[place]
    except BaseException as error:  # an interruption, or a fault of the loop itself
        for run in thread.runs.values():
            run.fail(error)
        if not isinstance(error, Exception):
            raise
        thread.results.update(dict.fromkeys(thread.runs, error))
    return [thread.results[place] for place in range(len(jobs))]


class ThreadRuns(NamedTuple):
    """The runs of one thread by their job's place, and what became of those that have ended."""

    runs: dict[int, Run]
    results: dict[int, Result]

    @contextmanager
    def ending_on_error(self, place: int, kind: type[Exception] = Exception) -> Iterator[None]:
        """Ends the run at a place, and no other, if the block raises an error of that kind."""
        try:
            yield
        except kind as error:
            self.results[place] = error
            if place in self.runs:
                self.runs.pop(place).fail(error)


def _store(job: Job) -> Store:
    """Opens the job's store; a job of a multirun waits for a server that went away."""
    tracking = job.settings.tracking
    return Store.open(tracking.uri, create=True, wait=tracking.wait if job.multirun else 0.0)


def _least_advanced(runs: Mapping[int, Run]) -> dict[int, Run]:
    """Returns the unfinished runs that have the fewest epochs behind them; none once all are finished.

    A stack that was interrupted while its runs were saved has some that are an epoch behind: these are
    trained first, up to the others.
    """
    unfinished = {place: run for place, run in runs.items() if run.done < run.settings.train.epochs}
    fewest = min((run.done for run in unfinished.values()), default=0)
    return {place: run for place, run in unfinished.items() if run.done == fewest}


def epochs_of(
    least_advanced: Mapping[int, Run], runs: Mapping[int, Run]
) -> Iterator[Epoch | dict[int, Trained]]:
    """Returns the loop over the epochs of runs that have equally many behind them, until they have caught up.

    It yields the epoch of one run, or those of a stack by their places in it, and asks `runs` after each
    epoch which of the stack are still wanted.
    """
    places = list(least_advanced)
    first = least_advanced[places[0]]
    further = [run.done for run in runs.values() if run.done > first.done]
    options: dict[str, Any] = {
        "epochs": min(further, default=first.settings.train.epochs),
        "precision": first.precision,
        "compiled": first.settings.train.compile,
        "done": first.done,
    }
    if len(least_advanced) == 1:
        options |= {"seed": first.settings.seed, "scheduler": first.scheduler}
        return training.train(first.model, first.parts.objective, first.optimizer, first.batches, **options)
    members = [
        stacks.Member(run.model, run.parts.objective, run.optimizer, run.scheduler, run.settings.seed)
        for run in least_advanced.values()
    ]
    return stacks.train_together(members, first.batches, going=lambda index: places[index] in runs, **options)
