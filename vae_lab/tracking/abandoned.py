"""Runs whose process has ended before they did: closed by the next command, or resumed."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from vae_lab.errors import LabError
from vae_lab.tracking.address import store_name
from vae_lab.tracking.processes import RunFolder, forget, heartbeat, process_end
from vae_lab.tracking.records import ERROR, FINGERPRINT, StoredRun

if TYPE_CHECKING:  # only named: it brings MLflow with it
    from vae_lab.tracking.store import Store


def close_abandoned(store: Store, runs: Iterable[StoredRun]) -> list[StoredRun]:
    """Closes those of the runs whose process has ended, as KILLED and with the reason, and returns them.

    What waits of such a run on this machine is delivered first: it may have finished. Where the store
    does not take that now, or only lets itself be read, the run is left as it is.
    """
    abandoned = [run for run in runs if process_end(run, store.uri)]
    if not abandoned or store.refuses_writes():
        return []
    store.settle()
    closed = []
    for run in abandoned:
        folder = RunFolder.lock(store.uri, run.run_id)
        if folder is None:  # or another process is at work on it now
            continue
        try:
            if store.courier.catch_up(run.run_id):
                continue
            now = store.record(run.run_id)
            if reason := process_end(now, store.uri):
                recorder = store.recorder(now)
                recorder.tag({ERROR: reason})
                recorder.finish("KILLED", when=heartbeat(now).get("at"))
                closed.append(now)
        finally:
            folder.release()
    return closed


def check_delivered(store: Store, runs: Iterable[StoredRun]) -> None:
    """Asks whether the store has all of those runs whose process has ended.

    Raises:
        LabError: It does not take what waits of one.
    """
    for run in runs:
        if process_end(run, store.uri) and (reason := store.courier.catch_up(run.run_id)):
            raise LabError(
                f"{store_name(store.uri)}: records of run {run.run_id} wait on this machine and cannot be "
                f"delivered ({reason}). Once they can, the same command goes on."
            )


def newest_finished(runs: Iterable[StoredRun]) -> StoredRun | None:
    """Returns the first of the runs, newest first, that has finished; it is taken in place of another one."""
    return next((run for run in runs if run.status == "FINISHED"), None)


def finished_run(store: Store, fingerprint: str) -> StoredRun | None:
    """Returns the newest finished run with this fingerprint; what waits of a dead process may say so."""
    return finished_runs(store, [fingerprint]).get(fingerprint)


def finished_runs(store: Store, fingerprints: Collection[str]) -> dict[str, StoredRun]:
    """Returns the newest finished run of each fingerprint that has one, as `finished_run` does."""
    runs = store.any_tagged(FINGERPRINT, fingerprints)
    if any(process_end(run, store.uri) for run in runs):
        close_abandoned(store, runs)
        runs = store.any_tagged(FINGERPRINT, fingerprints)
    by_fingerprint: dict[str, list[StoredRun]] = {}
    for run in runs:
        by_fingerprint.setdefault(run.tags[FINGERPRINT], []).append(run)
    newest = {fingerprint: newest_finished(alike) for fingerprint, alike in by_fingerprint.items()}
    finished = {fingerprint: run for fingerprint, run in newest.items() if run is not None}
    for run in finished.values():  # its process may have ended before it did so
        store.courier.catch_up(run.run_id)
        forget(store.uri, run.run_id)
    return finished


def unfinished_runs(store: Store, key: str, value: str) -> list[StoredRun]:
    """Returns the runs with this tag that began and did not finish, newest first.

    Those whose process has ended are closed; one that is still RUNNING has one that may be at work.

    Raises:
        LabError: The store does not take what waits of one, which may have finished.
    """
    store.settle()
    runs = [run for run in store.tagged(key, value) if run.status != "FINISHED"]
    closed = {run.run_id for run in close_abandoned(store, runs)}
    check_delivered(store, [run for run in runs if run.run_id not in closed])
    return [replace(run, status="KILLED") if run.run_id in closed else run for run in runs]


def runs_under_way(store: Store, key: str, value: str) -> list[StoredRun]:
    """Returns those of the `unfinished_runs` whose process may be at work."""
    return [run for run in unfinished_runs(store, key, value) if run.status == "RUNNING"]
