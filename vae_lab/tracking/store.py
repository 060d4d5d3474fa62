"""A store through MLflow's client: opened, asked for runs, and given new ones.

Every call names its run, so that runs in several threads of a process never mix.
"""

from __future__ import annotations

import logging
import sqlite3
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Experiment, Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.entities import PagedList
from mlflow.tracking._tracking_service import utils as tracking_utils

from vae_lab import interruption
from vae_lab.errors import LabError, UserError
from vae_lab.tracking.address import (
    client_address,
    is_server,
    lock_file,
    resolve_address,
    sqlite_file,
    store_address,
    store_name,
)
from vae_lab.tracking.answers import points_of_server, runs_of_server
from vae_lab.tracking.artifacts import FOLDER, HOMES, artifact_place, download_artifact, homes, homes_tag
from vae_lab.tracking.bulk.client import Bulk
from vae_lab.tracking.courier import courier_of
from vae_lab.tracking.database import check_database, create_database, is_empty, refuses_writes
from vae_lab.tracking.delivery import failures, is_absent, refusal, why
from vae_lab.tracking.folders import check_writable, spool_folder
from vae_lab.tracking.moves import settle
from vae_lab.tracking.processes import this_process
from vae_lab.tracking.provenance import code_tags, owner
from vae_lab.tracking.recorder import Recorder
from vae_lab.tracking.records import (
    ATTEMPT,
    KIND,
    OWNER,
    PROCESS,
    DeletedRunError,
    Points,
    StoredRun,
    checksum_tag,
    member_tag,
    metric_value,
)
from vae_lab.tracking.schema import check_schema
from vae_lab.tracking.servers import check_server, trouble_of
from vae_lab.tracking.spool import backlogs
from vae_lab.tracking.tables import Tables

for _noisy in ("alembic", "mlflow"):  # MLflow sets levels of its own when imported
    logging.getLogger(_noisy).setLevel(logging.WARNING)

log = logging.getLogger(__name__)
T = TypeVar("T")

_START = "vae_lab.start"  # tag: tells a run whose making was not confirmed from one that was not made
MOST_QUESTIONS = 20  # after which all runs are read at once
RETRIES_SECONDS = 2.0  # for a locked database or a server that hiccups while it is read
_mentioned: set[str] = set()  # stores whose waiting records this process has mentioned


