"""A few faults of each kind; `make faults` does them by the hundred."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
import torch
from PIL import Image

from tests.faults import clocks, damage, disks, kept, kills, stops, stores
from tests.faults.bench import CVAE, SWEEP, VAE, Bench, Tally
from tests.faults.children import Zygote
from tests.faults.kills import PARENTS, WINDOWS, Window


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("faults")
    with Zygote(folder) as zygote:
        yield Bench(zygote, folder, seed=1, say=print)


@pytest.fixture
def bench(shared: Bench) -> Iterator[Bench]:
    """Where faults are done; a test that uses it fails if anything is lost."""
    shared.tally = Tally()
    yield shared
    assert shared.tally.lost == []
    assert sum(row.tried for row in shared.tally.rows.values()) > 0


def some(bench: Bench, groups: dict[str, tuple[Window, ...]]) -> dict[str, tuple[Window, ...]]:
    """One window of each group."""
    return {name: (bench.random.choice(windows),) for name, windows in groups.items()}


def test_runs_killed_at_random_moments_end_as_if_nothing_had_been(bench: Bench) -> None:
    kills.at_random(bench, VAE, 5)
    kills.at_random(bench, CVAE, 2)


def test_a_multirun_killed_at_random_moments_ends_as_if_nothing_had_been(bench: Bench) -> None:
    kills.at_random(bench, SWEEP, 2)


def test_runs_killed_at_the_narrowest_moments_end_as_if_nothing_had_been(bench: Bench) -> None:
    kills.in_windows(bench, VAE, some(bench, WINDOWS), 1)
    kills.in_windows(bench, SWEEP, some(bench, PARENTS), 1)


def test_an_interrupted_run_goes_on(bench: Bench) -> None:
    stops.interrupted(bench, 1, commands=[VAE], ways=["Ctrl-C", "SIGTERM twice"])


def test_a_run_that_stands_still_is_not_taken_for_dead(bench: Bench) -> None:
    stops.stopped(bench, 1, commands=[VAE])


def test_eight_processes_on_a_fresh_store_of_which_some_are_killed_lose_nothing(bench: Bench) -> None:
    stores.eight_at_once(bench, 1, killed=4)


def test_a_disk_that_is_full_stops_a_run_with_one_message_and_space_lets_it_go_on(bench: Bench) -> None:
    disks.no_growth(bench, 1)
    disks.full(bench, 1)


def test_a_clock_that_jumps_changes_nothing(bench: Bench) -> None:
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
    [strip] = home.work.glob("mlruns/*/artifacts/samples_strip.png")
    with Image.open(strip) as picture:
        picture.point(lambda value: value ^ 1).save(strip)
    assert kept.differences(expected, kept.read(home.database)) == [f"{run.name}: samples_strip.png differs"]
