"""Delivers what processes left in their spools when they ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from vae_lab.errors import LabError
from vae_lab.tracking.address import silence, sqlite_file
from vae_lab.tracking.delivery import drain_folder, why
from vae_lab.tracking.folders import spool_address
from vae_lab.tracking.spool import Backlog, backlogs


def deliver_backlog(folder: Path, to: str | None = None) -> Iterator[Backlog]:
    """Delivers the spools in `folder`, run by run; a store that is away is asked once.

    Args:
        folder: The folder of one store's spools.
        to: The store's address, if it is another one now.

    Yields:
        What became of each.
    """
    waiting = list(backlogs(folder))
    client, away = None, ""
    if any(backlog.left for backlog in waiting):
        try:
            client = _client(to or spool_address(folder))
        except LabError as error:
            away = str(error)
    for backlog in waiting:
        if backlog.busy:
            yield backlog._replace(note="the run goes on and delivers them itself")
        elif client is None:
            yield backlog._replace(note=away)
        else:
            name = ""
            with suppress(MlflowException):
                name = client.get_run(backlog.run_id).info.run_name
            outcome = drain_folder(client, backlog.folder)._replace(name=name)
            yield outcome
            if outcome.note:
                client, away = None, outcome.note


def _client(uri: str | None) -> MlflowClient:
    if uri is None:
        raise LabError("the note of the store's address is damaged; name the store with --to")
    if uri.startswith(("http://", "https://")) and (reason := silence(uri)):
        raise LabError(f"the server does not answer ({reason})")
    file = sqlite_file(uri)
    if file is not None and not file.exists():
        raise LabError("there is no such file any more; if it was moved, name the new one with --to")
    try:
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    except Exception as error:
        raise LabError(f"the store cannot be opened: {why(error)}") from error
    return client
