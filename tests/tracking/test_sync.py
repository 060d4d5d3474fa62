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
        assert "once you have seen them: vae-lab sync --drop" in out
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


def test_letting_go_shows_and_asks_first(
    store: Store, folder: Path, command: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = left_behind(store, "run")
    (folder / "mlflow.db").unlink()
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "n")
    code, out, _ = command("sync", "--drop")
    assert code == 1
    assert f"{run_id}" in out
    assert "there is no such file any more" in out
    assert "record 4 of 1970-01-01" in out
    assert ": status\n" in out
    [waiting] = backlogs(tracking.spool_folder(store.uri))
    assert waiting.left == 4
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "y")
    assert command("sync", "--drop")[0] == 0
    assert list(backlogs(tracking.spool_folder(store.uri))) == []
    code, _, err = command("sync", "--yes")
    assert (code, err) == (2, "vae-lab: --yes: is for --drop, which asks before it lets go of anything.\n")
