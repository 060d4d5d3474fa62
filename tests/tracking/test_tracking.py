import sqlite3
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from vae_lab import tracking
from vae_lab.errors import LabError, UserError
from vae_lab.tracking import Store
from vae_lab.tracking.tagging import tag_runs


@pytest.fixture
def store(folder: Path) -> Store:
    return Store.open(create=True)


def test_the_store_is_one_file_and_one_folder_where_the_command_was_started(
    folder: Path, store: Store
) -> None:
    recorder = store.start("lab", "a", kind=tracking.RUN)
    with recorder.artifacts() as scratch:
        (scratch / "note.txt").write_text("kept")
    assert sorted(path.name for path in folder.iterdir()) == ["mlflow.db", "mlflow_artifacts"]
    assert store.place(recorder.run_id, "note.txt") == str(
        folder / "mlflow_artifacts" / recorder.run_id / "artifacts" / "note.txt"
    )
    assert store.download(recorder.run_id, "note.txt").read_text() == "kept"


def test_what_is_recorded_is_read_back_by_mlflows_own_client(store: Store) -> None:
    recorder = store.start("lab", "vae L3", kind=tracking.RUN, params={"model.layers": "3"}, tags={"x": "y"})
    recorder.log({"test/loss": 2.0}, step=1)
    recorder.log(
        {"test/loss": 1.0}, step=2, curve=("train/step_loss", {i: float(i - 1) for i in range(1, 2501)})
    )
    recorder.image("samples", np.zeros((4, 4, 1), dtype=np.uint8), step=0)
    recorder.dataset(name="digits", digest="1f", source="sklearn", profile={"train": 1437, "test": 360})
    recorder.finish("FINISHED")
    client = MlflowClient(store.uri)
    run = client.get_run(recorder.run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "vae L3")
    assert run.data.params == {"model.layers": "3"}
    assert run.data.metrics == {"test/loss": 1.0, "train/step_loss": 2499.0}
    assert run.data.tags["x"] == "y"
    steps = client.get_metric_history(recorder.run_id, "train/step_loss")
    assert sorted(point.step for point in steps) == list(range(1, 2501))
    assert run.inputs is not None
    assert run.inputs.dataset_inputs[0].dataset.name == "digits"
    images = [file.path for file in client.list_artifacts(recorder.run_id, "images")]
    assert any("samples" in path and "step+0" in path for path in images)
    assert store.history(recorder.run_id, "test/loss") == [2.0, 1.0]


def test_what_ended_a_run_is_not_said_of_one_that_has_finished_all_the_same(store: Store) -> None:
    """Another machine may have given it up that did not hear of it."""
    recorders = [store.start("lab", "a", kind=tracking.RUN) for _ in range(2)]
    for recorder, status in zip(recorders, ("FINISHED", "FAILED"), strict=True):
        recorder.tag({tracking.ERROR: "process 12 on host has been silent"})
        recorder.finish(status)
    stored = [store.record(recorder.run_id) for recorder in recorders]
    assert [(run.status, tracking.ERROR in run.tags) for run in stored] == [
        ("FINISHED", False),
        ("FAILED", True),
    ]


def test_the_runs_of_a_multirun_are_found_oldest_first(store: Store) -> None:
    parent = store.start("lab", "sweep", kind=tracking.SWEEP)
    recorders = [
        store.start("lab", f"run {i}", kind=tracking.RUN, tags={tracking.member_tag(parent.run_id): "1"})
        for i in range(3)
    ]
    store.start("lab", "other", kind=tracking.RUN)
    assert [child.run_id for child in store.members(parent.run_id)] == [run.run_id for run in recorders]
    assert store.record(parent.run_id).kind == tracking.SWEEP


def test_more_runs_than_a_page_are_all_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(5):
        store.start("lab", str(i), kind=tracking.RUN)
    search = store.client.search_runs
    monkeypatch.setattr(
        store.client, "search_runs", lambda *args, **kwargs: search(*args, **{**kwargs, "max_results": 2})
    )
    assert len(store.records()) == 5


