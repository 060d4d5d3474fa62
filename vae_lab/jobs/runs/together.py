"""What one worker trains: one run alone, or several of one architecture as a stack, epoch by epoch."""

from __future__ import annotations

import logging
from collections.abc import Container, Iterator, Mapping
from typing import Any

import torch

from vae_lab import stacks, training
from vae_lab.jobs.runs.learner import Learner
from vae_lab.jobs.runs.reports import Assignment, Failed, Report, trace_of
from vae_lab.training import DivergedError, Epoch

log = logging.getLogger(__name__)

Trained = Epoch | DivergedError  # what an epoch of one run came to


def train_pack(assignments: Mapping[int, Assignment], wanted: Container[int]) -> Iterator[list[Report]]:
    """Trains one run, or several as a stack of each number format; one that fails leaves the others running.

    Args:
        assignments: One, or several of equal `Parts.stack_key` and `until`, by their places.
        wanted: The places whose runs are still wanted; it may shrink meanwhile.

    Yields:
        Of every run, that it began and its first state; then after each epoch the states of all; then of each
        what it leaves, if its last epoch was asked for. Checkpoints share their tensors with the training,
        and hold until the next reports are asked for.

    Raises:
        Interrupted: A second request to stop came in the middle of an epoch.
    """
    _go_on_with_threads(assignments)
    learners: dict[int, Learner] = {}
    for place, assignment in assignments.items():
        yield _begun(learners, place, assignment)
    while least_advanced := _least_advanced(learners, wanted):
        places = list(least_advanced)
        try:
            for trained in epochs_of(least_advanced, learners, wanted):
                by_index = {0: trained} if isinstance(trained, Epoch) else trained
                here = {places[index]: epoch for index, epoch in by_index.items()}
                yield [_advanced(learners, place, here[place]) for place in here if place in wanted]
                if not any(place in learners and place in wanted for place in places):
                    break
        except Exception as error:  # one run diverged, or a step of the stack failed
            yield [_failed(place, error) for place in places if learners.pop(place, None) is not None]
    for place, learner in learners.items():
        if place in wanted and learner.until == learner.settings.train.epochs:
            yield [_finished(learner)]


def threads_before(assignments: Mapping[int, Assignment]) -> int | None:
    """Returns the CPU threads with which runs go on, as they had before; None if nothing says how many.

    Another number rounds sums in another way. Of a stack whose runs had several numbers, none is that of all.
    """
    threads = {
        assignment.checkpoint.threads
        for assignment in assignments.values()
        if assignment.checkpoint is not None and assignment.job.parts.device.type == "cpu"
    }
    return threads.pop() if len(threads) == 1 else None


def _go_on_with_threads(assignments: Mapping[int, Assignment]) -> None:
    threads = threads_before(assignments)
    if threads is None or threads == torch.get_num_threads():
        return
    torch.set_num_threads(threads)
    names = [assignment.job.name for assignment in assignments.values() if assignment.checkpoint is not None]
    number = f"{threads} thread{'s' if threads > 1 else ''}"
    log.info("%s: goes on with %s, as before.", ", ".join(names), number)


def _begun(learners: dict[int, Learner], place: int, assignment: Assignment) -> list[Report]:
    try:
        learners[place] = learner = Learner(place, assignment)
        return [learner.begun(), learner.reached()]
    except Exception as error:
        learners.pop(place, None)
        return [_failed(place, error)]


def _advanced(learners: dict[int, Learner], place: int, epoch: Trained) -> Report:
    try:
        return learners[place].advance(epoch)
    except Exception as error:
        del learners[place]
        return _failed(place, error)


def _finished(learner: Learner) -> Report:
    try:
        return learner.finish()
    except Exception as error:
        return _failed(learner.place, error)


def _failed(place: int, error: Exception) -> Failed:
    return Failed(place, error, trace_of(error))


def _least_advanced(learners: Mapping[int, Learner], wanted: Container[int]) -> dict[int, Learner]:
    """Returns unfinished runs of one number format with the fewest epochs; none once all are finished.

    A stack that was interrupted while its runs were saved has some that are an epoch behind: these are
    trained first, up to the others.
    """
    unfinished = {
        place: learner
        for place, learner in learners.items()
        if place in wanted and learner.done < learner.until
    }
    first = min(unfinished.values(), key=lambda learner: learner.done, default=None)
    return {
        place: learner
        for place, learner in unfinished.items()
        if first is not None and (learner.done, learner.precision) == (first.done, first.precision)
    }


def epochs_of(
    least_advanced: Mapping[int, Learner], learners: Mapping[int, Learner], wanted: Container[int]
) -> Iterator[Epoch | dict[int, Trained]]:
    """Returns the loop over the epochs of runs of equal format and epochs, until they have caught up.

    It yields the epoch of one run, or those of a stack by their places in it, and asks `learners` and
    `wanted` after each epoch which of the stack go on.
    """
    places = list(least_advanced)
    first = least_advanced[places[0]]
    further = [learner.done for learner in learners.values() if learner.done > first.done]
    options: dict[str, Any] = {
        "epochs": min([*further, first.until]),
        "precision": first.precision,
        "compiled": first.settings.train.compile,
        "done": first.done,
    }
    if len(least_advanced) == 1:
        options |= {"seed": first.settings.seed, "scheduler": first.scheduler}
        return training.train(first.model, first.parts.objective, first.optimizer, first.batches, **options)
    members = [
        stacks.Member(one.model, one.parts.objective, one.optimizer, one.scheduler, one.settings.seed)
        for one in least_advanced.values()
    ]

    def going(index: int) -> bool:
        return places[index] in learners and places[index] in wanted

    return stacks.train_together(members, first.batches, going=going, **options)
