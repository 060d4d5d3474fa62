"""Which process is at work on a run, whether it still is, and the folder that it holds meanwhile.

STATE/runs/KEY/RUN/epoch.pt     the run's last finished epoch; KEY is a hash of the store's address
STATE/runs/KEY/RUN/lock         held by the process that is at work on the run
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from vae_lab.tracking.folders import lock_folder, run_folder, unwritable
from vae_lab.tracking.records import (
    HEARTBEAT,
    KIND,
    LATEST,
    PROCESS,
    SWEEP,
    WAITING,
    WORKER,
    StoredRun,
    parsed_object,
    whole_number,
)

CHECKPOINT_FILE = "epoch.pt"
LEAST_SILENCE = 600.0  # seconds without an epoch after which a process on another machine may be given up
SILENT_EPOCHS = 10  # and so many times its usual epoch must have gone by
LONG_SILENCE = 6 * 3600.0  # the same before the first epoch and after the last, whose length nobody knows


class RunFolder:
    """A run's folder on this machine, held by this process until it is let go or ends.

    Use `RunFolder.lock`.
    """

    def __init__(self, folder: Path, lock: FileLock) -> None:
        self.folder, self._lock = folder, lock

    @classmethod
    def lock(cls, uri: str, run_id: str) -> RunFolder | None:
        """Returns the run's folder, made if it is not there; None if another process holds it.

        Raises:
            LabError: The disk is full or cannot be written.
        """
        folder = run_folder(uri, run_id)
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = lock_folder(folder)
            for scratch in folder.glob(f".{CHECKPOINT_FILE}.*") if lock is not None else ():
                scratch.unlink(missing_ok=True)  # of a process that was killed while it wrote
        except OSError as error:
            raise unwritable(folder, error) from error
        return None if lock is None else cls(folder, lock)

    @property
    def checkpoint(self) -> Path:
        """The file of the last finished epoch."""
        return self.folder / CHECKPOINT_FILE

    def release(self, *, forget: bool = False) -> None:
        """Lets the folder go; with `forget`, or with nothing in it, it is removed."""
        if forget or not self.checkpoint.exists():
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()


def forget(uri: str, run_id: str) -> None:
    """Removes what a run needed to go on, unless a process is at work on it."""
    if run_folder(uri, run_id).exists() and (locked := RunFolder.lock(uri, run_id)) is not None:
        locked.release(forget=True)


def checkpoint_files(uri: str) -> list[Path]:
    """Returns the checkpoints on this machine of a store's runs, which can go on."""
    return sorted(run_folder(uri, "*").parent.glob(f"*/{CHECKPOINT_FILE}"))


def this_process() -> str:
    """Returns the value of the tag PROCESS: which process of which machine is at work on a run."""
    machine = {"host": platform.node(), "machine": _machine(), "boot": _boot(), "space": _space()}
    return json.dumps({**machine, **_job(), "pid": os.getpid(), "born": _born(os.getpid())})


def process_end(run: StoredRun, uri: str, *, heard: int = 0) -> str:
    """Returns why a RUNNING run's process can no longer be at work on it; empty if it may be.

    A process of this machine is looked up, so one that was merely stopped counts as at work; of one of
    another container here, the run's folder tells, which it holds. Of another start of a machine of this
    name it has ended if it was last heard of before this machine was started, and the run's folder lies
    here, let go: machines of one image have one name. One of another machine has ended if it was of this
    very job, which was requeued since; else it is given up when it has been silent for `SILENT_EPOCHS` of
    its epochs, and for ten minutes; before its first epoch and after its last, while it takes its final
    measures, and while it waits for a worker, for six hours.

    Args:
        run: The run.
        uri: Its store.
        heard: When its process was heard of by other runs, in milliseconds since 1970; `ends_in` asks them.
    """
    if run.status != "RUNNING" or PROCESS not in run.tags:
        return ""
    process = parsed_object(run.tags[PROCESS])
    label = _label(process)
    if _is_here(process):
        if process.get("space") == _space():
            born = _born(_whole(process.get("pid")))
            return "" if born and born == process.get("born") else f"{label} ended without closing it"
        if _is_let_go(run_folder(uri, run.run_id)):
            return f"{label} ended without closing it"
    elif (
        _has_our_name(process)
        and max(_last_sign(run), heard / 1000) < _started()
        and _is_let_go(run_folder(uri, run.run_id))
    ):
        return f"{label} ended when the machine was restarted"
    job = _job()
    if job and process.get("job") == job["job"] and _whole(process.get("restarts")) < _whole(job["restarts"]):
        return f"{label} ended when job {job['job']} was requeued"
    silent, patience = _silence(run, heard)
    return f"{label} has been silent for {silent / 60:.0f} minutes" if silent > patience else ""


