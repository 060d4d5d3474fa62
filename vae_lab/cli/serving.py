"""`vae-lab ui`: the MLflow UI on 127.0.0.1, over the store that `vae-lab train` writes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import webbrowser
from urllib.error import URLError
from urllib.request import urlopen

import click

from vae_lab.errors import LabError
from vae_lab.tracking import Store, sqlite_file

HOST = "127.0.0.1"  # never the network: whoever reaches the UI can delete runs
START_SECONDS = 60.0


def serve(port: int, uri: str | None, browser: bool) -> None:
    """Starts the server, prints the link to the runs and stays until interrupted."""
    store = Store.open(uri)
    file = sqlite_file(store.uri)
    if file is None:
        click.echo(f"The runs are on a server: {store.uri}/?workflowType=machine_learning")
        return
    address = f"http://{HOST}:{port}"
    if _answers(address):
        raise LabError(f"--port {port}: something answers there already. Choose another with --port.")
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store.uri]
    command += ["--host", HOST, "--port", str(port), "--workers", "1"]
    # Without its job runner, which the lab has no use for, the server starts in half the time.
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    click.echo(f"Starting the MLflow UI over {file} ...")
    server = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        _wait(server, address)
        link = f"{address}/#/experiments?workflowType=machine_learning"
        click.echo(f"\n  {link}\n\nCtrl-C stops it.")
        if browser:
            webbrowser.open(link)
        server.wait()
    except KeyboardInterrupt:
        click.echo("Stopped.")
    finally:
        server.terminate()
        server.wait()


def _answers(address: str) -> bool:
    try:
        with urlopen(f"{address}/health", timeout=2):
            return True
    except (URLError, OSError):
        return False


def _wait(server: subprocess.Popen[str], address: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _answers(address):
        if server.poll() is not None:
            assert server.stderr is not None
            lines = server.stderr.read().strip().splitlines() or ["no reason given"]
            raise LabError(f"the MLflow server ended at once: {lines[-1]}")
        if time.monotonic() > deadline:
            raise LabError(f"the MLflow server does not answer on {address} after {START_SECONDS:.0f} s.")
        time.sleep(0.2)
