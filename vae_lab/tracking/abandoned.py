"""Runs whose process has ended before they did: closed by the next command, or resumed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from vae_lab.errors import LabError
from vae_lab.tracking.address import store_name
from vae_lab.tracking.processes import RunFolder, forget, gives_no_sign, heartbeat, process_end
from vae_lab.tracking.records import ERROR, FINGERPRINT, LATEST, PARENT, PROCESS, SWEEP, StoredRun

if TYPE_CHECKING:  # only named: it brings MLflow with it
    from vae_lab.tracking.store import Store


class Tagged(Protocol):
    """A store that is asked for the runs with a tag."""

    uri: str

    def tagged(self, key: str, value: str) -> list[StoredRun]:
        """Returns all active runs whose tag has this value."""


def ends_in(store: Tagged) -> Callable[[StoredRun], str]:
    """Returns what says of a store's runs why no process can be at work on them, as `process_end` does.

    A run that gives no sign of life itself is not given up for its silence before others have been asked,
    once for all of whom they say it: the process of one that waits is at work while it is on another, and a
    multirun is under way while one of its runs is.
    """
    others_with = functools.cache(store.tagged)

    def end(run: StoredRun) -> str:
        reason = process_end(run, store.uri)
        if not reason or not gives_no_sign(run):
            return reason
        if process_end(run, store.uri, heard=LATEST):  # it is certain, and not for its silence
            return reason
        is_parent = run.kind == SWEEP
        others = others_with(PARENT, run.run_id) if is_parent else others_with(PROCESS, run.tags[PROCESS])
        under_way = [other for other in others if other.status == "RUNNING" and not gives_no_sign(other)]
        if any(not process_end(other, store.uri) for other in under_way):
            return ""
        return process_end(run, store.uri, heard=max(map(_last_sign, others), default=0))

    return end


def _last_sign(run: StoredRun) -> int:
    """Returns when the process of a run was last heard of by it, in milliseconds since 1970."""
    # One that is KILLED may have been closed by another process.
    ended = run.ended if run.status in ("FINISHED", "FAILED") else 0
    return max(run.started, heartbeat(run).get("at", 0), ended)


def close_abandoned(store: Store, runs: Iterable[StoredRun]) -> list[StoredRun]:
    """Closes those of the runs whose process has ended, as KILLED and with the reason, and returns them.

    What waits of such a run on this machine is delivered first: it may have finished. Where the store
    does not take that now, or only lets itself be read, the run is left as it is.
    """
    end = ends_in(store)
    abandoned = [run for run in runs if end(run)]
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
            if reason := end(now):
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
    end = ends_in(store)
    for run in runs:
        if end(run) and (reason := store.courier.catch_up(run.run_id)):
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
    if any(map(ends_in(store), runs)):
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
