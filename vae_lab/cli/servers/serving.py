"""An MLflow server as a process, which ends with the command that started it."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from http import HTTPStatus
from io import FileIO, TextIOWrapper
from logging import NullHandler, makeLogRecord
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import NamedTuple

from vae_lab.errors import LabError

LOCAL = "127.0.0.1"
EVERYWHERE = {"0.0.0.0": LOCAL, "::": "::1"}  # addresses to listen on, and where this machine reaches them
START_SECONDS = 120.0
KEPT_LINES = 20  # of what the server says
LOG_BYTES = 5_000_000  # of its log; the one before is kept beside it
# A server of the user's own has them set; this one would answer elsewhere, or not all.
FOREIGN = ("MLFLOW_ARTIFACTS_ONLY", "MLFLOW_GUNICORN_OPTS", "MLFLOW_STATIC_PREFIX", "MLFLOW_UVICORN_OPTS")
# Of the user as a client, or handed over in another way.
SECRETS = (
    *("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
    *("MLFLOW_AUTH_ADMIN_USERNAME", "MLFLOW_AUTH_ADMIN_PASSWORD"),
)


class Place(NamedTuple):
    """Where a server listens, and the names by which it may be asked."""

    host: str
    port: int
    names: Sequence[str]
    secure: bool = False  # whether it speaks TLS

    @property
    def scheme(self) -> str:
        """What its address begins with."""
        return "https" if self.secure else "http"

    def address(self, name: str) -> str:
        """Returns the address at which a client finds it by a name."""
        return f"{self.scheme}://{bracketed(name)}:{self.port}"


def bracketed(name: str) -> str:
    """Returns the name of a host as it stands before a port.

    Examples:
        >>> bracketed("::1"), bracketed("localhost")
        ('[::1]', 'localhost')
    """
    return f"[{name}]" if ":" in name else name


def obstacle(port: int, host: str = LOCAL) -> str:
    """Returns why a port cannot be had; empty if it can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        if os.name == "posix":  # a server that has just ended leaves its port marked for a minute
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError:
            return "may not be opened by this user"
        except OSError:
            return "another program has it"
    return ""


class Server:
    """An MLflow server over a store; it ends when this process does, whatever ends that.

    Args:
        module: The program, one that ends with its standard input, as `ui_server` does.
        place: Where it listens.
        options: Further options of `mlflow server`.
        variables: Its environment, beside this process's.
        opening: A line that the program reads from its standard input before all else.
        log: A file for what it says on standard error, if there is to be one.
    """

    def __init__(
        self,
        module: str,
        place: Place,
        options: Sequence[str],
        variables: Mapping[str, str],
        opening: str = "",
        log: Path | None = None,
    ) -> None:
        self.place, self._name = place, f"{secrets.token_hex(8)}.localhost"
        self.process = _start(module, place, self._name, options, variables)
        self._words: deque[str] = deque(maxlen=KEPT_LINES)
        self._log = _Log(log, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8") if log else NullHandler()
        # A pipe that nobody reads is full after some hundred refused requests, and the server stands still.
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        if opening:
            assert self.process.stdin is not None
            with suppress(BrokenPipeError):  # it has ended at once, which is said later
                self.process.stdin.write(f"{opening}\n")
                self.process.stdin.flush()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines, closing(self._log):
            for line in lines:
                self._words.append(line)
                self._log.handle(makeLogRecord({"msg": line.rstrip()}))

    def last_words(self) -> str:
        """Returns the last error that the server told, else its last line, once it has ended."""
        self._listener.join(timeout=1)
        lines = [line.strip() for line in reversed(self._words) if line.strip()] or ["no reason given"]
        return next((line for line in lines if "error" in line.lower()), lines[0])

    def wait_until_it_answers(self) -> None:
        """Waits for the first answer.

        Raises:
            LabError: There will be none.
        """
        deadline = time.monotonic() + START_SECONDS
        # By a name that no other server knows: one may have taken the port meanwhile.
        while not _answers(self.place, self._name):
            if self.process.poll() is not None:
                raise LabError(f"the MLflow server ended at once: {self.last_words()}")
            if time.monotonic() > deadline:
                port = self.place.port
                raise LabError(
                    f"the MLflow server does not answer on port {port} after {START_SECONDS:.0f} s."
                )
            time.sleep(0.2)

    def wait(self) -> None:
        """Waits for as long as it serves.

        Raises:
            LabError: It has ended.
        """
        self.process.wait()
        raise LabError(f"the MLflow server ended: {self.last_words()}")

    def stop(self) -> None:
        """Ends the server and its workers."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        if os.name == "posix":  # its workers, if something has ended that process alone
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)


class _Log(RotatingFileHandler):
    """A file that only its owner reads, with the one before it beside it."""

    def _open(self) -> TextIOWrapper:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return TextIOWrapper(FileIO(descriptor, "a"), encoding=self.encoding, write_through=True)


def stop_on_signals() -> None:
    """Has SIGTERM end a command as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _start(
    module: str, place: Place, own_name: str, options: Sequence[str], variables: Mapping[str, str]
) -> subprocess.Popen[str]:
    """Starts the program and returns its process; by `own_name` nobody but its starter asks it."""
    hosts = [f"{bracketed(name)}:{place.port}" for name in (*place.names, own_name)]
    hosts += map(bracketed, place.names)  # where a proxy stands before it
    command = [sys.executable, "-m", module, "--host", place.host, "--port", str(place.port), *options]
    command += ["--allowed-hosts", ",".join(hosts)]
    command += ["--cors-allowed-origins", ",".join(place.address(name) for name in place.names)]
    environment = {key: value for key, value in os.environ.items() if key not in (*FOREIGN, *SECRETS)}
    # Without its job runner, which the lab has no use for, the server starts in half the time.
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    return subprocess.Popen(
        command,
        env=environment | dict(variables),
        cwd=sys.prefix,  # Python would take a random.py that lies in the user's folder for its own
        stdin=subprocess.PIPE,  # its end is this process's end
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # a group of its own, to be ended as a whole
    )


def _answers(place: Place, name: str) -> bool:
    import ssl  # late, as the next: the help of all commands goes without TLS
    from http.client import HTTPConnection, HTTPException, HTTPSConnection

    host = EVERYWHERE.get(place.host, place.host)
    connection: HTTPConnection
    if place.secure:  # whether clients trust its certificate is not asked here
        anything = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        anything.check_hostname, anything.verify_mode = False, ssl.CERT_NONE
        connection = HTTPSConnection(host, place.port, timeout=2, context=anything)
    else:
        connection = HTTPConnection(host, place.port, timeout=2)  # knows no proxies
    try:
        connection.request("GET", "/", headers={"Host": f"{name}:{place.port}"})
        return connection.getresponse().status in (HTTPStatus.OK, HTTPStatus.UNAUTHORIZED)
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
