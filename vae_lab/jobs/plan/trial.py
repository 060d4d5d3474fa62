"""What training costs here: a few steps of each kind of run, in a store of their own that is thrown away."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from vae_lab.data import Batches
from vae_lab.evaluation import classifier
from vae_lab.jobs import progress
from vae_lab.jobs.crews.workers import CoreShares
from vae_lab.jobs.job import Job
from vae_lab.jobs.runs.artifacts import final_measures
from vae_lab.jobs.runs.learner import Learner
from vae_lab.jobs.runs.reports import Assignment, Report
from vae_lab.jobs.runs.run import Run
from vae_lab.jobs.runs.together import epochs_of
from vae_lab.metrics import EVALUATION_COUNTS, SAMPLES
from vae_lab.tracking import Store
from vae_lab.tracking.address import store_address
from vae_lab.tracking.folders import run_folder, state_folders
from vae_lab.tracking.processes import CHECKPOINT_FILE
from vae_lab.training import Epoch

STEPS = 25  # of a short epoch
LEAST_EPOCHS, MOST_EPOCHS = 2, 6  # short ones after the first, which warms up
ENOUGH = 1.0  # seconds of training that are measured
PART = 10  # of an evaluation's draws one in so many is made, and then two


class Cost(NamedTuple):
    """What training a pack takes, a run or a stack of runs."""

    start: float  # seconds until the first epoch
    epoch: float  # seconds of one, with its evaluation and its record
    end: float  # seconds of the final measures, figures and the model
    kept: float  # bytes a run in the store
    checkpoint: float  # bytes a run while it is under way

    def seconds(self, epochs: int) -> float:
        """Returns the seconds of so many epochs.

        Examples:
            >>> Cost(1.0, 2.0, 3.0, 0, 0).seconds(10)
            24.0
        """
        return self.start + self.epoch * epochs + self.end


def measured(packs: Sequence[Sequence[Job]], shares: CoreShares) -> list[Cost]:
    """Returns what each pack costs, measured with as many beside each other as when they are trained.

    The judging of samples is left out, see `seconds_of_judging`.

    Args:
        packs: Jobs that are trained as one stack, or one alone.
        shares: How many packs are trained at once, and with how many threads.
    """
    with _scratch_store() as store, progress.silent():
        beside = [*packs, *(packs[0] for _ in range(shares.workers - len(packs)))]  # else one has no company

        def measure(pack: Sequence[Job]) -> Cost:
            torch.set_num_threads(shares.threads)
            return _cost(store, pack)

        with ThreadPoolExecutor(shares.workers) as pool:
            return list(pool.map(measure, beside))[: len(packs)]


def seconds_of_judging(packs: Sequence[Sequence[Job]], threads: int) -> list[float]:
    """Returns the seconds in which the samples of each pack are judged, which hardly depend on the model.

    Args:
        packs: Jobs that are trained as one stack, or one alone.
        threads: Of each.
    """
    torch.set_num_threads(threads)
    known: dict[tuple[str, int, int], float] = {}
    with progress.silent():
        for job in itertools.chain.from_iterable(packs):
            if (key := _judging(job)) not in known:
                known[key] = _seconds_of_samples(job)
    return [sum(known[_judging(job)] for job in pack) for pack in packs]


def _judging(job: Job) -> tuple[str, int, int]:
    """Returns what the time depends on in which a job's samples are judged."""
    chosen = job.settings.evaluation
    return job.parts.data.checksum, chosen[SAMPLES], chosen.judges


@contextmanager
def _scratch_store() -> Iterator[Store]:
    """Yields an empty store; nothing is left of it and of what its runs keep on this machine."""
    with tempfile.TemporaryDirectory() as folder:
        uri = f"sqlite:///{Path(folder) / 'mlflow.db'}"
        try:
            yield Store.open(uri, create=True)
        finally:
            for state in state_folders(store_address(uri)):
                shutil.rmtree(state, ignore_errors=True)


