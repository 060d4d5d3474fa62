"""Delivers what processes left in their journals when they ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from vae_lab.errors import LabError
from vae_lab.tracking.address import silence, sqlite_file
from vae_lab.tracking.delivery import RefusedError, deliver_first, why
from vae_lab.tracking.journal import Waiting, refusals, reopened, waiting
from vae_lab.tracking.places import address_of


class Delivery(NamedTuple):
    """What became of one run's journal."""

    run_id: str
    name: str  # of the run; empty where the store does not say
    delivered: int
    left: int
    note: str  # why records are left
    refused: list[dict[str, str]]  # what will never be delivered: `what` and `reason`
    folder: Path


def deliver_backlog(place: Path, to: str | None = None) -> Iterator[Delivery]:
    """Delivers the journals in `place`, run by run; a store that is away is asked once.

    Args:
        place: the folder of one store's journals.
        to: the store's address, if it is another one now.
    """
    found = list(waiting(place))
    uri = to or address_of(place)
    client, away = None, ""
    if any(each.records for each in found):
        try:
            client = _client(uri)
        except LabError as error:
            away = str(error)
    for each in found:
        if each.busy:
            yield _left(each, "the run goes on and delivers them itself" if each.records else "")
        elif client is None:
            yield _left(each, away)
        else:
            delivery = _deliver(client, each)
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


def _left(found: Waiting, note: str) -> Delivery:
    return Delivery(found.run_id, "", 0, found.records, note, found.refused, found.folder)


def _deliver(client: MlflowClient, found: Waiting) -> Delivery:
    journal = reopened(found.folder)
    if journal is None:
        return _left(found, "another process delivers them")
    note, name = "", ""
    with suppress(MlflowException):
        name = client.get_run(found.run_id).info.run_name
    before, lost = journal.delivered, 0
    try:
        while True:
            try:
                if not deliver_first(client, journal):
                    break
            except RefusedError:
                lost += 1  # noted in the journal's folder
    except Exception as error:
        note = why(error)
    delivered, left, refused = journal.delivered - before - lost, journal.pending, refusals(found.folder)
    journal.close()
    return Delivery(found.run_id, name, delivered, left, note, refused, found.folder)
