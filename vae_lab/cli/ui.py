"""`vae-lab ui`: the MLflow UI on 127.0.0.1, over the store that `vae-lab train` writes."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vae_lab.cli.messages import echo
from vae_lab.cli.options import uri_option
from vae_lab.errors import LabError, UserError

if TYPE_CHECKING:
    from vae_lab.tracking import Reader

HOST = "127.0.0.1"  # never the network: whoever reaches the UI can delete runs
NEARBY = 100  # ports that are tried unless one is named
START_SECONDS = 60.0
KEPT_LINES = 20  # of what the server says
# A server of the user's own has them set; this one would answer elsewhere, or not all.
FOREIGN = ("MLFLOW_ARTIFACTS_ONLY", "MLFLOW_GUNICORN_OPTS", "MLFLOW_STATIC_PREFIX", "MLFLOW_UVICORN_OPTS")


@click.command
@click.option(
    "--port", type=click.IntRange(1, 65535), help="By default 5000, or the first one after it that is free."
)
@uri_option
@click.option(
    "--open/--no-open", "browser", default=False, help="Open the page in the browser.", show_default=True
)
def ui(port: int | None, uri: str | None, browser: bool) -> None:
    """Serve the MLflow UI on 127.0.0.1 and print the link that shows the runs."""
    import webbrowser

    from vae_lab.report.views import ui_address
    from vae_lab.tracking import is_server, reader, store_name

    store = reader(uri)
    name = store_name(store.uri)
    if is_server(store.uri):
        echo(f"The runs are on a server: {name}/{first_page(store)}")
        return
    chosen = free_port(port)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with served(store.uri) as address:
        echo(f"Starting the MLflow UI over {name} ...")
        server = Server(address, chosen)
        try:
            server.wait_until_it_answers()
            page = first_page(store)
            link = f"{ui_address(chosen)}/{page}"
            plain = f"http://{HOST}:{chosen}/{page}"
            echo(f"\n  {link}\n\nIf the browser does not know that name:\n  {plain}\n\nCtrl-C stops it.")
            if browser:
                webbrowser.open(link)
            server.process.wait()
            raise LabError(f"the MLflow server ended: {server.last_words()}")
        except KeyboardInterrupt:
            echo("Stopped.")
        finally:
            server.stop()


@contextmanager
def served(uri: str) -> Iterator[str]:
    """Yields the address at which MLflow's server finds the runs of a store and their artifacts.

    A store that was moved is made at home where it is. Of one that can only be read it is a copy.
    """
    from vae_lab.tracking import Store, copy_for_reading, file_address, sqlite_file

    store, file = Store.open(uri), sqlite_file(uri)
    if file is not None and (reason := store.refuses_writes()):
        echo(f"This store can only be read ({reason}): what is changed in the browser is lost.")
        with tempfile.TemporaryDirectory() as folder:
            yield file_address(copy_for_reading(file, Path(folder)))
    else:
        store.settle()
        yield store.uri


def first_page(store: Reader) -> str:
    """Returns the page of the newest multirun's first question, or of all runs if there is no multirun."""
    from vae_lab.report.views import page, study_views
    from vae_lab.studies.study import readable_studies
    from vae_lab.tracking import KIND, RUN, SWEEP

    for study in readable_studies(store, store.tagged(KIND, SWEEP)):
        return page(study.parent.experiment_id, study_views(study)[0])
    runs = store.tagged(KIND, RUN)
    where = f"experiments/{runs[0].experiment_id}/runs" if runs else "experiments"
    return f"#/{where}?workflowType=machine_learning"


def free_port(named: int | None) -> int:
    """Returns the port that the user named, else the first one from 5000 on that no program has.

    Raises:
        UserError: The named one cannot be had.
        LabError: None is free.
    """
    from vae_lab.report.views import PORT

    if named is not None:
        if reason := _obstacle(named):
            raise UserError(f"--port {named}: {reason}. Name another, or none for one that is free.")
        return named
    for port in range(PORT, PORT + NEARBY):
        if not _obstacle(port):
            if port != PORT:
                echo(f"Port {PORT} is taken; this is on {port}.")
            return port
    raise LabError(f"no port from {PORT} to {PORT + NEARBY - 1} is free. Name one with --port.")


def _obstacle(port: int) -> str:
    """Returns why a port cannot be had; empty if it can."""
    with socket.socket() as probe:
        if os.name == "posix":  # a server that has just ended leaves its port marked for a minute
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except PermissionError:
            return "may not be opened by this user"
        except OSError:
            return "another program has it"
    return ""


class Server:
    """An MLflow server on 127.0.0.1 over a store; it ends when this process does, whatever ends that."""

    def __init__(self, uri: str, port: int) -> None:
        self.port, self._name = port, f"{secrets.token_hex(8)}.localhost"
        self.process = start(uri, port, self._name)
        self._words: deque[str] = deque(maxlen=KEPT_LINES)
        # A pipe that nobody reads is full after some hundred refused requests, and the server stands still.
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            self._words.extend(lines)

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
        while not _answers(self.port, self._name):
            if self.process.poll() is not None:
                raise LabError(f"the MLflow server ended at once: {self.last_words()}")
            if time.monotonic() > deadline:
                raise LabError(
                    f"the MLflow server does not answer on port {self.port} after {START_SECONDS:.0f} s."
                )
            time.sleep(0.2)

    def stop(self) -> None:
        """Ends the server and its workers."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        if os.name == "posix":  # its workers, if something has ended that process alone
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)


def start(uri: str, port: int, own_name: str) -> subprocess.Popen[str]:
    """Starts an MLflow server on 127.0.0.1 over the store at `uri` and returns its process.

    Args:
        uri: The store.
        port: Where it listens.
        own_name: A name by which nobody but its starter asks it.
    """
    from vae_lab.report.views import NAME
    from vae_lab.tracking import ARTIFACT_FOLDER, client_address, sqlite_file

    command = [sys.executable, "-m", "vae_lab.cli.ui_server", "--workers", "1"]
    command += ["--host", HOST, "--port", str(port)]
    names = (NAME, "localhost", HOST)
    command += ["--allowed-hosts", ",".join(f"{name}:{port}" for name in (*names, own_name))]
    command += ["--cors-allowed-origins", ",".join(f"http://{name}:{port}" for name in names)]
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    # Not as an argument, which everybody on the machine can read: it may hold a database's password.
    environment["MLFLOW_BACKEND_STORE_URI"] = client_address(uri)
    if (file := sqlite_file(uri)) is not None:
        # Runs of the lab may go to an experiment that was made in the browser, and write beside the database.
        environment["MLFLOW_DEFAULT_ARTIFACT_ROOT"] = (file.parent / ARTIFACT_FOLDER).as_uri()
    # Without its job runner, which the lab has no use for, the server starts in half the time.
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    return subprocess.Popen(
        command,
        env=environment,
        cwd=sys.prefix,  # Python would take a random.py that lies in the user's folder for its own
        stdin=subprocess.PIPE,  # never written to: its end is this process's end
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # a group of its own, to be ended as a whole
    )


def _answers(port: int, name: str = HOST) -> bool:
    from http.client import HTTPConnection, HTTPException  # late: the help of all commands goes without TLS

    connection = HTTPConnection(HOST, port, timeout=2)  # knows no proxies
    try:
        connection.request("GET", "/", headers={"Host": f"{name}:{port}"})
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
