"""A real MLflow server that can be killed, started again, stopped and continued."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.server.team import TeamServer, free_port


class Server:
    """An MLflow server on 127.0.0.1 with a store and artifacts of its own in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether it has been started and not ended since."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Starts it and waits until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        self.process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # the server's worker is in its group, and gets its signals
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urlopen(f"{self.address}/health", timeout=2):
                    return
            except (URLError, OSError):
                time.sleep(0.2)
        raise AssertionError("the server did not start")

    def signal(self, number: int) -> None:
        """Sends a signal to the server and its worker."""
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """Ends it at once, whatever it is doing."""
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()


@pytest.fixture(scope="session")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    mlflow = Server(tmp_path_factory.mktemp("server"))
    yield mlflow
    if mlflow.running:
        mlflow.kill()


@pytest.fixture
def mlflow_server(_server: Server) -> Server:
    """A server that runs; it keeps what earlier tests gave it."""
    if not _server.running:
        _server.start()
    return _server


@pytest.fixture
def server(mlflow_server: Server) -> str:
    """The address of a server that runs."""
    return mlflow_server.address


@pytest.fixture(scope="session")
def _team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamServer]:
    pytest.importorskip("flask_wtf", reason="the extra `server` is not installed")
    server = TeamServer(tmp_path_factory.mktemp("team"))
    yield server
    if server.process is not None:
        server.stop()


@pytest.fixture
def team(_team: TeamServer) -> TeamServer:
    """A team's server that runs; it keeps what earlier tests gave it."""
    if _team.process is None:
        _team.start()
    return _team