def is_of_this_machine(run: StoredRun) -> bool:
    """Returns whether a process of this machine, which was not restarted since, was last at work on a run."""
    return _is_here(parsed_object(run.tags.get(PROCESS, "")))


def at_work(run: StoredRun) -> str:
    """Returns in words which process is at work on a run that `process_end` does not say has ended."""
    process = parsed_object(run.tags.get(PROCESS, ""))
    if _is_here(process):
        return f"{_label(process)} is at work on it"
    if gives_no_sign(run):
        return f"{_label(process)} may be at work on it"
    silent, patience = _silence(run)
    return (
        f"{_label(process)} may be at work on it: it was heard of {silent / 60:.0f} minutes ago, and is "
        f"given up after {patience / 60:.0f}"
    )


def _label(process: Mapping[str, Any]) -> str:
    return f"process {process.get('pid')} on {process.get('host')}"


def _is_here(process: Mapping[str, Any]) -> bool:
    """Returns whether a process began under this start of this machine, whose name may have changed since."""
    if boot := _boot():
        return process.get("boot") == boot
    return _has_our_name(process)


def _has_our_name(process: Mapping[str, Any]) -> bool:
    """Returns whether a process's machine is called as this one, as another of the same image may be, too."""
    return (process.get("host"), process.get("machine")) == (platform.node(), _machine())


def _is_let_go(folder: Path) -> bool:
    """Returns whether a run's folder lies on this machine and no process holds it any more."""
    if not (folder / "lock").exists():
        return False
    try:
        lock = lock_folder(folder)
    except OSError:  # it cannot be told
        return False
    if lock is not None:
        lock.release()
    return lock is not None


def heartbeat(run: StoredRun) -> dict[str, int]:
    """Returns a run's last finished `epoch` and when it was recorded, `at` (milliseconds).

    Empty before the first epoch.

    Examples:
        >>> run = StoredRun("1f", "1", "vae", "RUNNING", {}, {}, {HEARTBEAT: '{"epoch": 3, "at": 1700}'}, 0)
        >>> heartbeat(run)
        {'epoch': 3, 'at': 1700}
    """
    beat = parsed_object(run.tags.get(HEARTBEAT, ""))
    return {key: value for key, value in beat.items() if isinstance(value, int) and 0 <= value < LATEST}


def gives_no_sign(run: StoredRun) -> bool:
    """Returns whether a run gives no sign of life while its process is at work: it waits, or is a parent."""
    return WAITING in run.tags or run.tags.get(KIND) == SWEEP


def _silence(run: StoredRun, heard: int = 0) -> tuple[float, float]:
    """Returns for how many seconds a run has been silent, and after how many it is given up."""
    at, epoch = _last_sign(run), heartbeat(run).get("epoch", 0)
    usual = (at - run.started / 1000) / epoch if epoch else 0.0
    between = 0 < epoch < _whole(run.params.get("train.epochs")) and run.tags.get(WAITING) != WORKER
    least = LEAST_SILENCE if between else LONG_SILENCE
    return time.time() - max(at, heard / 1000), max(least, SILENT_EPOCHS * usual)


def _last_sign(run: StoredRun) -> float:
    """Returns when a run was last heard of, in seconds since 1970: at its last epoch, else at its start."""
    return heartbeat(run).get("at", run.started) / 1000


def _whole(text: Any) -> int:
    """Returns a number that was written down; 0 if it is none."""
    return whole_number(str(text)) or 0


def _job() -> dict[str, str]:
    """Returns the cluster job that this process belongs to and how often it was requeued; else empty.

    Processes of one job on several machines count the same restarts; a job is requeued when all have ended.
    """
    cluster, number = (os.environ.get(f"SLURM_{name}", "") for name in ("CLUSTER_NAME", "JOB_ID"))
    job = " ".join(filter(None, [cluster, number])) if number else ""
    return {"job": job, "restarts": os.environ.get("SLURM_RESTART_COUNT", "0")} if job else {}


def _machine() -> str:
    """Returns which machine this is, where the system tells: two may have one name."""
    try:
        return Path("/etc/machine-id").read_text().strip()[:8]
    except OSError:
        return ""


def _boot() -> str:
    """Returns which start of the machine this is, where the system tells."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    except OSError:
        return ""


def _started() -> float:
    """Returns when the machine was started, in seconds since 1970; 0 where the system does not tell."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return 0.0
    return float(next((line.split()[1] for line in lines if line.startswith("btime ")), 0))


def _space() -> str:
    """Returns in which space process numbers have their meaning: two containers of one host count apart."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _born(pid: int) -> str:
    """Returns when a process began, in whatever form the system tells; empty if there is no such process.

    Linux counts from the machine's start, so that a clock which is set does not move it.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
        state, *rest = text.rpartition(")")[2].split()
        return "" if state == "Z" else rest[18]  # a zombie has ended; field 22 is the start
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return ""
    listed = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True)
    return listed.stdout.strip()
