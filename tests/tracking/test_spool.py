import json
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from vae_lab import tracking
from vae_lab.cli.sync import deliver
from vae_lab.errors import LabError
from vae_lab.tracking import Store, courier, delivery
from vae_lab.tracking.abandoned import close_abandoned, unfinished_runs
from vae_lab.tracking.processes import this_process
from vae_lab.tracking.spool import Record, Spool, backlogs


@pytest.fixture
def store(folder: Path, database: Path) -> Store:
    shutil.copy(database, folder / "mlflow.db")
    return Store.open()


def points(store: Store, run_id: str, metric: str) -> list[tuple[int, float]]:
    """A metric's points in the order in which MLflow gives them."""
    return [(point.step, point.value) for point in store.client.get_metric_history(run_id, metric)]


def left_behind(store: Store, epochs: int) -> tuple[str, Path]:
    """A run whose process ended before it could deliver: its id, and its spool with a record an epoch."""
    recorder = store.start("lab", "run", kind=tracking.RUN)
    store.courier.finish(recorder.run_id)
    spool = Spool.open(store.uri, recorder.run_id)
    for epoch in range(epochs):
        spool.append(Record(1000 + epoch, metrics=[("loss", float(epoch), epoch), ("nan", math.nan, epoch)]))
    spool.close()
    return recorder.run_id, spool.folder


@contextmanager
def away(store: Store) -> Iterator[None]:
    """The store takes nothing meanwhile."""

    def locked(*_: object, **__: object) -> None:
        raise OSError("database is locked")

    with pytest.MonkeyPatch.context() as patch:
        for call in ("log_batch", "log_artifact", "set_terminated", "update_run", "log_inputs"):
            patch.setattr(store.client, call, locked)
        yield


