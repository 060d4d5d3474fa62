"""Asks a server about many runs at once, if it answers such questions, as `app` does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from sys import intern
from typing import Any, TypeVar

import msgspec
import requests
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request, http_request_safe
from msgspec import Struct

from vae_lab.errors import LabError
from vae_lab.tracking.address import store_name
from vae_lab.tracking.bulk.questions import (
    FORMAT,
    IDS,
    LARGEST,
    OFFER,
    POINTS,
    RUNS,
    TAG,
    Ids,
    IdsQuestion,
    Offer,
    Points,
    PointsQuestion,
    Run,
    RunId,
    Runs,
    RunsQuestion,
    TagQuestion,
)
from vae_lab.tracking.records import Points as StoredPoints
from vae_lab.tracking.records import StoredRun, metric_value

REQUESTS_AT_ONCE = 4
RUNS_AT_ONCE, CURVES_AT_ONCE = 250, 100  # runs of a question, so that an answer is a few megabytes

T = TypeVar("T")
Ask = Callable[[Callable[[], Any]], Any]  # returns the answer to a question, asked again while there is none


class Bulk:
    """A server that answers the lab's questions about many runs at once.

    Use `Bulk.offered`.
    """

    def __init__(self, address: str, ask: Ask) -> None:
        self._address, self._ask = address, ask

    @classmethod
    def offered(cls, address: str, ask: Ask) -> Bulk | None:
        """Asks a server whether it answers such questions; returns None for one that does not.

        Args:
            address: The server's, as MLflow's client takes it.
            ask: Returns the answer to a question, asked again while the server does not answer.

        Raises:
            LabError: It does not answer at all.
        """
        answer: requests.Response = ask(partial(_request, address, OFFER))
        try:
            is_offered = msgspec.json.decode(answer.content, type=Offer).format == FORMAT
        except (msgspec.DecodeError, UnicodeDecodeError):  # of something that answers in MLflow's place
            is_offered = False
        return cls(address, ask) if answer.status_code == HTTPStatus.OK and is_offered else None

    def tagged(
        self, key: str, values: Collection[str], *, running: bool = False, measured: bool = True
    ) -> list[StoredRun]:
        """Returns all active runs whose tag has one of these values, newest first.

        Args:
            key: Of the tag.
            values: Of the tag.
            running: Whether only those are wanted which the store holds for running.
            measured: Whether their metrics are wanted; else they are left out.
        """

        def tagged_with(part: list[str]) -> list[RunId]:
            return self._answer(IDS, IdsQuestion(key, part, running), Ids).runs

        def kept_of(part: list[str]) -> list[StoredRun]:
            return [*map(_stored, self._answer(RUNS, RunsQuestion(part, measured), Runs).runs)]

        with ThreadPoolExecutor(REQUESTS_AT_ONCE) as threads:
            started = {
                run.run_id: run.started
                for runs in threads.map(tagged_with, _parts([*values], LARGEST))
                for run in runs
            }
            newest_first = sorted(started, key=lambda run_id: (-started[run_id], run_id))
            parts = threads.map(kept_of, _parts(newest_first, RUNS_AT_ONCE))
            stored = {run.run_id: run for runs in parts for run in runs}
        return [stored[run_id] for run_id in newest_first if run_id in stored]

    def points(self, run_ids: Collection[str], metrics: Collection[str]) -> StoredPoints:
        """Returns what some runs logged of some metrics: run, metric and step lead to the value.

        Of values that a step was given several times the latest counts.
        """
        names = [*metrics]

        def logged_by(part: list[str]) -> StoredPoints:
            points: StoredPoints = {}
            for point in self._answer(POINTS, PointsQuestion(part, names), Points).points:
                of_run = points.setdefault(part[point.run], {})
                of_run.setdefault(names[point.metric], {})[point.step] = metric_value(point.value)
            return points

        with ThreadPoolExecutor(REQUESTS_AT_ONCE) as threads:
            parts = threads.map(logged_by, _parts([*run_ids], CURVES_AT_ONCE))
            return {run_id: of_run for part in parts for run_id, of_run in part.items()}

    def tag(self, run_ids: Sequence[str], key: str, value: str) -> None:
        """Gives runs a tag; those that are not there or deleted are left out."""
        for part in _parts(run_ids, LARGEST):
            self._answer(TAG, TagQuestion(part, key, value), dict[str, str])

    def _answer(self, path: str, question: Struct, form: type[T]) -> T:
        asked = partial(_request_safely, self._address, path, msgspec.to_builtins(question))
        try:
            return msgspec.json.decode(self._ask(asked).content, type=form)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            name = store_name(self._address)
            raise LabError(f"{name}: the server's answer is not of the lab's form: {error}") from error


def _request(address: str, path: str) -> requests.Response:
    credentials = get_default_host_creds(address)  # type: ignore[no-untyped-call]
    response: requests.Response = http_request(credentials, path, "GET")  # type: ignore[no-untyped-call]
    return response


def _request_safely(address: str, path: str, content: object) -> requests.Response:
    """Returns an answer; raises what MLflow's client raises for one that is none."""
    credentials = get_default_host_creds(address)  # type: ignore[no-untyped-call]
    response: requests.Response = http_request_safe(  # type: ignore[no-untyped-call]
        credentials, path, "POST", json=content
    )
    return response


def _parts(items: Sequence[str], largest: int) -> Iterator[list[str]]:
    """Yields a sequence in pieces.

    Examples:
        >>> [*_parts("abc", 2)]
        [['a', 'b'], ['c']]
    """
    for start in range(0, len(items), largest):
        yield [*items[start : start + largest]]


def _stored(run: Run) -> StoredRun:
    # What many runs share is held once, as in `tables`.
    return StoredRun(
        run_id=run.run_id,
        experiment_id=run.experiment_id,
        name=run.name,
        status=run.status,
        params={intern(key): intern(value) for key, value in run.params.items()},
        metrics={intern(key): metric_value(value) for key, value in run.metrics.items()},
        tags={intern(key): intern(value) for key, value in run.tags.items()},
        started=run.started,
        ended=run.ended,
    )
