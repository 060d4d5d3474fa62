"""A few faults of each kind; `make faults` does them by the hundred."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.faults import clocks, damage, disks, kept, kills, stops
from tests.faults.bench import PAIR, VAE, Bench, Tally
from tests.faults.children import Zygote
from tests.faults.injected import AFTER
from tests.faults.kills import PARENTS, WINDOWS, Window


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, database: Path) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("faults")
    with Zygote(folder) as zygote:
        yield Bench(zygote, folder, seed=1, say=print, fresh=database)


@pytest.fixture
def bench(shared: Bench) -> Iterator[Bench]:
    """Where faults are done; a test that uses it fails if anything is lost."""
    shared.tally = Tally()
    yield shared
    assert shared.tally.lost == []
    assert sum(row.tried for row in shared.tally.rows.values()) > 0


def test_a_run_killed_at_random_moments_ends_as_if_nothing_had_been(bench: Bench) -> None:
    kills.at_random(bench, VAE, 4)


def test_a_run_killed_at_the_narrowest_moments_ends_as_if_nothing_had_been(bench: Bench) -> None:
    order = (
        "while a record begins",
        "while a checkpoint is written",
        "between a checkpoint and its record",
        "inside a call of MLflow",
        "among the final artifacts",
    )
    kills.in_a_row(bench, VAE, [bench.random.choice(WINDOWS[name]) for name in order])


def test_a_multirun_killed_while_it_trains_and_at_its_tables_ends_as_if_nothing_had_been(
    bench: Bench,
) -> None:
    trains = Window("os.replace", AFTER, "epoch.pt")
    kills.in_a_row(bench, PAIR, [trains, bench.random.choice(PARENTS["at the parent's tables"])])


def test_an_interrupted_run_goes_on(bench: Bench) -> None:
    stops.interrupted(bench, 1, commands=[VAE], ways=["SIGTERM twice", "SIGHUP"])


def test_a_run_that_stands_still_is_not_taken_for_dead(bench: Bench) -> None:
    stops.stopped(bench, 1, commands=[VAE])


def test_files_that_cannot_grow_stop_a_run_with_one_message_and_it_goes_on_later(bench: Bench) -> None:
    disks.no_growth(bench, 1)


def test_a_clock_that_is_set_back_changes_nothing(bench: Bench) -> None:
    clocks.back_between(bench, 1)


def test_a_damaged_checkpoint_is_named_and_not_used(bench: Bench) -> None:
    damage.checkpoints(bench, 1, commands=[VAE], ways=["a bit flipped"])


def test_what_is_lost_doubled_or_altered_is_noticed(shared: Bench) -> None:
    home = shared.home()
    assert home.start(*damage.SHORT).code() == 0
    expected = kept.read(home.database)
    assert kept.differences(expected, expected) == []
    (run,) = expected
    weights = {name: torch.nextafter(value, value + 1) for name, value in run.weights.items()}
    altered = {
        "FAILED": replace(run, status="FAILED"),
        "params": replace(run, params=run.params | {"seed": "1"}),
        "tags": replace(run, tags=run.tags | {"vae_lab.error": "killed"}),
        "weights": replace(run, weights=weights),
    }
    for word, other in altered.items():
        assert word in " ".join(kept.differences(expected, [other]))
    assert "there 0 times" in kept.differences(expected, [])[0]
    assert "there 2 times" in kept.differences(expected, [run, run])[0]

    def after(change: str) -> str:
        changed = home.folder / "changed.db"
        shutil.copy(home.database, changed)
        with closing(sqlite3.connect(changed)) as store, store:
            store.execute(change)
        return " ".join(kept.differences(expected, kept.read(changed)))

    assert after("DELETE FROM metrics WHERE key = 'train/step_loss' AND step = 7") == (
        f"{run.name}: train/step_loss has other steps: [7]"
    )
    twice = "INSERT INTO metrics SELECT key, value, timestamp + 1, run_uuid, step, is_nan FROM metrics"
    assert "has steps twice" in after(f"{twice} WHERE key = 'test/loss'")
    assert "test/kl has other values" in after(
        "UPDATE metrics SET value = value + 1e-12 WHERE key = 'test/kl'"
    )
    [strip] = home.work.glob("mlflow_artifacts/*/artifacts/samples_strip.png")
    with Image.open(strip) as picture:
        picture.point(lambda value: value ^ 1).save(strip)
    assert kept.differences(expected, kept.read(home.database)) == [f"{run.name}: samples_strip.png differs"]
