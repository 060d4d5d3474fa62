"""Configurations to be trained in one thread: one alone, or several of one architecture as a stack."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from vae_lab import config, interruption, stacks, training
from vae_lab.models import parameter_count
from vae_lab.runs import progress
from vae_lab.runs.parts import build_class, prepare
from vae_lab.runs.run import Run
from vae_lab.tracking import Store
from vae_lab.training import DivergedError, Epoch

Outcome = str | Exception  # the id of the finished MLflow run, or why there is none


class Job(NamedTuple):
    """One configuration to be trained, and the overrides that it came from."""

    settings: DictConfig
    overrides: tuple[str, ...] = ()


def run(composed: DictConfig, overrides: tuple[str, ...] = ()) -> str:
    """Trains and records one configuration; gives the id of its MLflow run.

    Raises:
        UserError: the config is not valid here; nothing has been written.
        LabError: the run failed; its record says so.
    """
    settings = config.checked(composed)
    threads = torch.get_num_threads()
    if settings.train.threads is not None:
        torch.set_num_threads(settings.train.threads)
    try:
        with progress.current(settings.train.epochs), interruption.listening(progress.stopping):
            (outcome,) = run_together([Job(settings, overrides)])
    finally:
        torch.set_num_threads(threads)  # a run that went on may have taken those that it had before
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def run_together(jobs: Sequence[Job]) -> list[Outcome]:
    """Trains the jobs as one stack, or one job alone, in this thread; one outcome a job, in their order.

    A job that fails leaves the others running.

    Args:
        jobs: one, or several of equal `Outline.stack_key`.

    Raises:
        KeyboardInterrupt: what was under way is recorded as KILLED.
    """
    outcomes: dict[int, Outcome] = {}
    under_way: dict[int, Run] = {}

    def failed(place: int, error: Exception) -> None:
        outcomes[place] = error
        if place in under_way:
            under_way.pop(place).fail(error)

    try:
        for place, job in enumerate(jobs):
            try:
                under_way[place] = Run(job.settings, job.overrides)
                settings = under_way[place].settings
                wait = settings.tracking.wait if settings.tracking.parent_run_id else 0.0
                store = Store.open(settings.tracking.uri, create=True, wait=wait)
                under_way[place].open(store, progress.now(), together=len(jobs))
            except Exception as error:
                failed(place, error)
        for results in _epochs(under_way):
            for place, result in results.items():
                try:
                    if isinstance(result, DivergedError):
                        raise result
                    under_way[place].after(result)
                except Exception as error:
                    failed(place, error)
            interruption.check()
        for place in list(under_way):
            try:
                outcomes[place] = under_way[place].close()
                del under_way[place]
            except Exception as error:
                failed(place, error)
    except BaseException as error:  # an interruption, or a fault of the loop itself
        for each in under_way.values():
            each.fail(error)
        if not isinstance(error, Exception):
            raise
        outcomes.update(dict.fromkeys(under_way, error))
    return [outcomes[place] for place in range(len(jobs))]


def _epochs(under_way: dict[int, Run]) -> Iterator[dict[int, Epoch | DivergedError]]:
    """Epoch after epoch of each run by its place; runs that are no longer `under_way` are left out.

    A stack that was interrupted while its runs were kept has some that are an epoch behind: these are
    trained first, up to the others.
    """
    while behind := {place: run for place, run in under_way.items() if run.done < run.settings.train.epochs}:
        least = min(run.done for run in behind.values())
        first = {place: run for place, run in behind.items() if run.done == least}
        further = [run.done for run in behind.values() if run.done > least]
        yield from _together(first, under_way, until=min(further, default=None))


def _together(
    runs: dict[int, Run], under_way: dict[int, Run], until: int | None
) -> Iterator[dict[int, Epoch | DivergedError]]:
    """The epochs of runs that have equally many behind them, `until` so many are finished or all are."""
    places = list(runs)
    first = runs[places[0]]
    budget = first.settings.train
    epochs = budget.epochs if until is None else until
    if len(runs) == 1:
        try:
            for epoch in training.train(
                first.model,
                first.parts.objective,
                first.optimizer,
                first.batches,
                epochs=epochs,
                seed=first.settings.seed,
                scheduler=first.scheduler,
                precision=first.precision,
                compiled=budget.compile,
                done=first.done,
            ):
                yield {places[0]: epoch}
                if not under_way:
                    return
        except DivergedError as error:
            yield {places[0]: error}
        return
    members = [
        stacks.Member(run.model, run.parts.objective, run.optimizer, run.scheduler, run.settings.seed)
        for run in runs.values()
    ]
    for results in stacks.train_together(
        members,
        first.batches,
        epochs=epochs,
        precision=first.precision,
        compiled=budget.compile,
        done=first.done,
        going=lambda index: places[index] in under_way,
    ):
        yield {places[index]: result for index, result in results.items()}


class Outline(NamedTuple):
    """What is known of a job before it is trained."""

    weights: int  # trained weights of the model
    images: int  # shown in all epochs
    stack_key: str | None  # equal for runs that can be trained as a stack; None for one that must go alone


def outline(settings: DictConfig) -> Outline:
    """Size and kind of a checked config's run.

    Runs of a stack may differ in their seeds, optimizers, schedules and the weights of the loss.

    Raises:
        UserError: the config is not valid here.
    """
    parts = prepare(settings)
    with torch.device("meta"):
        model = build_class(settings.model._target_, nn.Module, "model._target_")(**parts.model_arguments)
    chosen = settings.objective
    common: list[Any] = [
        settings.model._target_,
        parts.model_arguments,
        OmegaConf.to_container(settings.data),
        OmegaConf.to_container(settings.train),
        [chosen.likelihood, chosen.std, chosen.penalty],
    ]
    key = json.dumps(common, sort_keys=True, default=str) if stacks.stackable(model) else None
    return Outline(parameter_count(model), len(parts.data.train) * settings.train.epochs, key)
