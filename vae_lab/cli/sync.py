"""`vae-lab sync`: delivers the records that wait because their store was away."""

from __future__ import annotations

import os

import click

from vae_lab.errors import UserError
from vae_lab.tracking import address_of, all_places, deliver_backlog, named, place_of, resolved


def sync(uri: str | None, to: str | None) -> int:
    """Delivers what waits and prints a line a run; gives the exit code: 0 if nothing is left."""
    if to and not uri:
        raise UserError(f"--to {to}: needs --uri, the address at which the records were to be delivered.")
    wanted = [place_of(resolved(uri))] if uri else all_places()
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # a line a run is enough
    delivered = left = refused = runs = 0
    for place in wanted:
        told = False
        for each in deliver_backlog(place, resolved(to) if to else None):
            if not told:
                address = to or address_of(place)
                click.echo(named(address) if address else str(place))
                told = True
            what = _counted(each.delivered, "delivered") if each.delivered else ""
            waits = _counted(each.left, f"wait: {each.note}") if each.left else ""
            click.echo(f"  {each.run_id}  {each.name or '-':<18}  {'; '.join(filter(None, (what, waits)))}")
            for fault in each.refused:
                click.echo(f"    {fault.get('what', '')} {fault.get('reason', '')}")
            if each.refused:
                click.echo(f"    Its journal is kept; remove it when you have seen it: {each.folder}")
            runs += 1
            delivered += each.delivered
            left += each.left
            refused += len(each.refused)
    if not runs:
        click.echo("No records wait.")
        return 0
    rest = [_counted(left, "wait")] if left else []
    rest += [_counted(refused, "could not be delivered")] if refused else []
    click.echo(f"{'; '.join([_counted(delivered, 'delivered'), *(rest or ['none is left'])])}.")
    return 1 if rest else 0


def _counted(count: int, what: str) -> str:
    return f"{count} record{'' if count == 1 else 's'} {what}"
