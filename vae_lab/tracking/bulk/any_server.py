"""What an MLflow server answers about many runs: several requests at once, and their JSON read as it is.

A server takes 5 ms of one core to write down a run, and MLflow's client 1.7 ms to make objects of objects of
it: more than a minute for 10,000 runs. Read as they are they take 0.3 ms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from sys import intern
from typing import Any, TypeVar

import msgspec
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request_safe
from msgspec import Struct

from vae_lab.errors import LabError
from vae_lab.tracking.address import store_name
from vae_lab.tracking.records import Points, StoredRun, metric_value

REQUESTS_AT_ONCE = 4  # as many workers as an MLflow server has by default; more would wait for their turn
SEARCH = "/api/2.0/mlflow/runs/search"
LARGEST = 250  # runs of an answer, which a busy server has to give in MLFLOW_HTTP_REQUEST_TIMEOUT
PARTS = "0123456789abcdef"  # last digits of a run's id, by which a question with more runs is shared out
HISTORY = "/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval"  # what MLflow's own charts ask
CURVES, LONGEST = 100, 2500  # runs of such a question, and values of a run that it answers with at most
_NEWEST_FIRST = ["attributes.start_time DESC"]

T = TypeVar("T")


class _Item(Struct):
    key: str = ""
    value: str = ""


class _Metric(Struct):
    key: str = ""
    value: float | str = 0.0  # "NaN", "Infinity" and "-Infinity" are texts in JSON


class _Value(Struct):
    run_id: str
    step: int
    value: float | str = 0.0
    timestamp: int = 0


class _Values(Struct):
    metrics: list[_Value] = []


class _Info(Struct):
    run_id: str
    experiment_id: str = ""
    run_name: str = ""
    status: str = ""
    start_time: int = 0
    end_time: int = 0


class _Data(Struct):
    params: list[_Item] = []
    metrics: list[_Metric] = []
    tags: list[_Item] = []


class _Run(Struct):
    info: _Info
    data: _Data = msgspec.field(default_factory=_Data)


class _Answer(Struct):
    runs: list[_Run] = []
    next_page_token: str = ""


_decode = msgspec.json.Decoder(_Answer).decode
_decode_values = msgspec.json.Decoder(_Values).decode


def runs_of_server(
    address: str,
    experiments: Sequence[str],
    filter_string: str,
    ask: Callable[[Callable[[], _Answer]], _Answer],
) -> list[StoredRun]:
    """Returns the active runs of some experiments that match an MLflow filter, newest first.

    Args:
        address: The server's, as MLflow's client takes it.
        experiments: Their ids.
        filter_string: MLflow's; empty for all.
        ask: Returns the answer to a question, asked again while the server does not answer.

    Raises:
        LabError: It does not answer, or in another form than MLflow's.
    """
    question = {"experiment_ids": [*experiments], "run_view_type": "ACTIVE_ONLY", "order_by": _NEWEST_FIRST}

    def answer(filter_of_part: str, token: str = "") -> _Answer:
        page = {"filter": filter_of_part, "max_results": LARGEST} | ({"page_token": token} if token else {})
        return ask(partial(_answer, address, question | page))

    def part(digit: str) -> list[StoredRun]:
        joined = " AND ".join(filter(None, [filter_string, f"attributes.run_id LIKE '%{digit}'"]))
        runs: list[StoredRun] = []
        token: str | None = ""
        while token is not None:
            page = answer(joined, token)
            runs += map(_stored, page.runs)
            token = page.next_page_token or None
        return runs

    first = answer(filter_string)
    if not first.next_page_token:
        return [_stored(run) for run in first.runs]
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as threads:
        parts = [*threads.map(part, PARTS)]
    return sorted((run for runs in parts for run in runs), key=lambda run: (-run.started, run.run_id))


def points_of_server(
    address: str,
    run_ids: Collection[str],
    metrics: Collection[str],
    ask: Callable[[Callable[[], list[_Value]]], list[_Value]],
) -> tuple[Points, list[tuple[str, str]]]:
    """Returns what runs logged of metrics, and the runs with a metric of which some values are left out.

    Args:
        address: The server's, as MLflow's client takes it.
        run_ids: The runs.
        metrics: Names of metrics.
        ask: Returns the answer to a question, asked again while the server does not answer.

    Raises:
        LabError: It does not answer, or in another form than MLflow's.
    """
    ids = [*run_ids]
    questions = [
        (metric, ids[start : start + CURVES]) for metric in metrics for start in range(0, len(ids), CURVES)
    ]
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as threads:
        values = threads.map(lambda question: ask(partial(_values, address, *question)), questions)
        points: Points = {}
        counts: Counter[tuple[str, str]] = Counter()
        for (metric, _), answer in zip(questions, values, strict=True):
            for value in sorted(answer, key=lambda value: value.timestamp):
                of_run = points.setdefault(value.run_id, {}).setdefault(metric, {})
                of_run[value.step] = metric_value(float(value.value))
                counts[value.run_id, metric] += 1
    return points, [curve for curve, count in counts.items() if count >= LONGEST]


def _values(address: str, metric: str, run_ids: Sequence[str]) -> list[_Value]:
    credentials = get_default_host_creds(address)  # type: ignore[no-untyped-call]
    wanted = {"run_ids": [*run_ids], "metric_key": metric, "max_results": LONGEST}
    response = http_request_safe(credentials, HISTORY, "GET", params=wanted)  # type: ignore[no-untyped-call]
    return _read(address, _decode_values, response.content).metrics


def _answer(address: str, question: dict[str, Any]) -> _Answer:
    credentials = get_default_host_creds(address)  # type: ignore[no-untyped-call]
    response = http_request_safe(credentials, SEARCH, "POST", json=question)  # type: ignore[no-untyped-call]
    return _read(address, _decode, response.content)


def _read(address: str, decode: Callable[[bytes], T], content: bytes) -> T:
    try:
        return decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LabError(
            f"{store_name(address)}: the server's answer is not of MLflow's form: {error}"
        ) from error


def _stored(run: _Run) -> StoredRun:
    info, data = run.info, run.data
    # What many runs share is held once, as in `tables`.
    return StoredRun(
        run_id=info.run_id,
        experiment_id=info.experiment_id,
        name=info.run_name,
        status=info.status,
        params={intern(item.key): intern(item.value) for item in data.params},
        metrics={intern(metric.key): metric_value(float(metric.value)) for metric in data.metrics},
        tags={intern(item.key): intern(item.value) for item in data.tags},
        started=info.start_time,
        ended=info.end_time,
    )
