"""MLflow's server, which also answers the lab's questions about many runs at once.

Whoever may not read the runs of an experiment through MLflow's API does not get them here, and whoever may
not change them does not change them here: for one run of each experiment MLflow's own route is asked, as the
caller asked. MLflow's permissions are those of experiments: what it says of one run holds for the others.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from functools import cache
from http import HTTPStatus
from typing import Any, NoReturn, TypeVar

import msgspec
from flask import Blueprint, Response, abort, current_app, request
from mlflow.server import app as flask_app
from mlflow.store.db.utils import create_sqlalchemy_engine
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.test import TestResponse

from vae_lab.tracking.bulk import rows
from vae_lab.tracking.bulk.questions import (
    FORMAT,
    IDS,
    LARGEST,
    OFFER,
    POINTS,
    RUNS,
    TAG,
    TAGS,
    Ids,
    IdsQuestion,
    Offer,
    Points,
    PointsQuestion,
    RunId,
    Runs,
    RunsQuestion,
    TagQuestion,
)

DATABASE = "MLFLOW_BACKEND_STORE_URI"  # variable of MLflow's server
GET_RUN, SET_TAG = "/api/2.0/mlflow/runs/get", "/api/2.0/mlflow/runs/set-tag"
ROUTES = ((OFFER, "GET"), *((path, "POST") for path in (IDS, RUNS, POINTS, TAG)))
_OF_THE_BODY = (
    "content-length",
    "content-type",
    "transfer-encoding",
)  # headers of a question, not of who asks
_CLOSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)

Question = TypeVar("Question", IdsQuestion, RunsQuestion, PointsQuestion, TagQuestion)
routes = Blueprint("vae_lab", __name__)


def with_users() -> Any:
    """Returns the server that asks for passwords, as an ASGI application."""
    from mlflow.server import auth  # reads the settings of the users when it is imported

    flask_app.register_blueprint(routes)
    # MLflow refuses what it has no rule for to all but administrators. These routes ask its rules themselves;
    # that there is a user is asked before.
    auth.BEFORE_REQUEST_VALIDATORS.update(dict.fromkeys(ROUTES, lambda: True))
    return auth.create_app(flask_app)


def without_users() -> Any:
    """Returns the server that asks for none, as an ASGI application."""
    flask_app.register_blueprint(routes)
    from mlflow.server.fastapi_app import create_fastapi_app

    return create_fastapi_app(flask_app)


@routes.get(OFFER)
def offer() -> Response:
    """Says that these questions are answered."""
    return _answer(Offer(FORMAT))


@routes.post(IDS)
def ids() -> Response:
    """Answers which runs have a tag."""
    question = _asked(IdsQuestion, "values")
    with _engine().connect() as connection:
        runs = rows.tagged(connection, question.key, question.values, running=question.running)
    readable = _readable({run_id: experiment for run_id, experiment, _ in runs})
    return _answer(Ids([RunId(run_id, start) for run_id, _, start in runs if run_id in readable]))


@routes.post(RUNS)
def runs() -> Response:
    """Answers what is kept of runs."""
    question = _asked(RunsQuestion, "run_ids")
    with _engine().connect() as connection:
        readable = _readable(rows.places(connection, question.run_ids))
        return _answer(Runs(rows.runs(connection, readable, measured=question.measured)))


@routes.post(POINTS)
def points() -> Response:
    """Answers what runs logged of metrics."""
    question = _asked(PointsQuestion, "run_ids", "metrics")
    with _engine().connect() as connection:
        readable = _readable(rows.places(connection, question.run_ids))
        logged = rows.points(connection, question.run_ids, question.metrics)
    return _answer(Points([point for point in logged if question.run_ids[point.run] in readable]))


@routes.post(TAG)
def tag() -> Response:
    """Gives runs a tag: MLflow gives it to one of each experiment, and its row is copied for the others."""
    question = _asked(TagQuestion, "run_ids")
    if not question.key.startswith(TAGS):
        raise msgspec.ValidationError(f"key: begins with {TAGS}")
    with _engine().connect() as connection:
        by_experiment = _by_experiment(rows.places(connection, question.run_ids))
    for first, *others in by_experiment.values():
        content = {"run_id": first, "key": question.key, "value": question.value}
        answer = _as_the_caller("POST", SET_TAG, json=content)
        if answer.status_code != HTTPStatus.OK:
            _pass_on(answer)
        with _engine().begin() as connection:
            rows.copy_tag(connection, question.key, first, others)
    return _answer({})


@routes.errorhandler(msgspec.MsgspecError)
def _not_a_question(error: msgspec.MsgspecError) -> Response:
    return _refusal(HTTPStatus.BAD_REQUEST, "INVALID_PARAMETER_VALUE", str(error))


@routes.errorhandler(SQLAlchemyError)
def _no_database(error: SQLAlchemyError) -> Response:
    current_app.logger.error("The database does not answer", exc_info=error)
    unavailable = "TEMPORARILY_UNAVAILABLE"
    return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, unavailable, "the database does not answer")


def _asked(form: type[Question], *lists: str) -> Question:
    """Returns the question of the request.

    Raises:
        msgspec.MsgspecError: It has another form, or asks for too much at once.
    """
    question = msgspec.json.decode(request.get_data(), type=form)
    for name in lists:
        if len(getattr(question, name)) > LARGEST:
            raise msgspec.ValidationError(f"{name}: at most {LARGEST} at once")
    return question


def _answer(content: object) -> Response:
    return Response(msgspec.json.encode(content), mimetype="application/json")


def _refusal(status: HTTPStatus, code: str, message: str) -> Response:
    """Returns an answer of the form of MLflow's own."""
    response = _answer({"error_code": code, "message": message})
    response.status_code = status
    return response


def _readable(experiment_of: Mapping[str, int]) -> Collection[str]:
    """Returns those of the runs that whoever asks may read, given the experiment of each."""
    readable: set[str] = set()
    for run_ids in _by_experiment(experiment_of).values():
        answer = _as_the_caller("GET", GET_RUN, query_string={"run_id": run_ids[0]})
        if answer.status_code == HTTPStatus.OK:
            readable.update(run_ids)
        elif answer.status_code not in _CLOSED:
            _pass_on(answer)
    return readable


def _pass_on(answer: TestResponse) -> NoReturn:
    """Ends the request with an answer of MLflow's."""
    abort(Response(answer.data, answer.status_code, content_type=answer.content_type))


def _by_experiment(experiment_of: Mapping[str, int]) -> dict[int, list[str]]:
    by_experiment: dict[int, list[str]] = {}
    for run_id, experiment in experiment_of.items():
        by_experiment.setdefault(experiment, []).append(run_id)
    return by_experiment


def _as_the_caller(method: str, path: str, **content: Any) -> TestResponse:
    """Returns the answer of one of MLflow's routes to whoever sent this request; no network is between."""
    who = [(name, value) for name, value in request.headers if name.lower() not in _OF_THE_BODY]
    return current_app.test_client().open(path, method=method, headers=who, **content)


@cache
def _engine() -> Engine:
    """Returns the connections of this process to the database."""
    engine: Engine = create_sqlalchemy_engine(os.environ[DATABASE])  # type: ignore[no-untyped-call]
    return engine
