"""A job to hand to workers, and what runs come to that nothing disturbs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import trained
from vae_lab.jobs.job import Job, job_of
from vae_lab.tracking import Store

LINE = ("-m", "data=digits", "model.hidden_size=16", "train.device=cpu", "train.epochs=4", "model=vae,cvae")
SHARE = ("hydra.launcher.workers=2", "evaluation.pictures=false")


def losses(folder: Path) -> dict[str, list[dict[int, float]]]:
    """The held-out losses of every finished run of a store, by fingerprint."""
    store = Store.open(f"sqlite:///{folder / 'mlflow.db'}")
    curves: dict[str, list[dict[int, float]]] = {}
    for run in store.tagged("vae_lab.kind", "run"):
        assert run.status == "FINISHED"
        history = store.client.get_metric_history(run.run_id, "test/loss")
        curve = {point.step: point.value for point in history}
        curves.setdefault(run.tags["vae_lab.fingerprint"], []).append(curve)
    return curves


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[int, float]]]:
    """What the runs come to in threads of one process."""
    return losses(trained(tmp_path_factory.mktemp("threads"), *LINE, *SHARE))


@pytest.fixture
def job(composed: Callable[..., Any], folder: Path) -> Job:
    address = f"sqlite:///{folder / 'mlflow.db'}"
    line = [*LINE[1:5], f"tracking.uri={address}", f"search.storage={address}", "optimizer.lr=3e-5"]
    return job_of(composed(*line), line, {})
