import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from vae_lab import tracking
from vae_lab.cli.sync import sync
from vae_lab.errors import LabError
from vae_lab.tracking import Store
from vae_lab.tracking.courier import Courier
from vae_lab.tracking.journal import Journal, waiting
from vae_lab.tracking.processes import this_process


@pytest.fixture
def store(folder: Path, database: Path) -> Store:
    shutil.copy(database, folder / "mlflow.db")
    return Store.open()


def points(store: Store, run_id: str, metric: str) -> list[tuple[int, float]]:
    """A metric's points in the order in which MLflow gives them."""
    return [(point.step, point.value) for point in store.client.get_metric_history(run_id, metric)]


def left_behind(store: Store, epochs: int) -> tuple[str, Path]:
    """A run whose process ended before it could deliver: its id, and its journal with a record an epoch."""
    recorder = store.start("lab", "run", kind=tracking.RUN)
    journal = Journal.open(store.uri, recorder.run_id)
    for epoch in range(epochs):
        metrics = {"loss": float(epoch), "nan": float("nan")}
        journal.append({"at": 1000 + epoch, "step": epoch, "metrics": metrics, "curve": None})
    journal.close()
    return recorder.run_id, journal.folder


@contextmanager
def no_file_grows_beyond(size: int) -> Iterator[None]:
    """Writes past that size fail in this process, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_finished_run_leaves_no_journal(store: Store) -> None:
    recorder = store.start("lab", "run", kind=tracking.RUN)
    recorder.log({"loss": 1.0}, 0)
    recorder.finish("FINISHED")
    assert list(waiting(tracking.place_of(store.uri))) == []
    assert [path.name for path in tracking.place_of(store.uri).iterdir()] == ["address"]


def test_what_is_logged_again_with_its_time_is_kept_once(store: Store) -> None:
    recorder = store.start("lab", "run", kind=tracking.RUN)
    picture = np.zeros((4, 4, 1), dtype=np.uint8)
    for _ in range(2):
        recorder.log({"loss": 1.5, "nan": float("nan")}, 3, ("curve", [1.0, 2.0], 7), when=12345)
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
    assert sync(None, None) == 0
    out = capsys.readouterr().out
    assert f"{run_id}  run                 3 records delivered" in out
    assert out.endswith("3 records delivered; none is left.\n")
    assert points(store, run_id, "loss") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert not folder.exists()
    assert sync(None, None) == 0
    assert capsys.readouterr().out == "No records wait.\n"


def test_records_whose_delivery_was_not_noted_are_delivered_again_without_harm(store: Store) -> None:
    run_id, folder = left_behind(store, 3)
    lines = (folder / "records").read_bytes()
    assert sync(None, None) == 0
    folder.mkdir()
    (folder / "records").write_bytes(lines)
    assert sync(None, None) == 0
    assert points(store, run_id, "loss") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert len(store.client.get_metric_history(run_id, "nan")) == 3


def test_a_flipped_bit_and_a_cut_line_are_named_and_the_rest_is_delivered(
    store: Store, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    run_id, folder = left_behind(store, 4)
    lines = (folder / "records").read_bytes().splitlines(keepends=True)
    lines[1] = lines[1][:20] + bytes([lines[1][20] ^ 4]) + lines[1][21:]
    lines[3] = lines[3][:-9]
    (folder / "records").write_bytes(b"".join(lines))
    assert sync(None, None) == 1
    out = capsys.readouterr().out
    assert "record 2 is damaged or was cut off: its checksum does not match" in out
    assert f"{folder}: the last record was cut off when its process ended" in caplog.text
    assert f"Its journal is kept; remove it when you have seen it: {folder}" in out
    assert "2 records delivered; 1 record could not be delivered." in out
    assert points(store, run_id, "loss") == [(0, 0.0), (2, 2.0)]


def test_a_damaged_note_of_what_was_delivered_costs_nothing(store: Store) -> None:
    run_id, folder = left_behind(store, 3)
    (folder / "delivered").write_text("2 00000000\n")
    assert sync(None, None) == 0
    assert points(store, run_id, "loss") == [(0, 0.0), (1, 1.0), (2, 2.0)]


def test_a_damaged_file_is_named_and_the_others_are_delivered(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = store.start("lab", "run", kind=tracking.RUN)
    with monkeypatch.context() as patch:
        patch.setattr(Courier, "_deliver_here", lambda self, journal: None)  # the process dies here
        with recorder.artifacts() as scratch:
            (scratch / "model.pt").write_bytes(b"weights")
            (scratch / "note.txt").write_text("kept")
        journal = store.courier.journal(recorder.run_id)
    [file] = journal.files.glob("*/model.pt")
    file.write_bytes(b"weightz")
    journal.close()
    store.courier._journals.clear()
    assert sync(None, None) == 1
    assert "the file model.pt is damaged: its checksum does not match" in capsys.readouterr().out
    assert store.download(recorder.run_id, "note.txt").read_text() == "kept"


def test_a_damaged_address_is_named_and_another_can_be_given(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id, folder = left_behind(store, 2)
    (folder.parent / "address").write_text("sqlite:////somewhere/else.db")
    assert sync(None, None) == 1
    assert "the note of the store's address is damaged; name the store with --to" in capsys.readouterr().out
    assert sync(store.uri, store.uri) == 0
    assert points(store, run_id, "loss") == [(0, 0.0), (1, 1.0)]


def test_records_for_a_store_that_was_moved_are_delivered_where_it_is_now(
    store: Store, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id, _ = left_behind(store, 2)
    (folder / "mlflow.db").rename(folder / "moved.db")
    assert sync(None, None) == 1
    assert (
        "there is no such file any more; if it was moved, name the new one with --to"
        in capsys.readouterr().out
    )
    assert not (folder / "mlflow.db").exists()
    assert sync(store.uri, "sqlite:///moved.db") == 0
    assert points(Store.open("sqlite:///moved.db"), run_id, "loss") == [(0, 0.0), (1, 1.0)]


def test_a_record_that_the_store_refuses_is_raised_and_kept(store: Store) -> None:
    recorder = store.start("lab", "run", kind=tracking.RUN, params={"a": "1"})
    with pytest.raises(LabError, match=r"mlflow\.db: run .*record 2 \(params\) was refused: Changing param"):
        recorder.params({"a": "2"})
    recorder.log({"loss": 1.0}, 0)
    recorder.finish("FINISHED")
    assert points(store, recorder.run_id, "loss") == [(0, 1.0)]
    [kept] = waiting(tracking.place_of(store.uri))
    assert (kept.records, len(kept.refused)) == (0, 1)


def test_a_database_that_cannot_grow_lets_the_run_go_on_and_gets_everything_later(
    store: Store, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = store.start("lab", "run", kind=tracking.RUN)
    recorder.log({"loss": 0.0}, 0, ("curve", [0.0] * 100, 0))
    with no_file_grows_beyond((folder / "mlflow.db").stat().st_size):
        for epoch in range(1, 40):
            recorder.log({"loss": float(epoch)}, epoch, ("curve", [float(epoch)] * 100, 100 * epoch))
        assert list(waiting(tracking.place_of(store.uri)))
        assert "training goes on, they wait on this machine" in caplog.text
        assert store.history(recorder.run_id, "loss")[0] == 0.0  # what was kept before is readable
    recorder.finish("FINISHED")
    assert list(waiting(tracking.place_of(store.uri))) == []
    assert points(store, recorder.run_id, "loss") == [(epoch, float(epoch)) for epoch in range(40)]
    assert len(store.client.get_metric_history(recorder.run_id, "curve")) == 4000
    assert store.record(recorder.run_id).status == "FINISHED"


def test_no_room_for_journal_and_database_is_said_in_one_message(store: Store, folder: Path) -> None:
    recorder = store.start("lab", "run", kind=tracking.RUN)
    with (
        no_file_grows_beyond(1),
        pytest.raises(
            LabError, match=r"records cannot be kept here: File too large.*does not take records either"
        ),
    ):
        recorder.log({"loss": 1.0}, 0, ("curve", [1.0] * 1000, 1))
    recorder.log({"loss": 2.0}, 1)
    assert points(store, recorder.run_id, "loss") == [(1, 2.0)]


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
        "    recorder.log({'loss': epoch / 3}, epoch, ('curve', [0.5] * 100, 100 * epoch))\n"
        "recorder.finish('FINISHED')\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(place)], stderr=subprocess.PIPE, text=True)
        for place in range(8)
    ]
    said = [process.communicate(timeout=240)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, said
    assert said == [""] * 8
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


def test_a_journal_that_another_process_writes_is_left_to_it(store: Store, folder: Path) -> None:
    recorder = store.start("lab", "run", kind=tracking.RUN)
    program = (
        "import os, signal, sys; from vae_lab.tracking.journal import Journal\n"
        "journal = Journal.open(sys.argv[1], sys.argv[2])\n"
        "journal.append({'at': 1, 'step': 0, 'metrics': {'theirs': 1.0}, 'curve': None})\n"
        "print('ready', flush=True)\n"
        "signal.pause()\n"
    )
    recorder.finish("FINISHED")
    command = [sys.executable, "-c", program, store.uri, recorder.run_id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        assert sync(None, None) == 1
        tracking.Recorder(store, recorder.run_id, recorder.experiment_id).log({"ours": 2.0}, 0)
        assert points(store, recorder.run_id, "ours") == [(0, 2.0)]
        os.kill(other.pid, signal.SIGKILL)
    assert sync(None, None) == 0
    assert points(store, recorder.run_id, "theirs") == [(0, 1.0)]


def test_a_dead_process_run_whose_end_waits_is_not_closed_before_it_is_delivered(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = store.start("lab", "run", kind=tracking.RUN)
    dead = json.dumps({**json.loads(this_process()), "born": "0"})
    recorder.tag({tracking.PROCESS: dead})
    store.courier.finish(recorder.run_id)
    journal = Journal.open(store.uri, recorder.run_id)
    journal.append({"at": 5000, "status": "FINISHED"})
    journal.close()
    with monkeypatch.context() as patch:

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(store.client, "set_terminated", full)
        assert store.close_gone([store.record(recorder.run_id)]) == []
        assert store.record(recorder.run_id).status == "RUNNING"
        with pytest.raises(LabError, match=r"wait on this machine and cannot be delivered \(.*No space left"):
            store.unfinished(tracking.KIND, tracking.RUN)
    assert store.close_gone([store.record(recorder.run_id)]) == []
    assert store.record(recorder.run_id).status == "FINISHED"
