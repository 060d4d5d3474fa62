"""MLflow: opening a store, starting runs and reading them back.

Every call names its run, so that runs in several threads of a process never mix.
"""

from __future__ import annotations

import logging
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Experiment, Run
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from vae_lab import interruption
from vae_lab.errors import LabError, UserError
from vae_lab.tracking import journal, places, sqlite
from vae_lab.tracking.address import check_server, lock_file, named, resolved, sqlite_file
from vae_lab.tracking.courier import courier_of, unwritable
from vae_lab.tracking.delivery import first_line, refusal, why
from vae_lab.tracking.origin import code_tags, user
from vae_lab.tracking.processes import RunFolder, forget, gone, heartbeat, this_process
from vae_lab.tracking.reading import unaltered
from vae_lab.tracking.recorder import Recorder
from vae_lab.tracking.records import ERROR, FINGERPRINT, KIND, PROCESS, StoredRun, checksum_tag, member_tag

for _noisy in ("alembic", "mlflow"):  # MLflow sets levels of its own when imported
    logging.getLogger(_noisy).setLevel(logging.WARNING)

log = logging.getLogger(__name__)
T = TypeVar("T")

_START = "vae_lab.start"  # tag: tells a run whose making was not confirmed from one that was not made
RETRIES_SECONDS = 2.0  # for a locked database or a server that hiccups while it is read
_told: set[str] = set()  # stores whose waiting records this process has mentioned


