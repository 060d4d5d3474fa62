"""A store or the state of its runs is restored from an earlier moment, and a run goes on."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import SMALL
from vae_lab import files
from vae_lab.jobs.runs.reports import Reached
from vae_lab.jobs.runs.run import Run
from vae_lab.tracking import Store

Lab = Callable[..., tuple[int, str, str]]
LINE = (*SMALL, "train.epochs=8", "evaluation.columns=4")


@pytest.fixture
def trained_until(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Gives the command, and interrupts it when its run has finished that epoch."""

    def train(epoch: int) -> None:
        real = Run.reach

        def reach(self: Run, reached: Reached) -> None:
            real(self, reached)
            if reached.checkpoint.epoch == epoch:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Run, "reach", reach)
            assert lab(*LINE)[0] == 130

    return train


def copied(source: Path, target: Path) -> None:
    """Copies a database by SQLite's own means."""
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
        one.backup(other)


def steps(store: Store, metric: str) -> list[int]:
    """The steps of a metric of the store's only run, which has finished."""
    [run] = store.records()
    assert run.status == "FINISHED"
    return sorted(point.step for point in store.client.get_metric_history(run.run_id, metric))


def test_a_database_that_was_set_back_gets_the_epochs_that_it_lost(
    folder: Path,
    database: Path,
    lab: Lab,
    trained_until: Callable[[int], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    shutil.copy(database, "mlflow.db")
    trained_until(2)
    copied(folder / "mlflow.db", folder / "backup.db")
    trained_until(5)
    copied(folder / "backup.db", folder / "mlflow.db")
    assert lab(*LINE)[0] == 0
    assert "the store had lost 2 epochs between 3 and 4" in caplog.text
    store = Store.open()
    for metric in ("test/loss", "train/loss", "test/kl", "train/seconds"):
        assert steps(store, metric) == list(range(1, 9))
    curve = steps(store, "train/step_loss")
    assert curve == list(range(1, len(curve) + 1))


def test_a_state_that_was_set_back_doubles_no_epoch(
    folder: Path, database: Path, lab: Lab, trained_until: Callable[[int], None]
) -> None:
    shutil.copy(database, "mlflow.db")
    trained_until(4)
    state = files.state_folder("runs")
    shutil.copytree(state, folder / "backup")
    trained_until(7)
    shutil.rmtree(state)
    (folder / "backup").rename(state)
    assert lab(*LINE)[0] == 0
    store = Store.open()
    for metric in ("test/loss", "train/seconds"):
        assert steps(store, metric) == list(range(1, 9))
    curve = steps(store, "train/step_loss")
    assert curve == list(range(1, len(curve) + 1))
    [run] = store.records()
    images = store.client.list_artifacts(run.run_id, "images")
    assert len(images) == 2 * 2 * 9  # samples and reconstructions, large and small, of every epoch
