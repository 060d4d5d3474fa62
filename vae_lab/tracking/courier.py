"""Brings this process's records to their store: to a database at once, to a server by a thread.

A store that does not take records stops nobody: they wait in the spools of their runs, and a thread tries
again. What still waits when the process ends is delivered by `vae-lab sync`.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time

from mlflow import MlflowClient

from vae_lab.errors import LabError
from vae_lab.tracking.address import is_server, store_address, store_name
from vae_lab.tracking.delivery import (
    TAKEN_OVER,
    deliver,
    drain,
    drain_folder,
    refusal,
    taken_over,
    trouble_of_run,
    why,
)
from vae_lab.tracking.folders import spool_folder, unwritable
from vae_lab.tracking.records import ATTEMPT
from vae_lab.tracking.servers import trouble_with
from vae_lab.tracking.spool import Record, Spool

log = logging.getLogger(__name__)

RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)  # between attempts at a store that is away; the last one stays
AWAY_PATIENCE = 10.0  # seconds that the end of a run waits for a store that is away
SLOW_PATIENCE = 60.0  # seconds that it waits for one that is slow, after the last record that it took
VAIN_SECONDS = 60.0  # after a vain wait nobody waits again for a store that is still away


class Courier:
    """One store's deliveries in this process; safe to use from several threads.

    Use `courier_of`.
    """

    def __init__(self, uri: str, client: MlflowClient) -> None:
        self.uri, self.client, self.name = uri, client, store_name(uri)
        self.remote = is_server(uri)
        self.away = ""  # why the store does not take records; empty while it does
        self._vain = -VAIN_SECONDS  # when a wait for it was given up last, by the monotonic clock
        self._spools: dict[str, Spool] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def spool(self, run_id: str) -> Spool:
        """Returns the run's spool, opened if this process has not.

        Raises:
            LabError: It cannot be written.
        """
        with self._changed:
            if run_id not in self._spools:
                self._spools[run_id] = Spool.open(self.uri, run_id)
            return self._spools[run_id]

    def submit(self, run_id: str, record: Record, *, wait: bool = False) -> None:
        """Hands a record to a database, or leaves it to the thread if it is for a server or others wait.

        Args:
            run_id: The run.
            record: What to tell of it.
            wait: Whether to wait until the store has it.

        Raises:
            LabError: The store refuses a record of this run, or neither store nor disk takes it.
        """
        spool, away = self.spool(run_id), None
        waits = self.remote or self._thread is not None
        if not waits:
            waits = (away := self._deliver_now(spool, record)) is not None
        if waits:
            try:
                spool.append(record)
            except OSError as full:  # then what waits goes to the store now, and the record after it
                if away := away or self._deliver_now(spool, record):
                    reason = trouble_of_run(away) or why(away)
                    either = f"{self.name} does not take records either: {reason}."
                    raise LabError(f"{unwritable(spool.folder, full)} {either}") from away
            else:
                with self._changed:
                    if away is not None:
                        self._note_trouble(spool, away)
                    self._work()
        self._raise_refused(spool)
        if wait:
            self.finish(run_id)

    def _deliver_now(self, spool: Spool, record: Record) -> Exception | None:
        """Hands over what waits and then the record; returns why the store does not take it now."""
        try:
            with spool.delivering:
                drain(self.client, spool)
                if taken_over(self.client, spool, record):
                    reason = TAKEN_OVER
                else:
                    deliver(self.client, spool.run_id, record)
                    spool.attempt = record.tags.get(ATTEMPT) or spool.attempt
                    return None
        except Exception as error:
            spool.attempt = None
            if not (reason := refusal(error)):
                return error
        try:
            spool.set_aside(spool.append(record), f"({record.content}) {reason}")
        except OSError:  # it is said, but cannot be kept
            spool.refused.append(f"a record ({record.content}) {reason}")
        return None

    def settle(self, run_id: str) -> int:
        """Waits until the store has the run's records, or it is vain to wait; returns how many are left.

        It is vain for a while once the store was waited for, and where the store answers and has no such run.
        """
        spool = self._spools.get(run_id)
        if spool is None:
            return 0
        with self._changed:
            if spool.pending:
                self._work()
                self._changed.notify_all()  # no pause before the next attempt
            begin, last = time.monotonic(), spool.pending
            while spool.pending and not spool.held_up:
                if self.away and time.monotonic() - self._vain < VAIN_SECONDS:
                    break
                self._changed.wait(0.1)
                if spool.pending != last:
                    begin, last = time.monotonic(), spool.pending
                if time.monotonic() - begin > (AWAY_PATIENCE if self.away else SLOW_PATIENCE):
                    self._vain = time.monotonic()
                    break
        self._raise_refused(spool)
        return spool.pending

    def catch_up(self, run_id: str) -> str:
        """Delivers what processes that ended left of a run, without waiting for a store that is away.

        Returns:
            The reason if something still waits, else an empty text.
        """
        for folder in sorted(spool_folder(self.uri).glob(f"{run_id}*")):
            backlog = drain_folder(self.client, folder)
            for sentence in backlog.refused:
                log.warning(f"{self.name}: run {run_id}: {sentence}")
            if backlog.note:
                return backlog.note
        return ""

    def finish(self, run_id: str) -> None:
        """Settles the run and closes its spool; if records are left, the thread goes on and this says so."""
        spool = self._spools.get(run_id)
        try:
            left = self.settle(run_id)
        finally:
            with self._changed:
                if run_id in self._spools and not self._spools[run_id].pending:
                    self._spools.pop(run_id).close()
        if left and spool is not None:
            reason, until = (f" ({spool.held_up})", "takes them") if spool.held_up else ("", "is back")
            log.warning(
                f"{left} records of run {run_id[:8]} wait for {self.name}{reason}. "
                f"Once it {until}, deliver them with: vae-lab sync"
            )

    def settle_all(self) -> None:
        """Settles every run of this process."""
        for run_id in list(self._spools):
            self.settle(run_id)

    def close(self) -> None:
        """At the end of the process: a last chance for what waits, then empty spools are removed."""
        try:
            if not self.away:
                self.settle_all()
        except LabError as error:
            log.warning(str(error))
        with self._changed:
            for spool in [spool for spool in self._spools.values() if not spool.pending]:
                self._spools.pop(spool.run_id).close()

    def _raise_refused(self, spool: Spool) -> None:
        sentences, spool.refused = spool.refused, []
        if sentences:
            raise LabError(f"{self.name}: run {spool.run_id}: {'; '.join(sentences)}")

    def _work(self) -> None:
        """Starts the thread unless it is at work. The caller holds the condition."""
        if not self.away:
            self._changed.notify_all()  # it may rest because of a run that the store has not
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"courier {self.name}", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        attempt = 0
        while True:
            with self._changed:
                busy = [spool for spool in self._spools.values() if spool.pending]
                if not busy:
                    self._thread = None  # the next record starts another
                    return
            try:
                if self.away and self.remote and (trouble := trouble_with(self.uri)):
                    raise LabError(trouble.reason)
                is_taken = False
                for spool in busy:  # a record of each, so that none waits for all of another's
                    if self._takes_one(spool):
                        is_taken, attempt = True, 0
                if is_taken:
                    continue
            except Exception as error:
                with self._changed:
                    self._note_away(error)
            with self._changed:
                self._changed.wait(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
            attempt += 1

    def _takes_one(self, spool: Spool) -> bool:
        """Hands over the oldest record of a run; returns whether the store takes any of that run now.

        Raises:
            Exception: Whatever MLflow and its storage raise while they take those of no run.
        """
        if spool.held_up and time.monotonic() < spool.rests_until:
            return False
        try:
            drain(self.client, spool, at_most=1)
        except Exception as error:
            if not trouble_of_run(error):
                raise
            with self._changed:
                self._note_trouble(spool, error)
                self._changed.notify_all()
            return False
        with self._changed:
            self._note_back()
            if spool.held_up:
                spool.held_up = ""
                log.warning(f"{self.name} takes the records of run {spool.run_id[:8]} again.")
            self._changed.notify_all()
        return True

    def _note_trouble(self, spool: Spool, error: Exception) -> None:
        """Notes why a record waits: the store is away, or takes none of its run.

        The caller holds the condition.
        """
        if not (reason := trouble_of_run(error)):
            self._note_away(error)
            return
        if not spool.held_up:
            self.away = ""  # it answers
            log.warning(
                f"{self.name} takes no records of run {spool.run_id[:8]} ({reason}): training goes on, they "
                "wait on this machine."
            )
        spool.held_up, spool.rests_until = reason, time.monotonic() + RETRY_SECONDS[-1]

    def _note_away(self, error: Exception) -> None:
        if not self.away:
            self.away = why(error)
            log.warning(
                f"{self.name} takes no records ({self.away}): training goes on, they wait on this machine."
            )

    def _note_back(self) -> None:
        if self.away:
            self.away, self._vain = "", -VAIN_SECONDS
            count = sum(spool.pending for spool in self._spools.values() if not spool.held_up) + 1
            log.warning(f"{self.name} is back and gets the {count} records that waited.")


_couriers: dict[str, Courier] = {}
_making = threading.Lock()


def courier_of(uri: str, client: MlflowClient) -> Courier:
    """Returns the one courier that this process has for a store."""
    with _making:
        address = store_address(uri)
        if address not in _couriers:
            _couriers[address] = Courier(uri, client)
            atexit.register(_couriers[address].close)
        return _couriers[address]