@contextmanager
def no_file_grows_beyond(size: int) -> Iterator[None]:
    """Writes past that size fail in this process, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_finished_run_leaves_no_spool(store: Store) -> None:
    recorder = store.start("lab", "run", kind=tracking.RUN)
    recorder.log({"loss": 1.0}, 0)
    recorder.finish("FINISHED")
    assert list(backlogs(tracking.spool_folder(store.uri))) == []
    assert [path.name for path in tracking.spool_folder(store.uri).iterdir()] == ["address"]


def test_what_is_logged_again_with_its_time_is_kept_once(store: Store) -> None:
    recorder = store.start("lab", "run", kind=tracking.RUN)
    picture = np.zeros((4, 4, 1), dtype=np.uint8)
    for _ in range(2):
        recorder.log({"loss": 1.5, "nan": float("nan")}, 3, ("curve", {7: 1.0, 8: 2.0}), when=12345)
        recorder.image("images/samples", picture, 3, when=12345)
    recorder.finish("FINISHED")
    assert points(store, recorder.run_id, "loss") == [(3, 1.5)]
    assert points(store, recorder.run_id, "curve") == [(7, 1.0), (8, 2.0)]
    assert len(store.client.get_metric_history(recorder.run_id, "nan")) == 1
    assert len(store.client.list_artifacts(recorder.run_id, "images")) == 2


def test_pictures_are_named_as_mlflow_names_them(store: Store) -> None:
    recorder = store.start("lab", "run", kind=tracking.RUN)
    picture = np.arange(300 * 20, dtype=np.uint8).reshape(20, 300, 1)
    recorder.image("images/samples", picture, 3, when=12345)
    store.client.log_image(recorder.run_id, picture, key="images/samples", step=3, timestamp=12345)
    files = [file.path for file in store.client.list_artifacts(recorder.run_id, "images")]
    shapes: dict[str, list[bytes]] = {}
    for file in files:
        before, _, after = file.rpartition("+12345+" if "+12345+" in file else "+")
        shape = f"{before}+12345+TOKEN{after[36:]}"
        shapes.setdefault(shape, []).append(store.download(recorder.run_id, file).read_bytes())
    assert sorted(shapes) == [
        "images/images~samples+step+3+timestamp+12345+TOKEN+compressed.webp",
        "images/images~samples+step+3+timestamp+12345+TOKEN.png",
    ]
    assert all(len(same) == 2 and same[0] == same[1] for same in shapes.values())
    assert store.record(recorder.run_id).tags["mlflow.loggedImages"] == "True"


def test_a_clock_that_is_set_back_does_not_change_the_order(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = store.start("lab", "run", kind=tracking.RUN)
    now = time.time()
    for epoch, clock in enumerate([now, now - 7200, now - 3600, now + 1]):
        monkeypatch.setattr(time, "time", lambda clock=clock: clock)
        recorder.log({"loss": 4.0 - epoch}, epoch)
    assert [step for step, _ in points(store, recorder.run_id, "loss")] == [0, 1, 2, 3]


def test_sync_delivers_what_a_dead_process_left_and_says_so(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id, folder = left_behind(store, 3)
    assert deliver(None, None) == 0
    out = capsys.readouterr().out
    assert f"{run_id}  run                 3 records delivered" in out
    assert out.endswith("3 records delivered; none is left.\n")
    assert points(store, run_id, "loss") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert not folder.exists()
    assert deliver(None, None) == 0
    assert capsys.readouterr().out == "No records wait.\n"


def test_a_record_whose_delivery_was_not_noted_is_delivered_again_without_harm(store: Store) -> None:
    run_id, folder = left_behind(store, 3)
    files = {file.name: file.read_bytes() for file in folder.glob("*.record")}
    assert len(files) == 3
    assert deliver(None, None) == 0
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    assert deliver(None, None) == 0
    assert points(store, run_id, "loss") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert len(store.client.get_metric_history(run_id, "nan")) == 3


def test_a_flipped_bit_and_a_cut_file_cost_one_record_each_and_are_named_and_kept(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id, folder = left_behind(store, 4)
    files = sorted(folder.glob("*.record"))
    content = files[1].read_bytes()
    files[1].write_bytes(content[:50] + bytes([content[50] ^ 4]) + content[51:])
    files[3].write_bytes(files[3].read_bytes()[:-9])
    damaged = files[1].read_bytes()
    for _ in range(2):
        assert deliver(None, None) == 1
        out = capsys.readouterr().out
        assert "record 2 is damaged or was cut off: its checksum does not match" in out
        assert "record 4 is damaged or was cut off: its checksum does not match" in out
        assert f"They are kept in {folder}; once you have seen them: vae-lab sync --drop" in out
        assert "2 records could not be delivered." in out
    assert points(store, run_id, "loss") == [(0, 0.0), (2, 2.0)]
    assert files[1].with_suffix(".refused").read_bytes() == damaged


def test_what_a_killed_process_left_half_written_is_cleared_away_and_nothing_lost(store: Store) -> None:
    run_id, folder = left_behind(store, 2)
    (folder / ".00000003.record.4711").write_bytes(b"half")
    (folder / ".files.x").mkdir()
    (folder / ".files.x" / "picture.png").write_bytes(b"half")
    recorder = store.reopen(run_id)
    assert sorted(path.name for path in folder.iterdir()) == ["lock"]
    recorder.finish("FINISHED")
    assert points(store, run_id, "loss") == [(0, 0.0), (1, 1.0)]


def test_a_record_of_a_later_version_is_named_and_kept(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id, _ = left_behind(store, 1)
    spool = Spool.open(store.uri, run_id)
    record = Record(5000, tags={"a": "b"})
    object.__setattr__(record, "weather", "fine")
    spool.append(record)
    spool.close()
    assert deliver(None, None) == 1
    assert "record 2 is of a kind that this version of the lab does not know" in capsys.readouterr().out
    [backlog] = backlogs(tracking.spool_folder(store.uri))
    assert (backlog.left, backlog.refused) == (1, []), "it waits for that version"
    assert points(store, run_id, "loss") == [(0, 0.0)]


def test_files_wait_in_the_spool_with_their_record(store: Store) -> None:
    recorder = store.start("lab", "run", kind=tracking.RUN)
    with away(store):
        with recorder.artifacts(sealed=["model/model.pt"]) as scratch:
            (scratch / "model").mkdir()
            (scratch / "model" / "model.pt").write_bytes(b"weights")
            (scratch / "note.txt").write_text("kept")
        recorder.image("samples", np.zeros((4, 4, 1), dtype=np.uint8), 3)
        spool = store.courier.spool(recorder.run_id)
        assert spool.pending == 2
    recorder.finish("FINISHED")
    assert store.download(recorder.run_id, "note.txt").read_text() == "kept"
    assert store.download(recorder.run_id, "model/model.pt").read_bytes() == b"weights"
    assert len(store.client.list_artifacts(recorder.run_id, "images")) == 2
    assert list(backlogs(tracking.spool_folder(store.uri))) == []


def test_records_of_a_run_that_the_store_has_not_wait_and_hold_up_no_other(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(courier, "RETRY_SECONDS", (0.01,))
    absent, other = (store.start("lab", name, kind=tracking.RUN) for name in ("absent", "other"))
    log_batch, get_run = store.client.log_batch, store.client.get_run
    with monkeypatch.context() as patch:  # another database is in place of the store's

        def lacks(call: Callable[..., Any], run_id: str, *arguments: Any, **named: Any) -> Any:
            if run_id == absent.run_id:
                raise MlflowException(f"Run with id={run_id} not found", RESOURCE_DOES_NOT_EXIST)
            return call(run_id, *arguments, **named)

        patch.setattr(store.client, "log_batch", partial(lacks, log_batch))
        patch.setattr(store.client, "get_run", partial(lacks, get_run))
        for epoch in range(3):
            absent.log({"loss": float(epoch)}, epoch)
            other.log({"loss": float(epoch)}, epoch)
        begin = time.monotonic()
        other.finish("FINISHED")
        absent.finish("FINISHED")
        assert time.monotonic() - begin < 5
        assert points(store, other.run_id, "loss") == [(0, 0.0), (1, 1.0), (2, 2.0)]
        assert store.courier.spool(absent.run_id).pending == 4
    while store.courier.spool(absent.run_id).pending:
        time.sleep(0.01)
    assert points(store, absent.run_id, "loss") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert store.record(absent.run_id).status == "FINISHED"
    name = f"run {absent.run_id[:8]}"
    messages = [message.partition("mlflow.db ")[2] for message in caplog.messages if name in message]
    assert messages == [
        f"takes no records of {name} (it has no run of that id): training goes on, they wait on this "
        "machine.",
        "(it has no run of that id). Once it takes them, deliver them with: vae-lab sync",
        f"takes the records of {name} again.",
    ]


def test_a_record_that_goes_straight_to_a_database_is_not_told_over_another_attempt(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = store.start("lab", "run", kind=tracking.RUN)
    with monkeypatch.context() as patch:
        get_run = Mock(wraps=store.client.get_run)
        patch.setattr(store.client, "get_run", get_run)
        for epoch in range(5):
            recorder.log({"loss": float(epoch)}, epoch)
    assert get_run.call_count <= 2, "it is known for some seconds"
    # What another process does that goes on with the run and finishes it.
    store.client.set_tag(recorder.run_id, tracking.ATTEMPT, "another")
    store.client.set_terminated(recorder.run_id, "FINISHED")
    monkeypatch.setattr(delivery, "ASK_SECONDS", 0.0)
    for tell in (lambda: recorder.log({"loss": 5.0}, 5), lambda: recorder.finish("KILLED")):
        with pytest.raises(LabError, match="is of an attempt that another process has gone on from since"):
            tell()
    assert store.record(recorder.run_id).status == "FINISHED"
    assert [step for step, _ in points(store, recorder.run_id, "loss")] == [*range(5)]
    [spool] = backlogs(tracking.spool_folder(store.uri))
    assert (spool.left, len(spool.refused)) == (0, 2)


def test_later_records_of_a_run_queue_behind_those_that_wait(store: Store) -> None:
    recorder = store.start("lab", "run", kind=tracking.RUN)
    with away(store):
        for epoch in range(3):
            recorder.log({"loss": float(epoch)}, epoch)
    recorder.log({"loss": 3.0}, 3)
    recorder.finish("FINISHED")
    times = [point.timestamp for point in store.client.get_metric_history(recorder.run_id, "loss")]
    assert points(store, recorder.run_id, "loss") == [(epoch, float(epoch)) for epoch in range(4)]
    assert times == sorted(times)


def test_a_record_for_a_database_goes_a_short_way_and_over_no_file(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = store.start("lab", "run", kind=tracking.RUN)
    frames: list[str] = []
    log_batch = store.client.log_batch

    def looked_at(*arguments: Any, **named: Any) -> None:
        house = Path(tracking.__file__).parents[1]
        stack = traceback.extract_stack()
        frames.extend(frame.name for frame in stack if Path(frame.filename).is_relative_to(house))
        log_batch(*arguments, **named)

    monkeypatch.setattr(store.client, "log_batch", looked_at)
    monkeypatch.setattr("vae_lab.tracking.spool.write_sealed", lambda *_: pytest.fail("it was written down"))
    recorder.log({"loss": 1.0}, 0, ("curve", dict.fromkeys(range(50), 1.0)), tags={"epoch": "1"})
    assert frames == ["log", "submit", "_deliver_now", "deliver"]
    assert points(store, recorder.run_id, "loss") == [(0, 1.0)]


def test_a_damaged_address_is_named_and_another_can_be_given(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id, folder = left_behind(store, 2)
    (folder.parent / "address").write_text("sqlite:////somewhere/else.db")
    assert deliver(None, None) == 1
    assert "the note of the store's address is damaged; name the store with --to" in capsys.readouterr().out
    assert deliver(store.uri, store.uri) == 0
    assert points(store, run_id, "loss") == [(0, 0.0), (1, 1.0)]


def test_records_for_a_store_that_was_moved_are_delivered_where_it_is_now(
    store: Store, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id, _ = left_behind(store, 2)
    (folder / "mlflow.db").rename(folder / "moved.db")
    assert deliver(None, None) == 1
    assert (
        "there is no such file any more; if it was moved, name the new one with --to"
        in capsys.readouterr().out
    )
    assert not (folder / "mlflow.db").exists()
    assert deliver(store.uri, "sqlite:///moved.db") == 0
    assert points(Store.open("sqlite:///moved.db"), run_id, "loss") == [(0, 0.0), (1, 1.0)]


def test_a_record_that_the_store_refuses_is_raised_and_kept(store: Store) -> None:
    recorder = store.start("lab", "run", kind=tracking.RUN, params={"a": "1"})
    with pytest.raises(LabError, match=r"mlflow\.db: run .*record 1 \(params\) was refused: Changing param"):
        recorder.params({"a": "2"})
    recorder.log({"loss": 1.0}, 0)
    recorder.finish("FINISHED")
    assert points(store, recorder.run_id, "loss") == [(0, 1.0)]
    [spool] = backlogs(tracking.spool_folder(store.uri))
    assert (spool.left, len(spool.refused)) == (0, 1)
    assert len(list(spool.folder.glob("*.refused"))) == 1


def test_a_database_that_cannot_grow_lets_the_run_go_on_and_gets_everything_later(
    store: Store, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = store.start("lab", "run", kind=tracking.RUN)
    recorder.log({"loss": 0.0}, 0, ("curve", dict.fromkeys(range(100), 0.0)))
    with no_file_grows_beyond((folder / "mlflow.db").stat().st_size):
        for epoch in range(1, 40):
            recorder.log(
                {"loss": float(epoch)},
                epoch,
                ("curve", dict.fromkeys(range(100 * epoch, 100 * epoch + 100), float(epoch))),
            )
        assert list(backlogs(tracking.spool_folder(store.uri)))
        assert "training goes on, they wait on this machine" in caplog.text
        assert store.history(recorder.run_id, "loss")[0] == 0.0  # what was kept before is readable
    recorder.finish("FINISHED")
    assert list(backlogs(tracking.spool_folder(store.uri))) == []
    assert points(store, recorder.run_id, "loss") == [(epoch, float(epoch)) for epoch in range(40)]
    assert len(store.client.get_metric_history(recorder.run_id, "curve")) == 4000
    assert store.record(recorder.run_id).status == "FINISHED"


def test_no_room_for_spool_and_database_is_said_in_one_message(store: Store, folder: Path) -> None:
    recorder = store.start("lab", "run", kind=tracking.RUN)
    with (
        no_file_grows_beyond(1),
        pytest.raises(
            LabError, match=r"records cannot be kept here: File too large.*does not take records either"
        ),
    ):
        recorder.log({"loss": 1.0}, 0, ("curve", dict.fromkeys(range(1, 1001), 1.0)))
    recorder.log({"loss": 2.0}, 1)
    assert points(store, recorder.run_id, "loss") == [(1, 2.0)]


def test_files_that_find_no_room_are_one_message(store: Store) -> None:
    recorder = store.start("lab", "run", kind=tracking.RUN)
    with (
        no_file_grows_beyond(1000),
        pytest.raises(LabError, match="cannot be kept here: File too large"),
        recorder.artifacts() as scratch,
    ):
        (scratch / "model.pt").write_bytes(bytes(2000))
    recorder.finish("FINISHED")
    assert store.client.list_artifacts(recorder.run_id) == []


def test_a_full_disk_is_said_before_a_run_starts(store: Store) -> None:
    with (
        no_file_grows_beyond(1),
        pytest.raises(LabError, match="cannot be kept here: File too large"),
    ):
        store.start("lab", "run", kind=tracking.RUN)
    assert store.records() == []


def test_eight_processes_on_one_fresh_store_lose_nothing(folder: Path) -> None:
    program = (
        "import sys; from vae_lab.tracking import Store, RUN\n"
        "store = Store.open(create=True)\n"
        "recorder = store.start('lab', sys.argv[1], kind=RUN, params={'place': sys.argv[1]})\n"
        "for epoch in range(10):\n"
        "    curve = dict.fromkeys(range(100 * epoch, 100 * epoch + 100), 0.5)\n"
        "    recorder.log({'loss': epoch / 3}, epoch, ('curve', curve))\n"
        "recorder.finish('FINISHED')\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(place)], stderr=subprocess.PIPE, text=True)
        for place in range(8)
    ]
    errors = [process.communicate(timeout=240)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, errors
    assert errors == [""] * 8
    store = Store.open()
    runs = store.records()
    assert sorted(run.params["place"] for run in runs) == [str(place) for place in range(8)]
    for run in runs:
        assert run.status == "FINISHED"
        assert points(store, run.run_id, "loss") == [(epoch, epoch / 3) for epoch in range(10)]
        curve = store.client.get_metric_history(run.run_id, "curve")
        assert sorted(point.step for point in curve) == list(range(1000))


def test_a_resumed_run_gets_what_waited_first_and_runs_again(store: Store) -> None:
    run_id, folder = left_behind(store, 3)
    recorder = store.reopen(run_id)
    assert store.record(run_id).status == "RUNNING"
    recorder.log({"loss": 3.0}, 3)
    recorder.finish("FINISHED")
    assert points(store, run_id, "loss") == [(step, float(step)) for step in range(4)]
    assert store.record(run_id).status == "FINISHED"
    assert not folder.exists()


def test_a_spool_that_another_process_writes_is_left_to_it(store: Store, folder: Path) -> None:
    recorder = store.start("lab", "run", kind=tracking.RUN)
    program = (
        "import os, signal, sys; from vae_lab.tracking.spool import Record, Spool\n"
        "spool = Spool.open(sys.argv[1], sys.argv[2])\n"
        "spool.append(Record(1, metrics=[('theirs', 1.0, 0)]))\n"
        "print('ready', flush=True)\n"
        "signal.pause()\n"
    )
    recorder.finish("FINISHED")
    command = [sys.executable, "-c", program, store.uri, recorder.run_id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        assert deliver(None, None) == 1
        store.recorder(store.record(recorder.run_id)).log({"ours": 2.0}, 0)
        assert points(store, recorder.run_id, "ours") == [(0, 2.0)]
        os.kill(other.pid, signal.SIGKILL)
    assert deliver(None, None) == 0
    assert points(store, recorder.run_id, "theirs") == [(0, 1.0)]


def test_a_dead_process_run_whose_end_waits_is_not_closed_before_it_is_delivered(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = store.start("lab", "run", kind=tracking.RUN)
    dead = json.dumps({**json.loads(this_process()), "born": "0"})
    recorder.tag({tracking.PROCESS: dead})
    store.courier.finish(recorder.run_id)
    spool = Spool.open(store.uri, recorder.run_id)
    spool.append(Record(5000, status="FINISHED"))
    spool.close()
    with monkeypatch.context() as patch:

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(store.client, "set_terminated", full)
        assert close_abandoned(store, [store.record(recorder.run_id)]) == []
        assert store.record(recorder.run_id).status == "RUNNING"
        with pytest.raises(LabError, match=r"wait on this machine and cannot be delivered \(.*No space left"):
            unfinished_runs(store, tracking.KIND, tracking.RUN)
    assert close_abandoned(store, [store.record(recorder.run_id)]) == []
    assert store.record(recorder.run_id).status == "FINISHED"
