"""What a finished multirun says of its training, read from the store that it left."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from benchmarks.work import CLASSES, Architecture, TrainedRun


class Span(NamedTuple):
    """When a run was under way, in milliseconds, and with how many it was trained as one stack."""

    start: int
    end: int
    stack: int = 1


def at_a_time(spans: list[Span]) -> int:
    """The most runs, or stacks of runs, that were under way at once."""
    changes = [(span.start, Fraction(1, span.stack)) for span in spans]
    changes += [(span.end, -Fraction(1, span.stack)) for span in spans]
    return math.ceil(max(itertools.accumulate(change for _, change in sorted(changes))))


def read(folder: Path) -> tuple[list[TrainedRun], int]:
    """The runs of the store in `folder`, and how many runs or stacks were trained at a time."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    ids = [each.experiment_id for each in client.search_experiments()]
    found, spans = [], []
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
        found.append(TrainedRun(architecture, int(values["train.epochs"]), seconds))
        stack = int(run.data.tags.get("vae_lab.stack", 1))
        spans.append(Span(run.info.start_time, run.info.end_time, stack))
    return found, at_a_time(spans)
