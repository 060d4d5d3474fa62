"""Whether the process that works on a run is still there, and the folder that it holds."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from vae_lab.tracking import (
    HEARTBEAT,
    KIND,
    PARENT,
    PROCESS,
    SWEEP,
    TURN,
    WAITING,
    WORKER,
    RunFolder,
    StoredRun,
    process_end,
    processes,
)
from vae_lab.tracking.abandoned import ends_in
from vae_lab.tracking.processes import LEAST_SILENCE, at_work, is_of_this_machine, this_process

STORE = "sqlite:////nowhere/mlflow.db"


def running(process: str, *, began: float = 0.0, epoch: int = 0, heard: float = 0.0) -> StoredRun:
    """A RUNNING run that began, and was heard of, so many seconds ago."""
    now = time.time()
    tags = {PROCESS: process}
    if epoch:
        tags[HEARTBEAT] = json.dumps({"epoch": epoch, "at": int((now - heard) * 1000)})
    params = {"train.epochs": "1000"}
    return StoredRun("run", "1", "run", "RUNNING", params, {}, tags, int((now - began) * 1000))


def changed(**keys: object) -> str:
    return json.dumps({**json.loads(this_process()), **keys})


def test_a_run_of_this_process_goes_on_however_silent_it_is() -> None:
    assert not process_end(running(this_process(), began=1e6), STORE)


def test_a_process_that_ended_is_gone_also_where_its_number_is_taken_again() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert "ended without closing it" in process_end(running(changed(pid=child.pid)), STORE)
    assert "ended without closing it" in process_end(running(changed(born="1")), STORE)


def test_a_stopped_process_is_not_gone_and_a_zombie_is() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    born = Path(f"/proc/{child.pid}/stat")
    if not born.exists():
        pytest.skip("needs /proc")
    process = changed(pid=child.pid, born=born.read_text().rpartition(")")[2].split()[19])
    os.kill(child.pid, signal.SIGSTOP)
    assert not process_end(running(process, began=1e6), STORE)
    os.kill(child.pid, signal.SIGKILL)
    while not process_end(running(process), STORE):
        time.sleep(0.01)
    child.wait()
    assert process_end(running(process), STORE)


UP = 300.0  # seconds since this machine was started, where a test says so


@pytest.fixture
def started(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_started", lambda: time.time() - UP)


def leave_a_folder() -> None:
    """The folder of the run here, which a process held that has ended."""
    held = RunFolder.lock(STORE, "run")
    assert held is not None
    held.checkpoint.write_text("kept")
    held.release()


@pytest.mark.usefixtures("started")
def test_a_restart_of_the_machine_ends_every_process() -> None:
    leave_a_folder()
    assert "restarted" in process_end(running(changed(boot="another"), began=UP + 60), STORE)
    heard = running(changed(boot="another"), began=UP + 900, epoch=3, heard=UP + 2)
    assert "restarted" in process_end(heard, STORE)


@pytest.mark.usefixtures("started")
def test_another_machine_of_the_same_image_and_name_was_not_restarted() -> None:
    process = changed(boot="another")
    early = running(process, began=UP + 60)
    assert not process_end(early, STORE), "it holds its folder elsewhere"
    assert "silent for 20 minutes" in process_end(running(process, began=1260, epoch=1, heard=1200), STORE)
    folder = RunFolder.lock(STORE, early.run_id)
    assert folder is not None
    assert not process_end(early, STORE), "it holds its folder, which both share"
    folder.release()
    leave_a_folder()
    heard = running(process, began=UP + 900, epoch=3, heard=UP - 2)
    assert not process_end(heard, STORE), "it was heard of since this one was started"
    assert not process_end(running(process, began=UP - 2), STORE)


def test_when_the_machine_was_started_is_known_where_the_system_tells() -> None:
    uptime = Path("/proc/uptime")
    if not uptime.exists():
        pytest.skip("needs /proc")
    assert time.time() - processes._started() == pytest.approx(float(uptime.read_text().split()[0]), abs=2)


ELSEWHERE = {"host": "another", "boot": "another"}


@pytest.mark.parametrize("place", [ELSEWHERE, {"space": "another"}], ids=["machine", "container"])
def test_a_process_elsewhere_is_given_up_after_a_long_silence_only(
    folder: Path, place: dict[str, str]
) -> None:
    process = changed(**place)
    assert not process_end(running(process, began=LEAST_SILENCE, epoch=1, heard=LEAST_SILENCE - 60), STORE)
    assert "silent for 20 minutes" in process_end(running(process, began=1260, epoch=1, heard=1200), STORE)
    # Its epochs take an hour: two hours without one are not long.
    assert not process_end(running(process, began=5 * 3600, epoch=3, heard=2 * 3600), STORE)
    assert process_end(running(process, began=3600, epoch=100, heard=1200), STORE)


def test_a_requeued_job_takes_over_from_itself_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    elsewhere = changed(**ELSEWHERE)
    assert not process_end(running(elsewhere, began=60), STORE), "a second machine of the same job"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert "job 4711 was requeued" in process_end(running(elsewhere, began=60), STORE)
    assert not process_end(running(changed(**ELSEWHERE), began=60), STORE), "both were requeued"
    monkeypatch.setenv("SLURM_JOB_ID", "4712")
    assert not process_end(running(elsewhere, began=60), STORE), "another job"


def test_a_run_that_ended_or_that_names_no_process_is_left_alone() -> None:
    assert not process_end(StoredRun("run", "1", "run", "RUNNING", {}, {}, {}, 0), STORE)
    ended = running(changed(born="1"))
    assert not process_end(StoredRun(**{**vars(ended), "status": "FINISHED"}), STORE)


def test_a_damaged_note_of_the_process_says_nothing_of_this_machine() -> None:
    assert not process_end(running("{"), STORE)
    assert process_end(running("[]", began=1e6), STORE)
    pids: tuple[object, ...] = ("x", None, [], -1)
    for pid in pids:
        assert process_end(running(changed(pid=pid)), STORE)
    beaten = running(changed(**ELSEWHERE), began=1e6)
    assert process_end(
        StoredRun(**{**vars(beaten), "tags": {**beaten.tags, HEARTBEAT: '{"epoch": "x", "at": []}'}}), STORE
    )


def test_another_machine_of_the_same_name_is_another() -> None:
    assert not process_end(running(changed(machine="another", boot="another")), STORE)


def test_what_takes_long_before_the_first_epoch_and_after_the_last_is_waited_for() -> None:
    elsewhere = changed(**ELSEWHERE)
    assert not process_end(running(elsewhere, began=3600), STORE)
    measuring = running(elsewhere, began=7200, epoch=10, heard=3600)
    assert not process_end(StoredRun(**{**vars(measuring), "params": {"train.epochs": "10"}}), STORE)
    assert process_end(StoredRun(**{**vars(measuring), "params": {"train.epochs": "11"}}), STORE)


def test_one_process_holds_a_run_at_a_time(folder: Path) -> None:
    run_folder = RunFolder.lock("sqlite:///x", "run")
    assert run_folder is not None
    assert RunFolder.lock("sqlite:///x", "run") is None
    run_folder.checkpoint.write_text("kept")
    run_folder.release()
    again = RunFolder.lock("sqlite:///x", "run")
    assert again is not None
    assert again.checkpoint.read_text() == "kept"
    again.release(forget=True)
    assert not again.folder.exists()


def test_what_a_killed_writer_left_is_cleared_away(folder: Path) -> None:
    run_folder = RunFolder.lock("sqlite:///x", "run")
    assert run_folder is not None
    (run_folder.folder / ".epoch.pt.123").write_text("half")
    run_folder.checkpoint.write_text("kept")
    run_folder.release()
    again = RunFolder.lock("sqlite:///x", "run")
    assert again is not None
    assert sorted(path.name for path in again.folder.iterdir()) == ["epoch.pt", "lock"]
    again.release()


def test_a_machine_that_has_another_name_now_is_still_the_same() -> None:
    assert not process_end(running(changed(host="another"), began=1e6), STORE)
    assert "on another ended without closing it" in process_end(
        running(changed(host="another", born="1")), STORE
    )


def test_the_folder_of_a_run_tells_whether_a_container_that_was_restarted_is_at_work(folder: Path) -> None:
    before = running(changed(host="another", space="another"))
    assert not process_end(before, STORE), "the run's folder may be elsewhere"
    held = RunFolder.lock(STORE, before.run_id)
    assert held is not None
    held.checkpoint.write_text("kept")
    assert not process_end(before, STORE)
    held.release()
    assert "ended without closing it" in process_end(before, STORE)
    assert not process_end(running(changed(**ELSEWHERE)), STORE), (
        "a folder that two machines share tells nothing"
    )
    assert held.checkpoint.read_text() == "kept"


def test_what_is_at_work_is_said_for_certain_or_with_what_is_known() -> None:
    pid = os.getpid()
    here = running(changed(host="here"))
    assert is_of_this_machine(here)
    assert at_work(here) == f"process {pid} on here is at work on it"
    elsewhere = running(changed(**ELSEWHERE), began=900, epoch=1, heard=120)
    assert not is_of_this_machine(elsewhere)
    heard = "it was heard of 2 minutes ago, and is given up after 130"
    assert at_work(elsewhere) == f"process {pid} on another may be at work on it: {heard}"


class Runs:
    """Runs of a store, which are asked for by a tag."""

    uri = STORE

    def __init__(self, *runs: StoredRun) -> None:
        self.runs, self.questions = runs, 0

    def tagged(self, key: str, value: str) -> list[StoredRun]:
        self.questions += 1
        return [run for run in self.runs if run.tags.get(key) == value]


def with_tag(run: StoredRun, key: str, value: str) -> StoredRun:
    return replace(run, tags={**run.tags, key: value})


def test_a_run_that_waits_for_its_turn_is_given_up_with_its_process_and_not_before() -> None:
    process, now = changed(**ELSEWHERE), int(time.time() * 1000)
    waits = with_tag(running(process, began=7200, epoch=100, heard=3600), WAITING, TURN)
    trained = running(process, began=7200, epoch=100, heard=60)
    silent = running(process, began=7200, epoch=100, heard=1800)
    assert process_end(waits, STORE), "by itself"
    assert not ends_in(Runs(waits, trained))(waits)
    assert not ends_in(Runs(waits, running(process, began=900)))(waits), "its first epoch may take hours"
    assert not ends_in(Runs(waits, replace(silent, status="FINISHED", ended=now - 60_000)))(waits)
    assert "silent for 30 minutes" in ends_in(Runs(waits, silent))(waits)
    assert ends_in(Runs(waits, replace(silent, status="KILLED", ended=now)))(waits), "another closed it"
    assert ends_in(Runs(waits, running(changed(host="third", boot="third"), began=60)))(waits)
    assert ends_in(Runs(trained, silent))(silent), "what is trained gives signs itself"


def test_many_runs_that_wait_ask_for_the_others_of_their_process_once() -> None:
    waits = with_tag(running(changed(**ELSEWHERE), began=7200, epoch=100, heard=3600), WAITING, TURN)
    store = Runs(*[waits] * 9)
    assert all(map(ends_in(store), store.runs))
    assert store.questions == 1


def test_a_run_that_waits_for_a_worker_is_given_up_as_one_whose_epochs_nobody_knows() -> None:
    process = changed(**ELSEWHERE)
    for hours, is_given_up in ((1, False), (7, True)):
        silent = running(process, began=(hours + 1) * 3600, epoch=100, heard=hours * 3600)
        waits = with_tag(silent, WAITING, WORKER)
        assert bool(ends_in(Runs(waits))(waits)) == is_given_up


def test_a_multirun_is_under_way_while_one_of_its_runs_is_whichever_process_trains_it() -> None:
    parent = with_tag(running(changed(**ELSEWHERE), began=10 * 3600), KIND, SWEEP)
    job = running(changed(host="third", boot="third"), began=7200, epoch=100, heard=60)
    run = with_tag(job, PARENT, parent.run_id)
    assert process_end(parent, STORE), "by itself"
    assert not ends_in(Runs(parent, run))(parent)
    assert ends_in(Runs(parent))(parent)
    ended = with_tag(parent, PROCESS, changed(born="1"))
    assert "ended without closing it" in ends_in(Runs(ended, run))(ended), "its runs may outlive it"
    assert at_work(parent) == f"process {os.getpid()} on another may be at work on it"