class Store:
    """A tracking store: an SQLite file with a folder of artifacts, or a server.

    Use `Store.open`::

        store = Store.open("sqlite:///mlflow.db", create=True)
        recorder = store.start("lab", "vae L3 Z15", kind=RUN)
        recorder.log({"test/loss": 103.2}, step=1)
        recorder.finish("FINISHED")
        store.record(recorder.run_id).metrics["test/loss"]  # 103.2
    """

    def __init__(self, uri: str, wait: float = 0.0) -> None:
        self.uri, self.wait = uri, wait
        self.client = MlflowClient(tracking_uri=client_address(uri))
        self.courier = courier_of(uri, self.client)
        self._settled = False

    @classmethod
    def open(cls, uri: str | None = None, *, create: bool = False, wait: float = 0.0) -> Store:
        """Returns the store at `uri`, else MLFLOW_TRACKING_URI, else ./mlflow.db.

        Args:
            uri: An SQLite address or a server's.
            create: Make the SQLite file if there is none.
            wait: Seconds that this and later questions wait for a server that does not answer.

        Raises:
            UserError: There is no such store, and none may be made, or it is another MLflow's, or none.
            LabError: The server does not answer, or the file cannot be used.
        """
        uri = resolve_address(uri)
        file = sqlite_file(uri)
        if file is not None and is_empty(file) and not create:
            raise UserError(f"{file}: no runs are kept here yet. Start with: vae-lab train")
        check_server(uri, wait)
        try:
            if file is None:
                check_schema(uri)
                store = cls(uri, wait)
            else:
                store = cls._open_file(uri, file, wait)
        except failures(ImportError, OSError, sqlite3.Error) as error:
            raise LabError(f"{store_name(uri)}: the store cannot be opened: {why(error)}") from error
        return store._mention_waiting()

    @classmethod
    def _open_file(cls, uri: str, file: Path, wait: float) -> Store:
        check_database(file)
        if is_empty(file):
            with FileLock(lock_file(file)):
                if is_empty(file):  # else another process has made it meanwhile
                    create_database(file, FOLDER)
        check_schema(uri)
        store = cls(uri, wait)
        store.client.search_experiments(max_results=1)
        return store

    def experiment(self, name: str) -> Experiment:
        """Returns the experiment of that name, made if it is not there."""
        self.settle()
        experiment = self.ask(lambda: self.client.get_experiment_by_name(name))
        file = sqlite_file(self.uri)
        tags = {} if file is None else {HOMES: homes_tag(file, homes(file))}
        if experiment is None:
            location = None if file is None else (file.parent / FOLDER).as_uri()
            experiment = self.ask(partial(self._make_experiment, name, location, tags))
        if experiment.lifecycle_stage != "active":
            raise UserError(f"tracking.experiment={name}: was deleted in this store; choose another name.")
        for key in tags.keys() - experiment.tags.keys():
            self.ask(partial(self.client.set_experiment_tag, experiment.experiment_id, key, tags[key]))
        return experiment

    def _make_experiment(self, name: str, location: str | None, tags: dict[str, str]) -> Experiment:
        try:
            return self.client.get_experiment(self.client.create_experiment(name, location, tags))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = self.client.get_experiment_by_name(name)  # another process was first
            if experiment is None:
                raise
            return experiment

    def settle(self) -> None:
        """Makes a store that was moved or copied at home where it is now; whatever writes does so first.

        Raises:
            LabError: It can only be read.
        """
        if not self._settled and (file := sqlite_file(self.uri)) is not None:
            if reason := refuses_writes(file):
                raise LabError(f"{file}: this store can only be read: {reason}. Nothing has been written.")
            if settle(file):
                # MLflow's client keeps in mind where the artifacts of runs lay that this process has written.
                vars(tracking_utils).get("_artifact_repos_cache", {}).clear()
        self._settled = True

    def refuses_writes(self) -> str:
        """Returns why an SQLite store can only be read; empty if it can be written, and of a server."""
        file = sqlite_file(self.uri)
        return "" if file is None else refuses_writes(file)

    def start(
        self,
        experiment: str,
        name: str,
        *,
        kind: str,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str | None] | None = None,
    ) -> Recorder:
        """Opens a run of `kind` RUN or SWEEP and returns what records it."""
        labels = {
            KIND: kind,
            PROCESS: this_process(),
            OWNER: owner(self.uri),
            "mlflow.source.name": "vae-lab",
            **code_tags(),
            **{key: value for key, value in (tags or {}).items() if value is not None},
        }
        check_writable(self.uri)
        experiment_id = self.experiment(experiment).experiment_id
        run = self._create_run(experiment_id, name, labels)
        recorder = Recorder(self.courier, run.info.run_id, experiment_id)
        recorder.params(params or {})
        return recorder

    def reopen(self, run_id: str) -> Recorder:
        """Goes on with a run: what waits of it is delivered first, then it is RUNNING again.

        Raises:
            UserError: The store has no such run.
            LabError: The store does not answer.
        """
        self.settle()
        run = self.record(run_id)
        if sqlite_file(self.uri) is not None:
            for scratch in Path(self.place(run_id, "")).rglob(".artifact.uploading.*"):
                scratch.unlink(missing_ok=True)  # a copy of MLflow's that a killed process did not end
        recorder = Recorder(self.courier, run_id, run.experiment_id, attempt=run.tags.get(ATTEMPT, ""))
        recorder.resume()
        return recorder

    def recorder(self, run: StoredRun) -> Recorder:
        """Returns what adds to a run that another process made; each call waits until the store has it."""
        self.settle()
        attempt = run.tags.get(ATTEMPT, "")
        return Recorder(self.courier, run.run_id, run.experiment_id, attempt=attempt, wait=True)

    def _create_run(self, experiment_id: str, name: str, tags: Mapping[str, str]) -> Run:
        """Makes a run, once, also where a server ends between making it and saying so."""
        token = uuid.uuid4().hex
        attempts = 0

        def create() -> Run:
            nonlocal attempts
            attempts += 1
            if attempts > 1:
                runs = self.client.search_runs([experiment_id], f"tags.`{_START}` = '{token}'")
                if runs:
                    return runs[0]
            return self.client.create_run(experiment_id, tags={**tags, _START: token}, run_name=name)

        return self.ask(create)

    def ask(self, question: Callable[[], T]) -> T:
        """Returns the answer to a question, asked again while the store does not answer, up to its `wait`.

        Raises:
            MlflowException: The store's answer is no.
            LabError: There is none.
        """
        end, warned = time.monotonic() + max(self.wait, RETRIES_SECONDS), False
        while True:
            try:
                return question()
            except failures() as error:
                if refusal(error) or is_absent(error):
                    raise
                if self.courier.remote and not (trouble := trouble_of(error)).passes:
                    raise UserError(f"{store_name(self.uri)}: the server {trouble.reason}.") from error
                reason = why(error)
                if time.monotonic() > end or "readonly" in reason or "full" in reason:
                    what = "the server does not answer" if self.courier.remote else "the store cannot be used"
                    raise LabError(f"{store_name(self.uri)}: {what}: {reason}.") from error
            if self.wait and not warned:
                name = store_name(self.uri)
                log.warning(f"{name} does not answer ({reason}). Waiting for it up to {self.wait:.0f} s.")
                warned = True
            interruption.check_now()
            time.sleep(0.3)

    def _mention_waiting(self) -> Store:
        """Says once a process that records of earlier runs wait for this store."""
        if (address := store_address(self.uri)) not in _mentioned:
            _mentioned.add(address)
            waiting = [backlog for backlog in backlogs(spool_folder(self.uri)) if not backlog.busy]
            if count := sum(backlog.left for backlog in waiting):
                runs = "an earlier run" if len(waiting) == 1 else f"{len(waiting)} earlier runs"
                log.warning(
                    f"{store_name(self.uri)}: {count} records of {runs} wait. Deliver them with: vae-lab sync"
                )
        return self

    def records(self, filter_string: str = "", *, deleted: bool = False) -> list[StoredRun]:
        """Returns all active runs that match an MLflow filter, newest first.

        Args:
            filter_string: MLflow's; empty for all.
            deleted: Those that were deleted, but not for good, are wanted in place of the active ones.
        """
        self.courier.settle_all()
        ids = [*self.experiments()]
        if self.courier.remote and not deleted:
            return runs_of_server(self.client.tracking_uri, ids, filter_string, self.ask)
        search = partial(
            self.client.search_runs,
            ids,
            filter_string,
            ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY,
            max_results=1000,
            order_by=["attributes.start_time DESC"],
        )
        return [_record(run) for run in self._items(search)]

    def experiments(self) -> dict[str, str]:
        """Returns the names of all active experiments by their ids."""
        return {known.experiment_id: known.name for known in self._items(self.client.search_experiments)}

    def _items(self, search: Callable[..., PagedList[T]]) -> Iterator[T]:
        """Yields what a search of MLflow's finds, page by page: one page is at most a thousand."""
        token: str | None = ""
        while token is not None:
            page = self.ask(partial(search, page_token=token or None))
            yield from page
            token = page.token or None

    def record(self, run_id: str, *, deleted: bool = False) -> StoredRun:
        """Returns the run of that id.

        Args:
            run_id: The id.
            deleted: Whether it may be one that was deleted, but not for good.

        Raises:
            UserError: The store has none, or it was deleted.
        """
        run = self._run(run_id)
        if run.info.lifecycle_stage != "active" and not deleted:
            raise DeletedRunError(run_id, store_name(self.uri))
        return _record(run)

    def _run(self, run_id: str) -> Run:
        try:
            return self.ask(lambda: self.client.get_run(run_id))
        except MlflowException:
            raise UserError(f"{run_id}: no run of that id in {store_name(self.uri)}.") from None

    @cached_property
    def bulk(self) -> Bulk | None:
        """What answers questions about many runs at once; None for a store that does not."""
        return Bulk.offered(self.client.tracking_uri, self.ask) if is_server(self.uri) else None

    def tagged(self, key: str, value: str) -> list[StoredRun]:
        """Returns all active runs whose tag has this value, newest first."""
        if self.bulk:
            return self._tagged_in_bulk(self.bulk, key, [value])
        for quote in ("'", '"'):  # MLflow's filters know no escape
            if quote not in value:
                return self.records(f"tags.`{key}` = {quote}{value}{quote}")
        return [run for run in self.records(f"tags.`{key}` LIKE '%'") if run.tags[key] == value]

    def any_tagged(self, key: str, values: Collection[str]) -> list[StoredRun]:
        """Returns all active runs whose tag has one of these values; newest first, if of one value."""
        file = sqlite_file(self.uri)
        if file is not None and not (tables := Tables(self.uri, file)).lacks():
            self.courier.settle_all()
            return tables.any_tagged(key, values)
        if self.bulk:
            return self._tagged_in_bulk(self.bulk, key, values)
        if len(values) <= MOST_QUESTIONS:
            return [run for value in values for run in self.tagged(key, value)]
        return [run for run in self.records(f"tags.`{key}` LIKE '%'") if run.tags[key] in values]

    def _tagged_in_bulk(self, bulk: Bulk, key: str, values: Collection[str], **wish: bool) -> list[StoredRun]:
        self.courier.settle_all()
        return bulk.tagged(key, values, **wish)

    def members(self, parent_run_id: str, *, running: bool = False, measured: bool = True) -> list[StoredRun]:
        """Returns the runs of a multirun, oldest first: those it trained and those that were there before."""
        tag = member_tag(parent_run_id)
        if self.bulk:
            return self._tagged_in_bulk(self.bulk, tag, ["1"], running=running, measured=measured)[::-1]
        question = f"tags.`{tag}` = '1'"
        return self.records(f"{question} AND attributes.status = 'RUNNING'" if running else question)[::-1]

    def history(self, run_id: str, metric: str) -> list[float]:
        """Returns every value of a metric in the order of its steps."""
        points = self.ask(lambda: self.client.get_metric_history(run_id, metric))
        return [metric_value(point.value) for point in sorted(points, key=lambda point: point.step)]

    def points(self, run_ids: Collection[str], metrics: Collection[str]) -> Points:
        """Returns what some runs logged of some metrics: run, metric and step lead to the value."""
        if self.bulk:
            return self.bulk.points(run_ids, metrics)
        points: Points = {}
        left = [(run_id, metric) for run_id in run_ids for metric in metrics]
        if self.courier.remote:
            points, left = points_of_server(self.client.tracking_uri, run_ids, metrics, self.ask)
        for run_id, metric in left:
            logged = self.ask(partial(self.client.get_metric_history, run_id, metric))
            in_order = sorted(logged, key=lambda point: point.timestamp)
            if values := {point.step: metric_value(point.value) for point in in_order}:
                points.setdefault(run_id, {})[metric] = values
        return points

    def recorded_at(self, run_id: str, metric: str) -> dict[int, int] | None:
        """Returns when each step of a metric was recorded, in milliseconds since 1970.

        None while records of the run wait, as it is not known then.
        """
        if self.courier.settle(run_id):
            return None
        points = self.ask(lambda: self.client.get_metric_history(run_id, metric))
        return {point.step: point.timestamp for point in points}

    def place(self, run_id: str, path: str) -> str:
        """Returns where an artifact lies: the path of the file in a local store, else its address."""
        return artifact_place(self.uri, self._run(run_id).info.artifact_uri, path)

    def download(self, run_id: str, path: str) -> Path:
        """Returns the file of one of a run's artifacts: itself in a local store, else a copy.

        Raises:
            LabError: The run has no such artifact, or it is damaged.
        """
        run = self._run(run_id)
        checksum = run.data.tags.get(checksum_tag(path))
        return download_artifact(self.uri, run_id, run.info.artifact_uri, path, checksum)


def _record(run: Run) -> StoredRun:
    return StoredRun(
        run_id=run.info.run_id,
        experiment_id=run.info.experiment_id,
        name=run.info.run_name,
        status=run.info.status,
        params=run.data.params,
        metrics={key: metric_value(value) for key, value in run.data.metrics.items()},
        tags=run.data.tags,
        started=run.info.start_time,
        ended=run.info.end_time,
    )
