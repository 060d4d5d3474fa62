"""Brings this process's records to their store: at once to a database, in the background to a server.

A store that does not take records stops nobody: they wait in the runs' journals and a thread tries again.
What still waits when the process ends is delivered by `vae-lab sync`.
"""

from __future__ import annotations

import atexit
import logging
import shutil
import threading
import time

from mlflow import MlflowClient

from vae_lab.errors import LabError
from vae_lab.tracking.address import named, silence
from vae_lab.tracking.delivery import RefusedError, deliver, deliver_first, refusal, why
from vae_lab.tracking.journal import Entry, Journal, reopened
from vae_lab.tracking.places import place_of

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
        self.uri, self.client, self.name = uri, client, named(uri)
        self.remote = uri.startswith(("http://", "https://"))
        self.away = ""  # why the store does not take records; empty while it does
        self._vain = -VAIN_SECONDS  # when a wait for it was given up last, by the monotonic clock
        self._journals: dict[str, Journal] = {}
        self._ended: set[str] = set()  # runs whose journals are closed once they are empty
        self._refused: dict[str, str] = {}  # by run, until its next call raises it
        self._changed = threading.Condition()
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None

    def journal(self, run_id: str) -> Journal:
        """The run's journal, opened if this process has not.

        Raises:
            LabError: it cannot be written.
        """
        with self._changed:
            self._ended.discard(run_id)
            if run_id not in self._journals:
                try:
                    self._journals[run_id] = Journal.open(self.uri, run_id)
                except OSError as error:
                    raise unwritable(self.uri, error) from error
            return self._journals[run_id]

    def submit(self, run_id: str, entry: Entry) -> None:
        """Writes a record to the run's journal and sees to its delivery.

        Raises:
            LabError: the store refuses a record of this run, or neither disk nor store takes it.
        """
        journal = self.journal(run_id)
        try:
            # A database has it on its disk in a moment, which is as durable as a journal can be.
            journal.append(entry, durable=self.remote and ("metrics" in entry or "status" in entry))
        except OSError as error:
            self._past_the_journal(journal, entry, error)
            return
        with self._changed:
            background = self.remote or self._thread is not None
            if background:
                self._work()
        if background:
            self._raise_refused(run_id)
        else:
            self._deliver_here(journal)

    def settle(self, run_id: str) -> int:
        """Waits until the store has the run's records, or it is vain to wait; gives how many are left."""
        journal = self._journals.get(run_id)
        if journal is None:
            return 0
        with self._changed:
            if journal.pending:
                self._hurry.set()
                self._work()
            begin, last = time.monotonic(), journal.pending
            while journal.pending and not (self.away and time.monotonic() - self._vain < VAIN_SECONDS):
                self._changed.wait(0.1)
                if journal.pending != last:
                    begin, last = time.monotonic(), journal.pending
                if time.monotonic() - begin > (AWAY_PATIENCE if self.away else SLOW_PATIENCE):
                    self._vain = time.monotonic()
                    break
        self._raise_refused(run_id)
        return journal.pending

    def catch_up(self, run_id: str) -> str:
        """Delivers what processes that ended left of a run, without waiting for a store that is away.

        Gives the reason if something still waits, else an empty text.
        """
        for folder in sorted(place_of(self.uri).glob(f"{run_id}*")):
            journal = reopened(folder)
            if journal is None:
                return "another process delivers its records"
            try:
                while True:
                    try:
                        if not deliver_first(self.client, journal):
                            break
                    except RefusedError as error:
                        log.warning(f"{self.name}: run {run_id}: {error}")
            except Exception as error:
                return why(error)
            finally:
                journal.close()
        return ""

    def finish(self, run_id: str) -> None:
        """Settles the run and closes its journal; if records are left it says so, and closes it later."""
        try:
            left = self.settle(run_id)
        finally:
            with self._changed:
                self._ended.add(run_id)
                self._close_ended()
        if left:
            log.warning(
                f"{left} records of run {run_id[:8]} wait for {self.name}. "
                "Once it is back, deliver them with: vae-lab sync"
            )

    def settle_all(self) -> None:
        """Settles every run of this process."""
        for run_id in list(self._journals):
            self.settle(run_id)

    def close(self) -> None:
        """At the end of the process: a last chance for what waits, then every journal is let go."""
        try:
            if not self.away:
                self.settle_all()
        except LabError as error:
            log.warning(str(error))
        with self._changed:
            self._ended |= set(self._journals)
            self._close_ended()

    def _deliver_here(self, journal: Journal) -> None:
        try:
            with journal.delivering:
                while deliver_first(self.client, journal):
                    pass
        except RefusedError as error:
            raise LabError(f"{self.name}: run {journal.run_id}: {error}") from error
        except Exception as error:
            with self._changed:
                self._note_away(error)
                self._work()

    def _past_the_journal(self, journal: Journal, entry: Entry, full: OSError) -> None:
        """Without room in the journal, what waits there goes to the store now and the record after it."""
        try:
            with journal.delivering:
                while deliver_first(self.client, journal):
                    pass
                faults = [f"{what} {reason}" for what, reason in deliver(self.client, journal, entry)]
        except Exception as error:
            if reason := refusal(error) or (str(error) if isinstance(error, RefusedError) else ""):
                raise LabError(f"{self.name}: run {journal.run_id}: {reason}") from error
            raise LabError(
                f"{unwritable(self.uri, full)} {self.name} does not take records either: {why(error)}."
            ) from error
        if "files" in entry:
            shutil.rmtree(journal.files / entry["files"], ignore_errors=True)
        if faults:
            raise LabError(f"{self.name}: run {journal.run_id}: {'; '.join(faults)}")

    def _raise_refused(self, run_id: str) -> None:
        with self._changed:
            reason = self._refused.pop(run_id, "")
        if reason:
            raise LabError(f"{self.name}: run {run_id}: {reason}")

    def _work(self) -> None:
        """Starts the thread unless it is at work. The caller holds the condition."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"courier {self.name}", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        attempt = 0
        while True:
            with self._changed:
                self._close_ended()
                busy = [journal for journal in self._journals.values() if journal.pending]
                if not busy:
                    self._thread = None  # the next record starts another
                    return
            if self.away and self.remote and silence(self.uri):
                self._pause(attempt)
                attempt += 1
                continue
            for journal in busy:
                try:
                    with journal.delivering:
                        deliver_first(self.client, journal)
                except RefusedError as error:
                    with self._changed:
                        self._refused[journal.run_id] = str(error)
                except Exception as error:
                    with self._changed:
                        self._note_away(error)
                    self._pause(attempt)
                    attempt += 1
                    break
                attempt = 0
                with self._changed:
                    self._note_back()
                    self._changed.notify_all()

    def _pause(self, attempt: int) -> None:
        if self._hurry.wait(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)]):
            self._hurry.clear()
            time.sleep(RETRY_SECONDS[0])

    def _note_away(self, error: Exception) -> None:
        if not self.away:
            self.away = why(error)
            log.warning(
                f"{self.name} takes no records ({self.away}): training goes on, they wait on this machine."
            )

    def _note_back(self) -> None:
        if self.away:
            self.away, self._vain = "", -VAIN_SECONDS
            waiting = sum(journal.pending for journal in self._journals.values()) + 1
            log.warning(f"{self.name} is back and gets the {waiting} records that waited.")

    def _close_ended(self) -> None:
        """Closes the journals of ended runs that are empty. The caller holds the condition."""
        for run_id in [each for each in self._ended if each in self._journals]:
            if not self._journals[run_id].pending:
                self._journals.pop(run_id).close()
                self._ended.discard(run_id)


def unwritable(uri: str, error: OSError) -> LabError:
    """The message for a journal that cannot be written."""
    return LabError(
        f"{place_of(uri)}: records cannot be kept here: {error.strerror or error}. Free some space, or "
        "choose another folder with XDG_STATE_HOME."
    )


_couriers: dict[str, Courier] = {}
_making = threading.Lock()


def courier_of(uri: str, client: MlflowClient) -> Courier:
    """The one courier that this process has for a store."""
    with _making:
        if uri not in _couriers:
            _couriers[uri] = Courier(uri, client)
            atexit.register(_couriers[uri].close)
        return _couriers[uri]