class Store:
    """A tracking store: an SQLite file with a folder of artifacts, or a server.

    Use `Store.open`.
    """

    def __init__(self, uri: str, wait: float = 0.0) -> None:
        self.uri, self.wait = uri, wait
        self.client = MlflowClient(tracking_uri=uri)
        self.courier = courier_of(uri, self.client)

    @classmethod
    def open(cls, uri: str | None = None, *, create: bool = False, wait: float = 0.0) -> Store:
        """The store at `uri`, else MLFLOW_TRACKING_URI, else ./mlflow.db.

        Args:
            uri: an SQLite address or a server's.
            create: make the SQLite file if there is none.
            wait: seconds that this and later questions wait for a server that does not answer.

        Raises:
            UserError: there is no such store, and none may be made.
            LabError: the server does not answer, or the file cannot be used.
        """
        uri = resolved(uri)
        file = sqlite_file(uri)
        if file is None:
            check_server(uri, wait)
            try:
                return cls(uri, wait)._mention_waiting()
            except (ImportError, MlflowException, SQLAlchemyError) as error:  # of a database or its driver
                raise LabError(f"{named(uri)}: the store cannot be opened: {why(error)}") from error
        if not file.exists() and not create:
            raise UserError(f"{file}: no runs are kept here yet. Start with: vae-lab train")
        try:
            sqlite.look_at(file)
            # The first use of a database creates its tables; two processes at once would collide.
            with FileLock(lock_file(file)):
                if not file.exists():
                    sqlite.make(file)
                store = cls(uri, wait)
                store.client.search_experiments(max_results=1)
        except (OSError, sqlite3.Error, MlflowException, SQLAlchemyError) as error:
            raise LabError(f"{file}: the store cannot be opened: {why(error)}") from error
        return store._mention_waiting()

    def experiment(self, name: str) -> Experiment:
        """The experiment of that name, made if it is not there."""
        found = self.ask(lambda: self.client.get_experiment_by_name(name))
        if found is not None and found.lifecycle_stage != "active":
            raise UserError(f"tracking.experiment={name}: was deleted in this store; choose another name.")
        if found is None:
            file = sqlite_file(self.uri)
            location = None if file is None else (file.parent / "mlruns").as_uri()
            try:
                found = self.client.get_experiment(self.client.create_experiment(name, location))
            except MlflowException:  # another process was first
                found = self.ask(lambda: self.client.get_experiment_by_name(name))
                if found is None:
                    raise
        return found

    def start(
        self,
        experiment: str,
        name: str,
        *,
        kind: str,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str | None] | None = None,
    ) -> Recorder:
        """Opens a run of `kind` RUN or SWEEP and gives what records it."""
        labels = {
            KIND: kind,
            PROCESS: this_process(),
            "mlflow.user": user(),
            "mlflow.source.name": "vae-lab",
            **code_tags(),
            **{key: value for key, value in (tags or {}).items() if value is not None},
        }
        try:
            places.check(self.uri)
        except OSError as error:
            raise unwritable(self.uri, error) from error
        experiment_id = self.experiment(experiment).experiment_id
        run = self._create_run(experiment_id, name, labels)
        recorder = Recorder(self, run.info.run_id, experiment_id, background=True)
        recorder.params(params or {})
        return recorder

    def reopen(self, run_id: str) -> Recorder:
        """Goes on with a run: what waits of it is delivered first, then it is RUNNING again.

        Raises:
            UserError: the store has no such run.
            LabError: the store does not answer.
        """
        found = self.record(run_id)
        if sqlite_file(self.uri) is not None:
            for scratch in Path(self.place(run_id, "")).rglob(".artifact.uploading.*"):
                scratch.unlink(missing_ok=True)  # a copy of MLflow's that a killed process did not end
        recorder = Recorder(self, run_id, found.experiment_id, background=True)
        recorder.resume()
        return recorder

    def close_gone(self, records: Iterable[StoredRun]) -> list[StoredRun]:
        """Closes those of the runs whose process is gone, as KILLED and with the reason; gives them.

        What waits of such a run on this machine is delivered first: it may have finished. Where the store
        does not take that now, the run is left as it is.
        """
        closed = []
        for record in records:
            hold = RunFolder.lock(self.uri, record.run_id) if gone(record) else None
            if hold is None:  # or another process goes on with it at this moment
                continue
            try:
                if self.courier.catch_up(record.run_id):
                    continue
                now = self.record(record.run_id)
                if reason := gone(now):
                    recorder = Recorder(self, now.run_id, now.experiment_id)
                    recorder.tag({ERROR: reason})
                    recorder.finish("KILLED", when=heartbeat(now).get("at"))
                    closed.append(now)
            finally:
                hold.release()
        return closed

    def check_delivered(self, records: Iterable[StoredRun]) -> None:
        """Raises a LabError if the store does not take what waits of a run whose process is gone."""
        for record in records:
            if gone(record) and (reason := self.courier.catch_up(record.run_id)):
                raise LabError(
                    f"{named(self.uri)}: records of run {record.run_id} wait on this machine and cannot be "
                    f"delivered ({reason}). Once they can, the same command goes on."
                )

    def _create_run(self, experiment_id: str, name: str, tags: Mapping[str, str]) -> Run:
        """Makes a run, once, also where a server ends between making it and saying so."""
        token = uuid.uuid4().hex
        attempts = 0

        def create() -> Run:
            nonlocal attempts
            attempts += 1
            if attempts > 1:
                made = self.client.search_runs([experiment_id], f"tags.`{_START}` = '{token}'")
                if made:
                    return made[0]
            return self.client.create_run(experiment_id, tags={**tags, _START: token}, run_name=name)

        return self.ask(create)

    def ask(self, question: Callable[[], T]) -> T:
        """The answer to a question, asked again while the store does not answer, up to its `wait`.

        Raises:
            MlflowException: the store's answer is no.
            LabError: there is none.
        """
        end, told = time.monotonic() + max(self.wait, RETRIES_SECONDS), False
        while True:
            try:
                return question()
            except (MlflowException, SQLAlchemyError) as error:
                if refusal(error):
                    raise
                reason = why(error)
                if time.monotonic() > end or "readonly" in reason or "full" in reason:
                    what = "the server does not answer" if self.courier.remote else "the store cannot be used"
                    raise LabError(f"{named(self.uri)}: {what}: {reason}.") from error
            if self.wait and not told:
                log.warning(
                    f"{named(self.uri)} does not answer ({reason}). Waiting for it up to {self.wait:.0f} s."
                )
                told = True
            interruption.check_now()
            time.sleep(0.3)

    def _mention_waiting(self) -> Store:
        """Says once a process that records of earlier runs wait for this store."""
        if self.uri not in _told:
            _told.add(self.uri)
            found = [each for each in journal.waiting(places.place_of(self.uri)) if not each.busy]
            if records := sum(each.records for each in found):
                runs = "an earlier run" if len(found) == 1 else f"{len(found)} earlier runs"
                log.warning(
                    f"{named(self.uri)}: {records} records of {runs} wait. Deliver them with: vae-lab sync"
                )
        return self

    def records(self, filter_string: str = "") -> list[StoredRun]:
        """All active runs that match an MLflow filter, newest first."""
        self.courier.settle_all()
        ids = [experiment.experiment_id for experiment in self.ask(self.client.search_experiments)]
        found: list[StoredRun] = []
        token: str | None = None
        while True:
            page = self.ask(
                partial(
                    self.client.search_runs,
                    ids,
                    filter_string,
                    max_results=1000,
                    order_by=["attributes.start_time DESC"],
                    page_token=token,
                )
            )
            found += map(_record, page)
            token = page.token
            if not token:
                return found

    def record(self, run_id: str) -> StoredRun:
        """The run of that id.

        Raises:
            UserError: the store has none.
        """
        try:
            return _record(self.ask(lambda: self.client.get_run(run_id)))
        except MlflowException:
            raise UserError(f"{run_id}: no run of that id in {self.uri}.") from None

    def tagged(self, key: str, value: str) -> list[StoredRun]:
        """All active runs whose tag has this value, newest first."""
        return self.records(f"tags.`{key}` = '{value}'")

    def members(self, parent_run_id: str) -> list[StoredRun]:
        """The runs of a multirun, oldest first: those it trained and those that were there before."""
        return self.tagged(member_tag(parent_run_id), "1")[::-1]

    def finished(self, fingerprint: str) -> StoredRun | None:
        """The newest finished run with this fingerprint; what waits of a dead process's run may say so."""
        found = self.tagged(FINGERPRINT, fingerprint)
        if any(gone(record) for record in found):
            self.close_gone(found)
            found = self.tagged(FINGERPRINT, fingerprint)
        newest = next((record for record in found if record.status == "FINISHED"), None)
        if newest is not None:  # its process may have ended before it did so
            self.courier.catch_up(newest.run_id)
            forget(self.uri, newest.run_id)
        return newest

    def unfinished(self, key: str, value: str) -> list[StoredRun]:
        """The runs with this tag that began and did not finish, newest first.

        Those whose process is gone are closed; what is still RUNNING has a process that may be at work.

        Raises:
            LabError: the store does not take what waits of one, which may have finished.
        """
        found = [record for record in self.tagged(key, value) if record.status != "FINISHED"]
        closed = {record.run_id for record in self.close_gone(found)}
        self.check_delivered(record for record in found if record.run_id not in closed)
        return [record for record in found if record.status != "RUNNING" or record.run_id in closed]

    def history(self, run_id: str, metric: str) -> list[float]:
        """Every value of a metric in the order of its steps."""
        found = self.ask(lambda: self.client.get_metric_history(run_id, metric))
        points = sorted(found, key=lambda point: point.step)
        return [point.value for point in points]

    def place(self, run_id: str, path: str) -> str:
        """Where an artifact lies: the path of the file in a local store, else its address."""
        uri = f"{self.ask(lambda: self.client.get_run(run_id)).info.artifact_uri}/{path}"
        return unquote(urlsplit(uri).path) if uri.startswith("file:") else uri

    def download(self, run_id: str, path: str) -> Path:
        """The file of one of a run's artifacts: itself in a local store, else a copy.

        Raises:
            LabError: the run has no such artifact, or it is damaged.
        """
        expected = self.record(run_id).tags.get(checksum_tag(path))
        local = Path(self.place(run_id, path))
        if local.is_file():
            return unaltered(local, expected)
        try:
            return unaltered(Path(self.client.download_artifacts(run_id, path)), expected)
        except (MlflowException, OSError) as error:
            raise LabError(f"{run_id}: has no artifact {path}: {first_line(error)}") from error


def _record(run: Run) -> StoredRun:
    return StoredRun(
        run_id=run.info.run_id,
        experiment_id=run.info.experiment_id,
        name=run.info.run_name,
        status=run.info.status,
        params=run.data.params,
        metrics=run.data.metrics,
        tags=run.data.tags,
        started=run.info.start_time,
    )
