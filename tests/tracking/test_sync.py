"""`vae-lab sync`: each run for itself, nothing over one that was taken over, letting go of the rest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.misuse.conftest import Lab, command
from vae_lab import tracking
from vae_lab.cli.sync import deliver
from vae_lab.tracking import Store
from vae_lab.tracking.spool import Record, Spool, backlogs

__all__ = ["command"]


@pytest.fixture
def store(folder: Path, database: Path) -> Store:
    shutil.copy(database, folder / "mlflow.db")
    return Store.open()


def left_behind(store: Store, name: str) -> str:
    """A run of three epochs whose process ended before it could deliver them; returns its id."""
    recorder = store.start("lab", name, kind=tracking.RUN)
    store.courier.finish(recorder.run_id)
    spool = Spool.open(store.uri, recorder.run_id)
    for epoch in range(3):
        spool.append(Record(1000 + epoch, metrics=[("loss", float(epoch), epoch)]))
    spool.append(Record(2000, status="KILLED"))
    spool.close()
    return recorder.run_id


def steps(store: Store, run_id: str) -> list[int]:
    return sorted(point.step for point in store.client.get_metric_history(run_id, "loss"))


def test_what_waits_of_an_attempt_is_not_told_over_one_that_another_process_made_since(
    store: Store, folder: Path, command: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = left_behind(store, "run")
    with monkeypatch.context() as elsewhere:  # a process that does not know of them
        elsewhere.setenv("XDG_STATE_HOME", str(folder / "another state"))
        recorder = store.reopen(run_id)
        for epoch in range(5):
            recorder.log({"loss": float(epoch)}, epoch)
        recorder.finish("FINISHED")
    for _ in range(2):
        code, out, _ = command("sync")
        assert code == 1
        assert "record 1 (metrics) is of an attempt that another process has gone on from since" in out
        assert f"once you have seen them: vae-lab sync --drop --uri {store.uri}\n" in out
        assert "4 records could not be delivered." in out
        assert store.record(run_id).status == "FINISHED"
        assert steps(store, run_id) == list(range(5))
    code, out, _ = command("sync", "--drop", "--yes")
    assert (code, "4 records let go." in out) == (0, True)
    assert command("sync") == (0, "No records wait.\n", "")


def test_what_was_resumed_and_waits_is_delivered_with_what_follows_it(store: Store) -> None:
    run_id = left_behind(store, "run")
    spool = Spool.open(store.uri, run_id)
    spool.append(Record(3000, tags={tracking.ATTEMPT: "second"}, status="RUNNING"))
    spool.append(Record(3001, metrics=[("loss", 3.0, 3)], attempt="second"))
    spool.append(Record(3002, status="FINISHED", attempt="second"))
    spool.close()
    files = {file.name: file.read_bytes() for file in spool.folder.glob("*.record")}
    assert deliver(None, None) == 0
    spool.folder.mkdir()  # killed before it could note that the resumption was delivered
    for name in sorted(files)[4:]:
        (spool.folder / name).write_bytes(files[name])
    assert deliver(None, None) == 0
    assert steps(store, run_id) == list(range(4))
    assert store.record(run_id).status == "FINISHED"


def test_a_run_that_cannot_be_delivered_holds_up_no_other(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = sorted(left_behind(store, name) for name in ("a", "b", "c"))
    spool = Spool.open(store.uri, runs[0])
    with spool.scratch() as files:
        (files / "note.txt").write_text("kept")
        spool.append(Record(2001, files=files))
    spool.close()
    place = Path(store.place(runs[0], ""))
    place.parent.mkdir(parents=True)
    place.write_text("where the artifacts should go")
    assert deliver(None, None) == 1
    out = capsys.readouterr().out
    for run_id in runs:
        assert store.record(run_id).status == "KILLED"
        assert steps(store, run_id) == [0, 1, 2]
    assert "12 records delivered; 1 record wait" in out
    place.unlink()
    assert deliver(None, None) == 0
    assert store.download(runs[0], "note.txt").read_text() == "kept"


def test_records_wait_where_the_store_has_no_run_of_that_id(
    store: Store, folder: Path, database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = left_behind(store, "run")
    shutil.copy(database, folder / "other.db")
    assert deliver(store.uri, "sqlite:///other.db") == 1
    out = capsys.readouterr().out
    assert "4 records wait: it has no run of that id" in out
    assert out.endswith("0 records delivered; 4 records wait.\n")
    assert deliver(None, None) == 0
    assert (steps(store, run_id), store.record(run_id).status) == ([0, 1, 2], "KILLED")


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is typed, question by question."""
    typed: list[str] = []
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: typed.pop(0))
    return typed


def test_letting_go_shows_and_asks_first(
    store: Store, folder: Path, command: Lab, answers: list[str]
) -> None:
    run_id = left_behind(store, "run")
    (folder / "mlflow.db").unlink()
    answers.append("n")
    code, out, _ = command("sync", "--drop", "--uri", store.uri)
    assert (code, answers) == (1, [])
    assert f"{run_id}" in out
    assert "there is no such file any more" in out
    assert "record 4 of 1970-01-01" in out
    assert ": status\n" in out
    [waiting] = backlogs(tracking.spool_folder(store.uri))
    assert waiting.left == 4
    answers.append("y")
    assert command("sync", "--drop", "--uri", store.uri)[0] == 0
    assert list(backlogs(tracking.spool_folder(store.uri))) == []
    code, _, err = command("sync", "--yes")
    assert (code, err) == (2, "vae-lab: --yes: is for --drop, which asks before it lets go of anything.\n")


def test_what_waits_for_a_store_that_is_away_is_let_go_of_only_where_the_store_is_named(
    store: Store, folder: Path, command: Lab, answers: list[str]
) -> None:
    damaged, whole = sorted(left_behind(store, name) for name in ("a", "b"))
    (folder / "mlflow.db").rename(folder / "away.db")
    spool = tracking.spool_folder(store.uri) / damaged
    (spool / "00000002.record").rename(spool / "00000002.refused")
    code, out, _ = command("sync", "--drop", "--yes")
    assert (code, "1 record let go." in out) == (1, True)
    refused, _, waiting = out.partition("What waits, and is delivered once its store takes it:")
    assert "record 2 could not be delivered" in refused
    assert waiting.count(": metrics\n") == 5
    answers += ["n"]
    assert command("sync", "--drop", "--uri", store.uri)[0] == 1
    (folder / "away.db").rename(folder / "mlflow.db")
    assert command("sync")[0] == 0
    assert (steps(store, damaged), steps(store, whole)) == ([0, 2], [0, 1, 2])


def test_what_was_refused_is_let_go_of_without_what_waits_for_the_same_store(
    store: Store, folder: Path, command: Lab, answers: list[str]
) -> None:
    run_id = left_behind(store, "run")
    spool = tracking.spool_folder(store.uri) / run_id
    (spool / "00000002.record").rename(spool / "00000002.refused")
    (folder / "mlflow.db").rename(folder / "away.db")
    answers += ["y", "n"]
    assert command("sync", "--drop", "--uri", store.uri)[0] == 1
    [backlog] = backlogs(tracking.spool_folder(store.uri))
    assert (answers, backlog.left, backlog.refused) == ([], 3, [])
