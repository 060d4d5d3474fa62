"""Delivers what processes left in their spools when they ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from vae_lab.errors import LabError
from vae_lab.tracking.address import silence, sqlite_file
from vae_lab.tracking.delivery import drain, why
from vae_lab.tracking.folders import spool_address
from vae_lab.tracking.spool import Waiting, refusals, reopened, waiting


class Delivery(NamedTuple):
    """What became of one run's spool."""

    run_id: str
    name: str  # of the run; empty where the store does not say
    delivered: int
    left: int
    note: str  # why records are left
    refused: list[str]  # what will never be delivered, each with the reason
    folder: Path


def deliver_backlog(folder: Path, to: str | None = None) -> Iterator[Delivery]:
    """Delivers the spools in `folder`, run by run; a store that is away is asked once.

    Args:
        folder: The folder of one store's spools.
        to: The store's address, if it is another one now.
    """
    spools = list(waiting(folder))
    uri = to or spool_address(folder)
    client, away = None, ""
    if any(spool.records for spool in spools):
        try:
            client = _client(uri)
        except LabError as error:
            away = str(error)
    for spool in spools:
        if spool.busy:
            yield _left(spool, "the run goes on and delivers them itself" if spool.records else "")
        elif client is None:
            yield _left(spool, away)
        else:
            assert uri is not None
            delivery = _deliver(client, uri, spool)
            yield delivery
            if delivery.note:
                client, away = None, delivery.note


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


def _left(spool: Waiting, note: str) -> Delivery:
    return Delivery(spool.run_id, "", 0, spool.records, note, spool.refused, spool.folder)


def _deliver(client: MlflowClient, uri: str, look: Waiting) -> Delivery:
    spool = reopened(uri, look.folder)
    if spool is None:
        return _left(look, "another process delivers them")
    note, name, delivered = "", "", 0
    with suppress(MlflowException):
        name = client.get_run(look.run_id).info.run_name
    try:
        for sentence in drain(client, spool):
            delivered += not sentence
    except Exception as error:
        note = why(error)
    left, refused = spool.pending, refusals(look.folder)
    spool.close()
    return Delivery(look.run_id, name, delivered, left, note, refused, look.folder)
