"""Reads from a store how long each run of a finished multirun trained."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from benchmarks.work import CLASSES, Architecture, TrainedRun


class Span(NamedTuple):
    """The time of a run, in milliseconds, and the number of runs in its stack."""

    start: int
    end: int
    stack: int = 1


def at_a_time(spans: list[Span]) -> int:
    """Returns the most runs, or stacks of runs, that were trained at once."""
    changes = [(span.start, Fraction(1, span.stack)) for span in spans]
    changes += [(span.end, -Fraction(1, span.stack)) for span in spans]
    return math.ceil(max(itertools.accumulate(change for _, change in sorted(changes))))


def read(folder: Path) -> tuple[list[TrainedRun], int]:
    """Returns the runs of the store in `folder`, and how many runs or stacks were trained at a time."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    trained_runs, spans = [], []
    for run in client.search_runs(ids, max_results=1000):
        if run.data.tags.get("vae_lab.kind") == "sweep":
            continue
        values = run.data.params
        architecture = Architecture(
            layers=int(values["model.layers"]),
            hidden=int(values["model.hidden_size"]),
            latent=int(values["model.latent_size"]),
            classes=CLASSES if values["model.conditional"].lower() == "true" else 0,
        )
        seconds = run.data.metrics["train/total_seconds"]
        trained_runs.append(TrainedRun(architecture, int(values["train.epochs"]), seconds))
        stack = int(run.data.tags.get("vae_lab.stack", 1))
        spans.append(Span(run.info.start_time, run.info.end_time, stack))
    return trained_runs, at_a_time(spans)
