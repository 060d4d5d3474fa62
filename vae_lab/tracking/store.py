"""MLflow: opening a store, recording runs and reading them back.

Every call names its run, so that runs in several threads of a process never mix.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from vae_lab.errors import LabError, UserError
from vae_lab.tracking.address import check_server, lock_file, resolved, sqlite_file
from vae_lab.tracking.origin import code_tags, user
from vae_lab.tracking.records import FINGERPRINT, KIND, Record, member_tag

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # no calls home from a user's experiments
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from mlflow import MlflowClient
from mlflow.entities import Dataset as MlflowDataset
from mlflow.entities import DatasetInput, Experiment, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

for _noisy in ("alembic", "mlflow", "mlflow.store.db.utils"):  # MLflow sets levels of its own when imported
    logging.getLogger(_noisy).setLevel(logging.WARNING)

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from vae_lab.data import Dataset

METRICS_A_CALL = 1000  # MLflow's limit


class Store:
    """A tracking store: an SQLite file with a folder of artifacts, or a server.

    Use `Store.open`.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.client = MlflowClient(tracking_uri=uri)

    @classmethod
    def open(cls, uri: str | None = None, *, create: bool = False) -> Store:
        """The store at `uri`, else MLFLOW_TRACKING_URI, else ./mlflow.db.

        Args:
            uri: an SQLite address or a server's.
            create: make the SQLite file if there is none.

        Raises:
            UserError: there is no such store, and none may be made.
            LabError: the server does not answer, or the file cannot be used.
        """
        uri = resolved(uri)
        file = sqlite_file(uri)
        if file is None:
            check_server(uri)
            return cls(uri)
        if not file.exists() and not create:
            raise UserError(f"{file}: no runs are kept here yet. Start with: vae-lab train")
        try:
            # The first use of a database creates its tables; two processes at once would collide.
            with FileLock(lock_file(file)):
                store = cls(uri)
                store.client.search_experiments(max_results=1)
        except (OSError, MlflowException, SQLAlchemyError) as error:
            raise LabError(f"{file}: the store cannot be opened: {_first_line(error)}") from error
        return store

    def experiment(self, name: str) -> Experiment:
        """The experiment of that name, made if it is not there."""
        found = self.client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage != "active":
            raise UserError(f"tracking.experiment={name}: was deleted in this store; choose another name.")
        if found is None:
            file = sqlite_file(self.uri)
            location = None if file is None else (file.parent / "mlruns").as_uri()
            try:
                found = self.client.get_experiment(self.client.create_experiment(name, location))
            except MlflowException:  # another process was first
                found = self.client.get_experiment_by_name(name)
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
        tags: Mapping[str, str] | None = None,
    ) -> Recorder:
        """Opens a run of `kind` RUN or SWEEP and gives what records it."""
        labels = {
            KIND: kind,
            "mlflow.user": user(),
            "mlflow.source.name": "vae-lab",
            **code_tags(),
            **(tags or {}),
        }
        run = self.client.create_run(self.experiment(experiment).experiment_id, tags=labels, run_name=name)
        if params:
            entries = [Param(key, value[:6000]) for key, value in params.items()]
            self.client.log_batch(run.info.run_id, params=entries)
        return Recorder(self, run.info.run_id, run.info.experiment_id)

    def records(self, filter_string: str = "") -> list[Record]:
        """All active runs that match an MLflow filter, newest first."""
        ids = [experiment.experiment_id for experiment in self.client.search_experiments()]
        found: list[Record] = []
        token: str | None = None
        while True:
            page = self.client.search_runs(
                ids,
                filter_string,
                max_results=1000,
                order_by=["attributes.start_time DESC"],
                page_token=token,
            )
            found += map(_record, page)
            token = page.token
            if not token:
                return found

    def record(self, run_id: str) -> Record:
        """The run of that id.

        Raises:
            UserError: the store has none.
        """
        try:
            return _record(self.client.get_run(run_id))
        except MlflowException:
            raise UserError(f"{run_id}: no run of that id in {self.uri}.") from None

    def tagged(self, key: str, value: str) -> list[Record]:
        """All active runs whose tag has this value, newest first."""
        return self.records(f"tags.`{key}` = '{value}'")

    def members(self, parent_run_id: str) -> list[Record]:
        """The runs of a multirun, oldest first: those it trained and those that were there before."""
        return self.tagged(member_tag(parent_run_id), "1")[::-1]

    def finished(self, fingerprint: str) -> Record | None:
        """The newest finished run with this fingerprint."""
        found = self.records(f"tags.`{FINGERPRINT}` = '{fingerprint}' AND attributes.status = 'FINISHED'")
        return found[0] if found else None

    def history(self, run_id: str, metric: str) -> list[float]:
        """Every value of a metric in the order of its steps."""
        points = sorted(self.client.get_metric_history(run_id, metric), key=lambda point: point.step)
        return [point.value for point in points]

    def place(self, run_id: str, path: str) -> str:
        """Where an artifact lies: the path of the file in a local store, else its address."""
        uri = f"{self.client.get_run(run_id).info.artifact_uri}/{path}"
        return unquote(urlsplit(uri).path) if uri.startswith("file:") else uri

    def download(self, run_id: str, path: str) -> Path:
        """The file of one of a run's artifacts: itself in a local store, else a copy.

        Raises:
            LabError: the run has no such artifact.
        """
        self.record(run_id)
        local = Path(self.place(run_id, path))
        if local.is_file():
            return local
        try:
            return Path(self.client.download_artifacts(run_id, path))
        except (MlflowException, OSError) as error:
            raise LabError(f"{run_id}: has no artifact {path}: {_first_line(error)}") from error


