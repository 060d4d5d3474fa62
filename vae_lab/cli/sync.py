"""`vae-lab sync`: delivers the records that wait because their store was away."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from vae_lab.cli.terminal.messages import echo
from vae_lab.errors import LabError, UserError

if TYPE_CHECKING:
    from vae_lab.tracking.spool import Backlog


@click.command
@click.option("--uri", help="Only the records for this store; by default those for every store.")
@click.option("--to", help="With --uri: deliver them here, as the store has another address now.")
@click.option(
    "--drop",
    is_flag=True,
    help="Let go of what was refused or is damaged and, with --uri, of what waits; shows and asks first.",
)
@click.option("--yes", is_flag=True, help="With --drop: do not ask.")
def sync(uri: str | None, to: str | None, drop: bool, yes: bool) -> None:
    """Deliver records that wait because their store was away.

    While a tracking server does not answer or a database cannot be written, runs go on and their records
    wait in spools on this machine. This delivers them, in order, each once. What waits of one run does not
    hold up another. The exit code is 0 if none is left.

    Records that the store refuses, that are damaged, or that are of an attempt at a run that another process
    has gone on from since are kept and named: --drop lets go of them. Those for a store that is gone for good
    wait, and so do those of a run that the store has not: --drop lets go of them only with --uri.

    \b
    Examples:
      vae-lab sync
      vae-lab sync --uri http://127.0.0.1:5000 --to http://127.0.0.1:5001
      vae-lab sync --uri http://127.0.0.1:5000 --drop
    """
    if yes and not drop:
        raise UserError("--yes: is for --drop, which asks before it lets go of anything.")
    sys.exit(deliver(uri, to, drop=drop, asking=not yes))


def deliver(uri: str | None, to: str | None, *, drop: bool = False, asking: bool = True) -> int:
    """Delivers what waits and prints a line a run.

    Args:
        uri: The store whose records are delivered; None for all stores.
        to: The store's address, if it is another one now.
        drop: Let go of what cannot be delivered.
        asking: Ask before that.

    Returns:
        The exit code: 0 if nothing is left.
    """
    if to and not uri:
        raise UserError(f"--to {to}: needs --uri, the address at which the records were to be delivered.")
    _settle(to or uri)
    deliveries = _delivered(uri, to)
    if not deliveries:
        echo("No records wait.")
        return 0
    left = _print_summary(deliveries)
    if drop and left:
        return _let_go(left, asking, waiting=uri is not None)
    return int(bool(left))


def _delivered(uri: str | None, to: str | None) -> list[Backlog]:
    """Delivers run by run, prints what became of each, and returns it."""
    from vae_lab.tracking import (
        deliver_backlog,
        resolve_address,
        spool_address,
        spool_folder,
        spool_folders,
        store_name,
    )

    deliveries: list[Backlog] = []
    store = resolve_address(to or uri) if uri else None
    named = [spool_folder(resolve_address(name)) for name in dict.fromkeys((uri, to)) if name]
    for folder in named or spool_folders():
        for number, delivery in enumerate(deliver_backlog(folder, store)):
            if number == 0:
                address = to or spool_address(folder)
                echo(store_name(address) if address else str(folder))
            _print(delivery)
            deliveries.append(delivery)
    return deliveries


def _print_summary(deliveries: list[Backlog]) -> list[Backlog]:
    """Prints what became of all records; returns the deliveries that left something."""
    delivered = sum(delivery.delivered for delivery in deliveries)
    left = sum(delivery.left for delivery in deliveries)
    refused = sum(len(delivery.refused) for delivery in deliveries)
    rest = [_counted(left, "wait")] if left else []
    rest += [_counted(refused, "could not be delivered")] if refused else []
    echo(f"{'; '.join([_counted(delivered, 'delivered'), *(rest or ['none is left'])])}.")
    return [delivery for delivery in deliveries if delivery.left or delivery.refused]


def _settle(uri: str | None) -> None:
    """Makes a store that was moved at home where it is, so that what waits for it is delivered there."""
    from vae_lab.tracking import resolve_address, settle, sqlite_file

    with suppress(LabError):  # that it cannot be used is said of what waits for it
        file = sqlite_file(resolve_address(uri))
        if file is not None and file.exists():
            settle(file)


def _let_go(deliveries: list[Backlog], asking: bool, *, waiting: bool) -> int:
    """Shows what is left and removes what was refused or is damaged, and with `waiting` what waits.

    Returns:
        The exit code: 0 if nothing is left.
    """
    from vae_lab.tracking import let_go, waiting_records

    refused = [(delivery, delivery.refused) for delivery in deliveries if delivery.refused]
    left = [(delivery, waiting_records(delivery.folder)) for delivery in deliveries if delivery.left]
    gone = 0
    if _agreed("What cannot be delivered:", "that cannot be delivered", refused, asking):
        gone += sum(len(lines) for delivery, lines in refused if let_go(delivery.folder, "refused"))
    title = "What waits, and is delivered once its store takes it:"
    if _agreed(title, "that still wait", left, asking, wanted=waiting):
        gone += sum(delivery.left for delivery, _ in left if let_go(delivery.folder, "waiting"))
    elif left and not waiting:
        echo("It is kept; with --uri, which names its store, --drop lets go of it, too.")
    echo(f"{_counted(gone, 'let go')}.")
    total = sum(delivery.left + len(delivery.refused) for delivery in deliveries)
    return int(gone < total)


def _agreed(
    title: str,
    kind: str,
    records: Sequence[tuple[Backlog, Sequence[str]]],
    asking: bool,
    *,
    wanted: bool = True,
) -> bool:
    """Shows records of a kind, a line for each, and returns whether they are `wanted` away and go."""
    if not records:
        return False
    echo(f"\n{title}")
    for delivery, lines in records:
        echo(f"  {delivery.run_id}  {delivery.name or '-'}")
        for line in lines:
            echo(f"    {line}")
    count = sum(len(lines) for _, lines in records)
    free = any(not delivery.busy for delivery, _ in records)
    return wanted and free and (not asking or click.confirm(f"Let go of {_counted(count, kind)}, for good?"))


def _print(delivery: Backlog) -> None:
    delivered = _counted(delivery.delivered, "delivered") if delivery.delivered else ""
    waits = _counted(delivery.left, f"wait: {delivery.note}") if delivery.left else ""
    outcome = "; ".join(filter(None, (delivered, waits)))
    echo(f"  {delivery.run_id}  {delivery.name or '-':<18}  {outcome}")
    for refusal in delivery.refused:
        echo(f"    {refusal}")
    if delivery.refused:
        echo(f"    They are kept in {delivery.folder}; once you have seen them: {_drop_line(delivery)}")


def _drop_line(delivery: Backlog) -> str:
    """Returns the command that lets go of what was refused of a run's store, and of no other's."""
    from vae_lab.tracking import spool_address

    address = spool_address(delivery.folder.parent)
    return shlex.join(["vae-lab", "sync", "--drop", *(["--uri", address] if address else [])])


def _counted(count: int, words: str) -> str:
    return f"{count} record{'' if count == 1 else 's'} {words}"
