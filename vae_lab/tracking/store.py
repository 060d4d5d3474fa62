"""A store through MLflow's client: opened, made where there is none, and given new runs.

Every call names its run, so that runs in several threads of a process never mix.
"""

from __future__ import annotations

import logging
import sqlite3
import uuid
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from filelock import FileLock
from mlflow.entities import Experiment, Run
from mlflow.exceptions import MlflowException
from mlflow.tracking._tracking_service import utils as tracking_utils

from vae_lab.errors import LabError, UserError
from vae_lab.tracking.address import lock_file, resolve_address, sqlite_file, store_address, store_name
from vae_lab.tracking.artifacts import FOLDER, HOMES, homes, homes_tag
from vae_lab.tracking.client_reader import ClientReader
from vae_lab.tracking.database import check_database, create_database, is_empty, refuses_writes
from vae_lab.tracking.delivery import failures, why
from vae_lab.tracking.folders import check_writable, spool_folder
from vae_lab.tracking.moves import settle
from vae_lab.tracking.processes import this_process
from vae_lab.tracking.provenance import code_tags, owner
from vae_lab.tracking.recorder import Recorder
from vae_lab.tracking.records import ATTEMPT, KIND, OWNER, PROCESS, StoredRun
from vae_lab.tracking.schema import check_schema
from vae_lab.tracking.servers import check_server
from vae_lab.tracking.spool import backlogs

log = logging.getLogger(__name__)

_START = "vae_lab.start"  # tag: tells a run whose making was not confirmed from one that was not made
_mentioned: set[str] = set()  # stores whose waiting records this process has mentioned


class Store(ClientReader):
    """A tracking store: an SQLite file with a folder of artifacts, or a server.

    Use `Store.open`::

        store = Store.open("sqlite:///mlflow.db", create=True)
        recorder = store.start("lab", "vae L3 Z15", kind=RUN)
        recorder.log({"test/loss": 103.2}, step=1)
        recorder.finish("FINISHED")
        store.record(recorder.run_id).metrics["test/loss"]  # 103.2
    """

    def __init__(self, uri: str, wait: float = 0.0) -> None:
        super().__init__(uri, wait)
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