class Recorder:
    """Writes one run's record; every call returns when the store has it."""

    def __init__(self, store: Store, run_id: str, experiment_id: str) -> None:
        self.store, self.run_id, self.experiment_id = store, run_id, experiment_id
        self._client = store.client

    def log(
        self, metrics: Mapping[str, float], step: int, curve: tuple[str, Sequence[float], int] | None = None
    ) -> None:
        """Metrics of one step and, in the same calls, a curve (name, values, step of the first value)."""
        now = int(time.time() * 1000)
        entries = [Metric(key, float(value), now, step) for key, value in metrics.items()]
        if curve is not None:
            name, values, first = curve
            entries += [Metric(name, value, now, first + i) for i, value in enumerate(values)]
        for start in range(0, len(entries), METRICS_A_CALL):
            self._client.log_batch(self.run_id, metrics=entries[start : start + METRICS_A_CALL])

    def image(self, key: str, picture: NDArray[Any], step: int) -> None:
        """A picture that the UI shows with a slider over steps."""
        self._client.log_image(self.run_id, picture, key=key, step=step)

    def tag(self, tags: Mapping[str, str]) -> None:
        """Sets tags, replacing those that are there."""
        self._client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def dataset(self, data: Dataset) -> None:
        """Links the data set as the run's input."""
        profile = f'{{"train": {len(data.train)}, "test": {len(data.test)}, "classes": {data.classes}}}'
        entity = MlflowDataset(data.name, data.checksum, "local", data.origin, profile=profile)
        linked = [DatasetInput(entity, [InputTag("mlflow.data.context", "training")])]
        try:
            self._client.log_inputs(self.run_id, linked)
        except (MlflowException, SQLAlchemyError):
            # MLflow inserts a data set that it did not find; another run was faster, now it is there.
            self._client.log_inputs(self.run_id, linked)

    @contextmanager
    def artifacts(self) -> Iterator[Path]:
        """A scratch folder whose files become the run's artifacts when the block ends."""
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(scratch)
            self._client.log_artifacts(self.run_id, scratch)

    def finish(self, status: str) -> None:
        """Closes the run as FINISHED, FAILED or KILLED."""
        self._client.set_terminated(self.run_id, status)


def save_figures(folder: Path, figures: Mapping[str, Figure]) -> None:
    """Writes figures as PNG files under `folder`/figures."""
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / "figures" / f"{name}.png")


def _record(run: Run) -> Record:
    return Record(
        run_id=run.info.run_id,
        experiment_id=run.info.experiment_id,
        name=run.info.run_name,
        status=run.info.status,
        params=run.data.params,
        metrics=run.data.metrics,
        tags=run.data.tags,
        started=run.info.start_time,
    )


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
