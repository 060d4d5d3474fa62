"""`vae-lab ui`: the MLflow UI on 127.0.0.1, over the store that `vae-lab train` writes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import click

from vae_lab.cli.options import uri_option
from vae_lab.errors import LabError

if TYPE_CHECKING:
    from vae_lab.tracking import Reader

HOST = "127.0.0.1"  # never the network: whoever reaches the UI can delete runs
START_SECONDS = 60.0


@click.command
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
@uri_option
@click.option(
    "--open/--no-open", "browser", default=False, help="Open the page in the browser.", show_default=True
)
def ui(port: int, uri: str | None, browser: bool) -> None:
    """Serve the MLflow UI on 127.0.0.1 and print the link that shows the runs."""
    import webbrowser

    from vae_lab.report.views import ui_address
    from vae_lab.tracking import Store, sqlite_file

    store = Store.open(uri)
    file = sqlite_file(store.uri)
    if file is None:
        click.echo(f"The runs are on a server: {store.uri}/{first_page(store)}")
        return
    if _answers(port):
        raise LabError(f"--port {port}: something answers there already. Choose another with --port.")
    click.echo(f"Starting the MLflow UI over {file} ...")
    server = start(store.uri, port)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the server must not outlive this command
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        _wait(server, port)
        link = f"{ui_address(port)}/{first_page(store)}"
        plain = f"http://{HOST}:{port}/{first_page(store)}"
        click.echo(f"\n  {link}\n\nIf the browser does not know that name:\n  {plain}\n\nCtrl-C stops it.")
        if browser:
            webbrowser.open(link)
        server.wait()
    except KeyboardInterrupt:
        click.echo("Stopped.")
    finally:
        server.terminate()
        server.wait()


def first_page(store: Reader) -> str:
    """Returns the page of the newest multirun's first question, or of all runs if there is no multirun."""
    from vae_lab.report.views import page, study_views
    from vae_lab.studies.comparison import readable_studies
    from vae_lab.tracking import KIND, RUN, SWEEP

    for study in readable_studies(store, store.tagged(KIND, SWEEP)):
        return page(study.parent.experiment_id, study_views(study)[0])
    runs = store.tagged(KIND, RUN)
    where = f"experiments/{runs[0].experiment_id}/runs" if runs else "experiments"
    return f"#/{where}?workflowType=machine_learning"


def start(uri: str, port: int) -> subprocess.Popen[str]:
    """Starts an MLflow server on 127.0.0.1 over the store at `uri` and returns its process."""
    from vae_lab.report.views import NAME

    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--workers", "1"]
    command += ["--host", HOST, "--port", str(port)]
    names = (NAME, "localhost", HOST)
    command += ["--allowed-hosts", ",".join(f"{name}:{port}" for name in names)]
    command += ["--cors-allowed-origins", ",".join(f"http://{name}:{port}" for name in names)]
    # Without its job runner, which the lab has no use for, the server starts in half the time.
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def _answers(port: int) -> bool:
    from urllib.error import URLError
    from urllib.request import urlopen

    try:
        with urlopen(f"http://{HOST}:{port}/health", timeout=2):
            return True
    except (URLError, OSError):
        return False


def _wait(server: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _answers(port):
        if server.poll() is not None:
            assert server.stderr is not None
            lines = server.stderr.read().strip().splitlines() or ["no reason given"]
            raise LabError(f"the MLflow server ended at once: {lines[-1]}")
        if time.monotonic() > deadline:
            raise LabError(f"the MLflow server does not answer on port {port} after {START_SECONDS:.0f} s.")
        time.sleep(0.2)
