"""Asks HTTP tracking servers as MLflow's client does, and tells one that is away from one that says no."""

from __future__ import annotations

import logging
import re
import time
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit

import requests
from mlflow.exceptions import InvalidUrlException, MlflowException, RestException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from vae_lab import interruption
from vae_lab.errors import LabError, UserError, quoted
from vae_lab.tracking.address import is_server, store_name
from vae_lab.tracking.delivery import first_line, why

log = logging.getLogger(__name__)

REACHABLE_SECONDS = 5.0
ASK_SECONDS = 0.5  # between two questions
_QUESTION = "/api/2.0/mlflow/experiments/search"
_ANSWERED = {"experiments", "next_page_token"}
_PASSING = (408, 425, 429)  # besides 500 and above: whoever asks again later may be answered
_MOVING = (301, 302, 303)  # a question that follows these arrives without its content
_REMEDIES = {
    401: "Give a user that it knows, and the password, in ~/.mlflow/credentials or in "
    "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or a token in MLFLOW_TRACKING_TOKEN",
    403: "Ask whoever runs it for access, or give another user in MLFLOW_TRACKING_USERNAME and "
    "MLFLOW_TRACKING_PASSWORD",
    404: "MLflow's API is not at this address: give that of an MLflow server, with its path if it has one",
}
_TLS = (
    (
        r"certificate verify failed: ([^(\n]+)",
        "shows a certificate that is not trusted ({}). Name the file of its authority in "
        "MLFLOW_TRACKING_SERVER_CERT_PATH, or trust any with MLFLOW_TRACKING_INSECURE_TLS=true",
    ),
    (
        r"CERTIFICATE_REQUIRED|alert (?:bad certificate|unknown ca)",
        "wants a certificate of yours that it trusts. Name its file in MLFLOW_TRACKING_CLIENT_CERT_PATH",
    ),
    (r"WRONG_VERSION_NUMBER|record layer failure", "does not speak TLS: its address begins with http://"),
)


class Trouble(NamedTuple):
    """Why a server cannot be used."""

    reason: str  # what it does, such as "does not answer (connection refused)"
    passes: bool  # whether it may be otherwise later; else something has to be changed first


def check_server(uri: str, wait: float = 0.0) -> None:
    """Asks an HTTP server quickly; MLflow's client would go on trying for minutes.

    Args:
        uri: Its address.
        wait: Seconds to go on asking while it does not answer.

    Raises:
        UserError: It answers, but is no MLflow server or gives no access.
        LabError: It does not answer.
    """
    if not is_server(uri):
        return
    end, warned, name = time.monotonic() + wait, False, store_name(uri)
    while trouble := trouble_with(uri):
        if not trouble.passes:
            raise UserError(f"{name}: the tracking server {trouble.reason}.")
        if time.monotonic() > end:
            raise LabError(
                f"{name}: the tracking server {trouble.reason}. Start it, or choose "
                "another store with tracking.uri=... or MLFLOW_TRACKING_URI."
            )
        if not warned:
            log.warning(f"{name} {trouble.reason}. Waiting up to {wait:.0f} s.")
            warned = True
        interruption.check_now()
        time.sleep(ASK_SECONDS)


def trouble_with(uri: str) -> Trouble | None:
    """Asks a server for an experiment and returns why that cannot be done, None if it can."""
    try:
        answer = http_request(  # type: ignore[no-untyped-call]
            get_default_host_creds(uri),  # type: ignore[no-untyped-call]
            _QUESTION,
            "POST",
            json={"max_results": 1},
            timeout=REACHABLE_SECONDS,
            max_retries=0,
            raise_on_status=False,
        )
    except (ImportError, MlflowException, ValueError) as error:
        if isinstance(error, MlflowException) and error.__context__ is not None:
            return trouble_of(error)
        # Nothing was asked: a variable of MLflow's has a value that cannot be used, or not beside another's.
        return Trouble(f"cannot be asked: {first_line(error)}", passes=False)
    for step in answer.history:
        if step.status_code in _MOVING:
            place = urlsplit(answer.url)
            host = place.netloc.rpartition("@")[2]
            return Trouble(f"leads on to {place.scheme}://{host}. Give that address", passes=False)
    if not answer.ok:
        return _trouble_of_status(answer.status_code, answer.text)
    return None if _is_of_mlflow(answer) else Trouble("is no MLflow server", passes=False)


def trouble_of(error: Exception) -> Trouble:
    """Returns why a question of MLflow's client to a server was not answered."""
    cause = error.__cause__ or error.__context__
    if isinstance(error, RestException):
        status = error.get_http_status_code()  # type: ignore[no-untyped-call]
        if status in _REMEDIES:
            return _trouble_of_status(status, error.message)
    if match := re.search(r"failed with error code (\d+)(?:.*Response body: '(.*)')?", str(error), re.DOTALL):
        return _trouble_of_status(int(match[1]), match[2] or "")
    for pattern, reason in _TLS:
        if match := re.search(pattern, str(cause)):
            return Trouble(reason.format(*(part.strip() for part in match.groups())), passes=False)
    if isinstance(error, InvalidUrlException):
        return Trouble("cannot be asked: its address is not valid", passes=False)
    if isinstance(cause, ValueError):
        return Trouble(
            "cannot be asked: its address, or a user, password or token, has signs that cannot be sent",
            passes=False,
        )
    if isinstance(cause, OSError) and not isinstance(cause, requests.RequestException):
        return Trouble(f"cannot be asked: {cause}", passes=False)  # a certificate's file
    return Trouble(f"does not answer ({why(cause or error)})", passes=True)


def _trouble_of_status(status: int, body: str) -> Trouble:
    if status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Trouble(f"does not answer (HTTP error {status})", passes=True)
    line = next(iter(body.strip().splitlines()), "")
    words = "" if not line or line.startswith("<") else f" ({quoted(line.partition('. ')[0])})"
    remedy = f". {_REMEDIES[status]}" if status in _REMEDIES else ""
    return Trouble(f"answers with HTTP error {status}{words}{remedy}", passes=False)


def _is_of_mlflow(answer: requests.Response) -> bool:
    try:
        content = answer.json()
    except ValueError:
        return False
    return isinstance(content, dict) and content.keys() <= _ANSWERED
