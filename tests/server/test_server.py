"""A real MLflow tracking server instead of the embedded store."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

import vae_lab
from tests.conftest import SMALL
from vae_lab import tracking
from vae_lab.tracking import Store

Lab = Callable[..., tuple[int, str, str]]


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with a store and artifacts of its own."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'server.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urlopen(f"{address}/health", timeout=2):
                break
        except (URLError, OSError):
            time.sleep(0.3)
    yield address
    process.terminate()
    process.wait(timeout=30)


def test_a_sweep_is_kept_by_the_server_and_nothing_by_the_folder(lab: Lab, folder: Path, server: str) -> None:
    code, out, err = lab(*SMALL, "train.epochs=1", f"tracking.uri={server}", "-m", "model=vae,cvae")
    assert code == 0, err
    assert "Contact sheet" in out
    assert list(folder.iterdir()) == []
    store = Store.open(server)
    parent = next(record for record in store.records() if record.kind == tracking.SWEEP)
    runs = store.members(parent.run_id)
    assert [run.name for run in runs] == ["vae L3 Z15 s0", "cvae L3 Z15 s0"]
    assert "### model" in store.download(parent.run_id, "tables/ablations.md").read_text()
    model = vae_lab.load(runs[1].run_id, uri=server)
    assert model.condition_size == 10
