"""Where artifacts lie: after a folder has moved, in stores made before, and beside stores of others."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from vae_lab import files, tracking
from vae_lab.cli.sync import deliver
from vae_lab.tracking import Store, reader
from vae_lab.tracking.artifacts import HOMES
from vae_lab.tracking.folders import run_folder
from vae_lab.tracking.spool import Record, Spool


@pytest.fixture
def store(folder: Path, database: Path) -> Store:
    """The store of a folder `first`, in which the test is."""
    (folder / "first").mkdir()
    shutil.copy(database, folder / "first" / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder / "first")
        return Store.open()


def with_note(store: Store, experiment: str = "lab") -> str:
    """A finished run with an artifact; returns its id."""
    recorder = store.start(experiment, "run", kind=tracking.RUN)
    with recorder.artifacts() as scratch:
        (scratch / "note.txt").write_text("kept")
    recorder.finish("FINISHED")
    return recorder.run_id


def opened(place: Path) -> Store:
    return Store.open(f"sqlite:///{place / 'mlflow.db'}")


def test_a_store_that_was_made_before_is_read_and_gone_on_with_where_it_is(
    store: Store, folder: Path
) -> None:
    first, second = folder / "first", folder / "second"
    run_id = with_note(store)
    (first / "mlflow_artifacts").rename(first / "mlruns")
    with closing(sqlite3.connect(first / "mlflow.db")) as database:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            database.execute(f"UPDATE {table} SET {column} = replace({column}, 'mlflow_artifacts', 'mlruns')")
        database.execute("DELETE FROM experiment_tags WHERE key = ?", (HOMES,))
        database.commit()
    first.rename(second)
    moved = opened(second)
    for asked in (reader(moved.uri), moved):
        assert asked.download(run_id, "note.txt") == second / "mlruns" / run_id / "artifacts" / "note.txt"
    another = with_note(moved)
    assert moved.download(another, "note.txt") == second / "mlruns" / another / "artifacts" / "note.txt"
    assert MlflowClient(moved.uri).list_artifacts(run_id)[0].path == "note.txt"
    assert not first.exists()


def test_a_folder_that_left_a_link_behind_takes_its_state_along(store: Store, folder: Path) -> None:
    run_id = with_note(store)
    checkpoint = run_folder(store.uri, run_id) / "epoch.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"epoch")
    (folder / "first").rename(folder / "second")
    (folder / "first").symlink_to(folder / "second")
    moved = opened(folder / "first")
    moved.settle()
    assert not checkpoint.exists()
    assert (run_folder(moved.uri, run_id) / "epoch.pt").read_bytes() == b"epoch"
    assert list(files.state_folder("moves").iterdir()) == []


def test_what_waits_for_a_store_that_was_moved_is_delivered_where_the_command_is_given(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = with_note(store)
    spool = Spool.open(store.uri, run_id)
    spool.append(Record(1000, metrics=[("loss", 1.5, 1)]))
    spool.close()
    (folder / "first").rename(folder / "second")
    assert deliver(None, None) == 1
    monkeypatch.chdir(folder / "second")
    assert deliver(None, None) == 0
    assert Store.open().history(run_id, "loss") == [1.5]


def test_moves_in_a_row_out_of_a_folder_and_back_are_followed(store: Store, folder: Path) -> None:
    run_id = with_note(store)
    place = folder / "first"
    for name in ("second", "second/third", "first", "ä 100% #1?"):
        new = folder / name
        if new.parent == place:  # down into a folder of its own
            new.mkdir()
            for path in [path for path in place.iterdir() if path != new]:
                path.rename(new / path.name)
        else:
            place.rename(new)
        place = new
        moved = (
            opened(place)
            if "?" not in name
            else Store.open(f"sqlite:///{str(place).replace('%', '%25').replace('?', '%3F')}/mlflow.db")
        )
        file = place / "mlflow_artifacts" / run_id / "artifacts" / "note.txt"
        assert reader(moved.uri).download(run_id, "note.txt") == file
        moved.settle()
        assert reader(moved.uri).download(run_id, "note.txt") == file
        assert moved.client.get_run(run_id).info.artifact_uri == file.parent.as_uri()


def test_an_experiment_of_others_moves_too_and_what_lies_elsewhere_stays(store: Store, folder: Path) -> None:
    elsewhere = folder / "elsewhere"
    store.client.create_experiment("inside", str(folder / "first" / "mlruns" / "7"))
    store.client.create_experiment("outside", elsewhere.as_uri())
    inside, outside = with_note(store, "inside"), with_note(store, "outside")
    (folder / "first").rename(folder / "second")
    moved = opened(folder / "second")
    moved.settle()
    assert moved.download(inside, "note.txt").is_relative_to(folder / "second" / "mlruns" / "7")
    assert moved.download(outside, "note.txt").is_relative_to(elsewhere)
    assert with_note(moved, "outside") in {path.name for path in elsewhere.iterdir()}
    assert not (folder / "first").exists()


def test_the_folder_of_mlflows_file_store_gets_nothing_of_ours(
    store: Store, folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    theirs = MlflowClient((folder / "first" / "mlruns").as_uri())
    theirs.create_experiment("theirs")
    before = sorted(path.name for path in (folder / "first" / "mlruns").iterdir())
    with_note(store)
    assert sorted(path.name for path in (folder / "first" / "mlruns").iterdir()) == before
    caplog.clear()
    assert {experiment.name for experiment in theirs.search_experiments()} == {"theirs", "Default"}
    assert caplog.text == ""
