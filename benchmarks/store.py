"""What a finished multirun says of its training, read from the store that it left."""

from __future__ import annotations

from pathlib import Path

from benchmarks.work import CLASSES, Architecture, TrainedRun

WORKERS_TAG = "vae_lab.workers"  # of the parent run: how many runs were trained at a time


def read(folder: Path) -> tuple[list[TrainedRun], int]:
    """The runs of the store in `folder`, and how many were trained at a time."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    ids = [each.experiment_id for each in client.search_experiments()]
    found, workers = [], 1
    for run in client.search_runs(ids, max_results=1000):
        if run.data.tags.get("vae_lab.kind") == "sweep":
            workers = int(run.data.tags.get(WORKERS_TAG, 1))
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
    return found, workers