def test_more_experiments_than_a_page_are_all_read_and_so_are_their_runs(folder: Path, store: Store) -> None:
    recorder = store.start("lab", "run", kind=tracking.RUN, tags={"x": "y"})
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        database.executemany(
            "INSERT INTO experiments (experiment_id, name, lifecycle_stage, creation_time, last_update_time)"
            " VALUES (?, ?, 'active', 9e12, 9e12)",
            [(number, f"other {number}") for number in range(1000, 2005)],
        )
        database.commit()
    names = store.experiments()
    assert (len(names), "lab" in names.values()) == (1007, True)
    assert [run.run_id for run in store.tagged("x", "y")] == [recorder.run_id]


def test_the_environment_names_the_store_and_the_config_goes_before_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    assert tracking.resolve_address(None) == f"sqlite:///{folder / 'other.db'}"
    assert tracking.resolve_address("http://127.0.0.1:1") == "http://127.0.0.1:1"


def test_a_folder_without_runs_says_how_to_begin(folder: Path) -> None:
    with pytest.raises(UserError, match=r"no runs are kept here yet\. Start with: vae-lab train"):
        Store.open()
    assert list(folder.iterdir()) == []


def test_an_unreachable_server_is_named_at_once(folder: Path) -> None:
    with pytest.raises(LabError, match=r"http://127\.0\.0\.1:9: the tracking server does not answer"):
        Store.open("http://127.0.0.1:9")


@pytest.mark.parametrize("uri", ["somewhere", "file:./mlruns", "ftp://x"])
def test_an_address_that_is_none_is_named_with_the_valid_ones(uri: str) -> None:
    with pytest.raises(UserError, match=r"Valid: sqlite:///FILE"):
        tracking.resolve_address(uri)


def test_a_file_that_is_no_database_is_named(folder: Path) -> None:
    (folder / "mlflow.db").write_text("no database, but long enough to be taken for one at first sight")
    with pytest.raises(LabError, match=r"mlflow\.db: the store cannot be opened"):
        Store.open()


def test_unknown_runs_and_artifacts_are_named(store: Store) -> None:
    with pytest.raises(UserError, match="nothing: no run of that id"):
        store.record("nothing")
    run = store.start("lab", "a", kind=tracking.RUN)
    with pytest.raises(LabError, match=r"has no artifact model/model\.pt"):
        store.download(run.run_id, "model/model.pt")


def test_a_deleted_experiment_is_named(store: Store) -> None:
    store.client.delete_experiment(store.experiment("gone").experiment_id)
    with pytest.raises(UserError, match=r"tracking\.experiment=gone: was deleted"):
        store.experiment("gone")


def test_the_code_is_named_by_version_and_commit() -> None:
    tags = tracking.code_tags()
    assert tags["vae_lab.version"]
    if "mlflow.source.git.commit" in tags:
        assert len(tags["mlflow.source.git.commit"]) == 40


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://[", "not an address"),
        ("ftp://127.0.0.1", "not an address"),
        ("postgresql://127.0.0.1:1/lab", "the store cannot be opened"),
    ],
)
def test_a_store_that_cannot_be_had_is_one_message(folder: Path, address: str, message: str) -> None:
    with pytest.raises(LabError, match=message):
        Store.open(address)


@pytest.mark.parametrize("content", [None, b"no database" * 100], ids=["a folder", "another file"])
def test_a_file_that_is_no_store_is_refused_at_once(folder: Path, content: bytes | None) -> None:
    if content is None:
        (folder / "mlflow.db").mkdir()
    else:
        (folder / "mlflow.db").write_bytes(content)
    begin = time.monotonic()
    with pytest.raises(LabError, match=r"mlflow\.db: the store cannot be opened"):
        Store.open(create=True)
    assert time.monotonic() - begin < 10


def test_many_runs_get_a_tag_as_mlflows_client_gives_it_to_one(store: Store) -> None:
    first, second, deleted, other = (
        store.start("lab", f"run {i}", kind=tracking.RUN).run_id for i in range(4)
    )
    store.client.set_tag(second, "x", "earlier")
    store.client.delete_run(deleted)
    tag_runs(store, [first, second, deleted, "no such run"], "x", "it's")
    assert {run.run_id for run in store.tagged("x", "it's")} == {first, second}
    for run_id in (deleted, other):
        assert "x" not in store.client.get_run(run_id).data.tags
    Path("mlflow.db").write_bytes(b"no database")
    with pytest.raises(LabError, match=r"mlflow\.db: the store cannot be written"):
        tag_runs(store, [first], "x", "y")
