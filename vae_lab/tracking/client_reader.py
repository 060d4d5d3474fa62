"""Reads a store through MLflow's client: any server's, and an SQLite file that is written, too.

`tables` reads an SQLite file without MLflow, `bulk` a server of the lab's own with one request for many runs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.entities import PagedList

from vae_lab import interruption
from vae_lab.errors import LabError, UserError
from vae_lab.tracking.address import client_address, is_server, sqlite_file, store_name
from vae_lab.tracking.artifacts import artifact_place, download_artifact
from vae_lab.tracking.bulk.any_server import points_of_server, runs_of_server
from vae_lab.tracking.bulk.client import Bulk
from vae_lab.tracking.courier import courier_of
from vae_lab.tracking.delivery import failures, is_absent, refusal, why
from vae_lab.tracking.records import (
    DeletedRunError,
    Points,
    StoredRun,
    checksum_tag,
    member_tag,
    metric_value,
)
from vae_lab.tracking.servers import trouble_of
from vae_lab.tracking.tables import Tables

for _noisy in ("alembic", "mlflow"):  # MLflow sets levels of its own when imported
    logging.getLogger(_noisy).setLevel(logging.WARNING)

log = logging.getLogger(__name__)
T = TypeVar("T")

MOST_QUESTIONS = 20  # after which all runs are read at once
RETRIES_SECONDS = 2.0  # for a locked database or a server that hiccups while it is read


class ClientReader:
    """A store that is read through MLflow's client; what waits for it is delivered before runs are asked for.

    Args:
        uri: Its address.
        wait: Seconds that a question waits for a server that does not answer.
    """

    def __init__(self, uri: str, wait: float = 0.0) -> None:
        self.uri, self.wait = uri, wait
        self.client = MlflowClient(tracking_uri=client_address(uri))
        self.courier = courier_of(uri, self.client)

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
        return [stored_run(run) for run in self._items(search)]

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
        return stored_run(run)

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


def stored_run(run: Run) -> StoredRun:
    """Returns a run of MLflow's client as the lab's tables know it."""
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
