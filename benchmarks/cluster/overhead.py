"""Proof 3: what Ray costs many short runs: two of its workers against two threads, in turns."""

from __future__ import annotations

import statistics
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks import processes
from benchmarks.cluster.command import LAB, WORKERS, environment
from benchmarks.cluster.results import WrongError, check_same, finished

STUDY = [*LAB, "train", "-m", "data=digits", "model.hidden_size=16", "train.device=cpu", "train.epochs=1"]
MOST_RATIO, MOST_START = 1.15, 20.0  # times the threads' seconds; seconds until the first run begins


class Took(NamedTuple):
    """Seconds of one command."""

    start: float  # until its first run began
    work: float  # from there to the end of its last run


def prove(folder: Path, runs: int, rounds: int) -> str:
    """Returns what was seen, as one line.

    Raises:
        WrongError: Ray costs more than it may, or comes to other results.
    """
    took: dict[str, list[Took]] = {"workers": [], "ray": []}
    for number in range(rounds):
        for launcher in took:
            place = folder / f"{launcher}{number}"
            place.mkdir()
            took[launcher].append(_took(place, launcher, runs))
        check_same(folder / f"ray{number}", folder / f"workers{number}")
    ratio = statistics.median(
        ray.work / threads.work for ray, threads in zip(took["ray"], took["workers"], strict=True)
    )
    starts = {launcher: statistics.median(one.start for one in took[launcher]) for launcher in took}
    works = {launcher: statistics.median(one.work for one in took[launcher]) for launcher in took}
    seen = (
        f"{runs} runs of one epoch, {rounds} turns: Ray {works['ray']:.1f} s, threads {works['workers']:.1f} "
        f"s, ratio {ratio:.2f}; first run after {starts['ray']:.1f} s, threads {starts['workers']:.1f} s"
    )
    if ratio > MOST_RATIO or starts["ray"] > MOST_START:
        raise WrongError(f"{seen}; at most {MOST_RATIO} and {MOST_START:g} s")
    return seen


def _took(folder: Path, launcher: str, runs: int) -> Took:
    seeds = f"seed=range({runs})"
    began = time.time()
    done = subprocess.run(
        [*STUDY, seeds, *WORKERS, f"hydra/launcher={launcher}"],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise processes.FailedError(f"exit code {done.returncode}: {done.stderr[-2000:]}")
    all_runs = finished(folder)
    first = min(run.began for run in all_runs)
    return Took(first - began, max(run.ended for run in all_runs) - first)