def _cost(store: Store, pack: Sequence[Job]) -> Cost:
    """Takes a pack through a few short epochs and returns what they cost."""
    jobs = [_short(job) for job in pack]
    runs = [Run(job) for job in jobs]
    learners: dict[int, Learner] = {}

    def begin() -> None:
        display = progress.Display(len(jobs), 0)
        for place, run in enumerate(runs):
            run.start_or_resume(store, display, together=len(jobs))
            learners[place] = learner = Learner(place, run.assignment())
            learner.batches = _few(learner.batches)
            _take(run, learner.begun())
            _take(run, learner.reached())

    start = _seconds(begin)
    trained, recorded = _short_epochs(runs, learners)
    if jobs[0].settings.train.compile:  # the first step waits for the compiler
        start += trained[0]
    share = len(jobs[0].parts.data.train) / len(learners[0].batches.images)
    epoch = _mean(trained[1:]) * share + _mean(recorded[1:])
    files = [run_folder(store.uri, run.recorder.run_id) / CHECKPOINT_FILE for run in runs]
    checkpoint = sum(file.stat().st_size for file in files) / len(runs)
    end = sum(_seconds_of_draws(learners[place], job) for place, job in enumerate(pack))
    end += sum(_seconds(partial(_finish, run, learners[place])) for place, run in enumerate(runs))
    kept = [Path(store.place(run.recorder.run_id, "")) for run in runs]
    return Cost(start, epoch, end, sum(map(_bytes_below, kept)) / len(runs), checkpoint)


def _short(job: Job) -> Job:
    """Returns the job with few epochs, no final measures, and nothing that is taken in its place."""
    settings = job.settings.copy()
    settings.train.epochs = 1 + MOST_EPOCHS
    settings.reuse = "never"
    for key in EVALUATION_COUNTS:
        settings.evaluation[key] = 0
    short = replace(job, settings=settings, multirun=None)
    short.__dict__["parts"] = job.parts
    return short


def _few(batches: Batches) -> Batches:
    """Returns the first batches."""
    images = batches.images.first(STEPS * batches.batch_size)
    return Batches(
        images, batch_size=batches.batch_size, C=batches.C, seed=batches.seed, dynamic=batches.dynamic
    )


def _finish(run: Run, learner: Learner) -> None:
    _take(run, learner.finish())


def _take(run: Run, report: Report) -> None:
    """Records a report.

    Raises:
        Exception: The run failed.
    """
    run.take(report)
    if isinstance(run.result, Exception):
        raise run.result


def _short_epochs(runs: Sequence[Run], learners: dict[int, Learner]) -> tuple[list[float], list[float]]:
    """Trains short epochs; returns the seconds of the steps of each, and of measuring and recording it."""
    trained: list[float] = []
    recorded: list[float] = []
    steps = -(-len(learners[0].parts.data.train) // learners[0].batches.batch_size)
    for yielded in epochs_of(learners, learners, learners):
        epochs = {0: yielded} if isinstance(yielded, Epoch) else yielded
        began = time.perf_counter()
        seconds = 0.0
        for place, epoch in epochs.items():
            if isinstance(epoch, Epoch):
                seconds += epoch.seconds
                losses = epoch.step_losses * -(-steps // len(epoch.step_losses))
                epoch = epoch._replace(step_losses=losses[:steps])  # as many as are recorded of a whole one
            _take(runs[place], learners[place].advance(epoch))
        trained.append(seconds)
        recorded.append(time.perf_counter() - began)
        if len(trained) > LEAST_EPOCHS and sum(trained[1:]) >= ENOUGH:
            break
    return trained, recorded


def _seconds_of_draws(learner: Learner, job: Job) -> float:
    """Returns the seconds of the final measures but samples, by a part of their draws."""
    total = 0.0
    for key in set(EVALUATION_COUNTS) - {SAMPLES}:
        count = job.settings.evaluation[key]
        part = -(-count // PART)
        if 2 * part >= count:
            total += _seconds_of_measures(learner, key, count)
        else:
            once, twice = (_seconds_of_measures(learner, key, some) for some in (part, 2 * part))
            total += once + (twice - once) * (count - part) / part
    return total


def _seconds_of_samples(job: Job) -> float:
    """Returns the seconds in which the samples of a run are judged."""
    if not judges_are_there(job):
        return 0.0
    count = job.settings.evaluation[SAMPLES]
    learner = Learner(0, Assignment(job, None, job.settings.train.epochs))
    _seconds_of_measures(learner, SAMPLES, count)  # judges the data set's own images, too, which is done once
    return _seconds_of_measures(learner, SAMPLES, count)


def _seconds_of_measures(learner: Learner, key: str, count: int) -> float:
    if not count:
        return 0.0
    settings = _short(learner.job).settings
    settings.evaluation[key] = count
    settings.evaluation.metrics = []  # they are timed once, where the run ends
    parts = learner.parts
    return _seconds(lambda: final_measures(settings, parts.data, parts.objective, learner.model))


def judges_are_there(job: Job) -> bool:
    """Returns whether the classifiers that judge samples of a job's data are there, if there can be any."""
    data = job.parts.data
    numbers = range(job.settings.evaluation.judges)
    return bool(classifier.obstacle(data)) or all(classifier.file_of(data, i).exists() for i in numbers)


def _seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _bytes_below(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
