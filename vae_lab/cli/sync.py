"""`vae-lab sync`: delivers the records that wait because their store was away."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from vae_lab.errors import UserError

if TYPE_CHECKING:
    from vae_lab.tracking.spool import Backlog


@click.command
@click.option("--uri", help="Only the records for this store; by default those for every store.")
@click.option("--to", help="With --uri: deliver them here, as the store has another address now.")
def sync(uri: str | None, to: str | None) -> None:
    """Deliver records that wait because their store was away.

    While a tracking server does not answer or a database cannot be written, runs go on and their records
    wait in spools on this machine. This delivers them, in order, each once. The exit code is 0 if none is
    left.

    \b
    Examples:
      vae-lab sync
      vae-lab sync --uri http://127.0.0.1:5000 --to http://127.0.0.1:5001
    """
    sys.exit(deliver(uri, to))


def deliver(uri: str | None, to: str | None) -> int:
    """Delivers what waits and prints a line a run.

    Args:
        uri: The store whose records are delivered; None for all stores.
        to: The store's address, if it is another one now.

    Returns:
        The exit code: 0 if nothing is left.
    """
    from vae_lab.tracking import (
        deliver_backlog,
        resolve_address,
        spool_address,
        spool_folder,
        spool_folders,
        store_name,
    )

    if to and not uri:
        raise UserError(f"--to {to}: needs --uri, the address at which the records were to be delivered.")
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # a line a run is enough
    deliveries: list[Backlog] = []
    for folder in [spool_folder(resolve_address(uri))] if uri else spool_folders():
        for number, delivery in enumerate(deliver_backlog(folder, resolve_address(to) if to else None)):
            if number == 0:
                address = to or spool_address(folder)
                click.echo(store_name(address) if address else str(folder))
            _print(delivery)
            deliveries.append(delivery)
    if not deliveries:
        click.echo("No records wait.")
        return 0
    delivered = sum(delivery.delivered for delivery in deliveries)
    left = sum(delivery.left for delivery in deliveries)
    refused = sum(len(delivery.refused) for delivery in deliveries)
    rest = [_counted(left, "wait")] if left else []
    rest += [_counted(refused, "could not be delivered")] if refused else []
    click.echo(f"{'; '.join([_counted(delivered, 'delivered'), *(rest or ['none is left'])])}.")
    return 1 if rest else 0


def _print(delivery: Backlog) -> None:
    delivered = _counted(delivery.delivered, "delivered") if delivery.delivered else ""
    waits = _counted(delivery.left, f"wait: {delivery.note}") if delivery.left else ""
    outcome = "; ".join(filter(None, (delivered, waits)))
    click.echo(f"  {delivery.run_id}  {delivery.name or '-':<18}  {outcome}")
    for refusal in delivery.refused:
        click.echo(f"    {refusal}")
    if delivery.refused:
        click.echo(f"    Its spool is kept; remove it when you have seen it: {delivery.folder}")


def _counted(count: int, words: str) -> str:
    return f"{count} record{'' if count == 1 else 's'} {words}"
