"""Delivers what processes left in their spools when they ended, or lets go of it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from vae_lab.errors import LabError
from vae_lab.files import DamagedError
from vae_lab.tracking.address import client_address, is_server, resolve_address, sqlite_file
from vae_lab.tracking.delivery import drain_folder, why
from vae_lab.tracking.folders import lock_folder, spool_address
from vae_lab.tracking.schema import check_schema
from vae_lab.tracking.servers import trouble_with
from vae_lab.tracking.spool import Backlog, NewerRecordError, Spool, backlogs, look


def deliver_backlog(folder: Path, to: str | None = None) -> Iterator[Backlog]:
    """Delivers the spools in `folder`, each run for itself; a store that is away is asked once.

    Args:
        folder: The folder of one store's spools.
        to: The store's address, if it is another one now.

    Yields:
        What became of each.
    """
    uri, away = to or spool_address(folder), ""
    client: MlflowClient | None = None
    for backlog in list(backlogs(folder)):
        if backlog.busy:
            yield backlog._replace(note="the run goes on and delivers them itself")
            continue
        if client is None and backlog.left and not away:
            try:
                client = _client(uri)
            except LabError as error:
                away = str(error)
        if client is None:
            yield backlog._replace(note=away)
            continue
        name = ""
        with suppress(MlflowException):
            name = client.get_run(backlog.run_id).info.run_name
        outcome = drain_folder(client, backlog.folder)._replace(name=name)
        yield outcome
        if outcome.note:
            client = None  # it is asked whether it is the store or this run alone


def waiting_records(folder: Path) -> list[str]:
    """Returns a line for each record that waits in a spool; none if a process holds it."""
    if (spool := Spool.reopen(folder)) is None:
        return []
    lines = []
    for number in spool.numbers:
        try:
            with spool.read(number) as record:
                when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.at / 1000))
                lines.append(f"record {number} of {when}: {record.content}")
        except DamagedError as error:
            lines.append(f"record {number} {error}")
        except NewerRecordError as error:
            lines.append(str(error))
    spool.close()
    return lines


def let_go(folder: Path, kind: Literal["refused", "waiting"]) -> bool:
    """Removes the records of one kind from a spool, and the spool if none of the other is left.

    Returns:
        Whether it did: a process may hold the spool.
    """
    if (lock := lock_folder(folder)) is None:
        return not folder.exists()
    for ending in ("refused", "reason") if kind == "refused" else ("record",):
        for file in folder.glob(f"*.{ending}"):
            file.unlink()
    backlog = look(folder)
    if not backlog.left and not backlog.refused:
        shutil.rmtree(folder)
    lock.release()
    return True


def _client(uri: str | None) -> MlflowClient:
    if uri is None:
        raise LabError("the note of the store's address is damaged; name the store with --to")
    uri = resolve_address(uri)
    if is_server(uri) and (trouble := trouble_with(uri)):
        raise LabError(f"the server {trouble.reason}")
    file = sqlite_file(uri)
    if file is not None and not file.exists():
        raise LabError("there is no such file any more; if it was moved, name the new one with --to")
    try:
        check_schema(uri)
        client = MlflowClient(tracking_uri=client_address(uri))
        client.search_experiments(max_results=1)
    except Exception as error:
        raise LabError(f"the store cannot be opened: {why(error)}") from error
    return client
