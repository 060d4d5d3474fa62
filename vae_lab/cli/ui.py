"""`vae-lab ui`: the MLflow UI on 127.0.0.1, over the store that `vae-lab train` writes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vae_lab.cli.options import refuse_unread, uri_option
from vae_lab.cli.servers.serving import LOCAL, Place, Server, obstacle, stop_on_signals
from vae_lab.cli.terminal.messages import echo
from vae_lab.errors import LabError, UserError

if TYPE_CHECKING:
    from vae_lab.tracking import Reader

NEARBY = 100  # ports that are tried unless one is named


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
        refuse_unread(f"{name} serves its runs itself, and nothing listens here; leave it out.", "port")
        link = f"{name}/{first_page(store)}"
        echo(f"The runs are on a server: {link}")
        if browser:
            webbrowser.open(link)
        return
    chosen = free_port(port)
    stop_on_signals()
    with served(store.uri) as address:
        echo(f"Starting the MLflow UI over {name} ...")
        server = start(address, chosen)
        try:
            server.wait_until_it_answers()
            page = first_page(store)
            link = f"{ui_address(chosen)}/{page}"
            plain = f"{server.place.address(LOCAL)}/{page}"
            echo(f"\n  {link}\n\nIf the browser does not know that name:\n  {plain}\n\nCtrl-C stops it.")
            if browser:
                webbrowser.open(link)
            server.wait()
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
        if reason := obstacle(named):
            raise UserError(f"--port {named}: {reason}. Name another, or none for one that is free.")
        return named
    for port in range(PORT, PORT + NEARBY):
        if not obstacle(port):
            if port != PORT:
                echo(f"Port {PORT} is taken; this is on {port}.")
            return port
    raise LabError(f"no port from {PORT} to {PORT + NEARBY - 1} is free. Name one with --port.")


def start(uri: str, port: int) -> Server:
    """Starts an MLflow server on 127.0.0.1 over the store at `uri`.

    Args:
        uri: The store.
        port: Where it listens.
    """
    from vae_lab.report.views import NAME
    from vae_lab.tracking import ARTIFACT_FOLDER, client_address, sqlite_file

    # Not as an argument, which everybody on the machine can read: it may hold a database's password.
    variables = {"MLFLOW_BACKEND_STORE_URI": client_address(uri)}
    if (file := sqlite_file(uri)) is not None:
        # Runs of the lab may go to an experiment that was made in the browser, and write beside the database.
        variables["MLFLOW_DEFAULT_ARTIFACT_ROOT"] = (file.parent / ARTIFACT_FOLDER).as_uri()
    place = Place(LOCAL, port, (NAME, "localhost", LOCAL))
    return Server("vae_lab.cli.servers.ui_server", place, ("--workers", "1"), variables)
