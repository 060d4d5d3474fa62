"""What a finished multirun says of its training, read from the store that it left."""

from __future__ import annotations

import itertools
from pathlib import Path

from benchmarks.work import CLASSES, Architecture, TrainedRun


def at_a_time(spans: list[tuple[int, int]]) -> int:
    """The most runs that were under way at once, from the start and end of each."""
    changes = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    return max(itertools.accumulate(change for _, change in changes))


def read(folder: Path) -> tuple[list[TrainedRun], int]:
    """The runs of the store in `folder`, and how many were trained at a time."""
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
        spans.append((run.info.start_time, run.info.end_time))
    return found, at_a_time(spans)
