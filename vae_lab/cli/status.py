"""`vae-lab status`: how far a study is, and how to go on with it."""

from __future__ import annotations

import time

import click
from rich.console import Console
from rich.table import Table

from vae_lab.report.tables import console
from vae_lab.studies.comparison import Study, load_study
from vae_lab.studies.status import RunState, counted, states
from vae_lab.tracking import COMMAND, KIND, STUDY, SWEEP, Reader, kept, reader

COLOURS = {"finished": "green", "running": "cyan", "interrupted": "yellow", "failed": "red", "missing": "dim"}
SHOWN = 40  # unfinished runs in the table, unless all are asked for


def status(name: str | None, every: bool, uri: str | None) -> None:
    """Prints the state of a study's runs, or of all studies."""
    store = reader(uri)
    terminal = console()
    if name is None:
        _list(store, terminal)
        return
    study = load_study(store, name)
    found = states(study)
    terminal.print(f"{study.plan.name}: {_words(counted(found))}", highlight=False)
    left = found if every else [each for each in found if each.state != "finished"]
    if left:
        terminal.print()
        terminal.print(_table(left if every else left[:SHOWN]))
    if not every and len(left) > SHOWN:
        terminal.print(
            f"and {len(left) - SHOWN} more; all of them: vae-lab status {name} --all", highlight=False
        )
    if any(each.state in ("interrupted", "failed", "missing") for each in found):
        again = study.parent.tags.get(COMMAND, "the command that started it")
        terminal.print(
            f"\nTo go on, give the same command again:\n  {again}",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )


def _list(store: Reader, terminal: Console) -> None:
    parents = store.tagged(KIND, SWEEP)
    if not parents:
        click.echo("No multirun is kept here yet. Start one with: vae-lab train experiments=reference")
        return
    shown = Table(box=None, header_style="bold")
    for heading in ("study", "started", "runs"):
        shown.add_column(heading)
    for parent in {each.tags.get(STUDY, each.name): each for each in reversed(parents)}.values():
        study: Study = load_study(store, parent.run_id)
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(parent.started / 1000))
        shown.add_row(study.plan.name, started, _words(counted(states(study))))
    terminal.print(shown)
    terminal.print("\nRun by run: vae-lab status STUDY", highlight=False)
    if files := kept(store.uri):
        size = sum(file.stat().st_size for file in files) / 1e6
        text = (
            f"\n{len(files)} runs under way or interrupted have {size:.1f} MB of checkpoints in\n"
            f"  {files[0].parent.parent}\nTo give up interrupted ones, remove their folders."
        )
        terminal.print(text, soft_wrap=True, highlight=False, markup=False)


def _table(rows: list[RunState]) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("run", no_wrap=True)
    table.add_column("state")
    table.add_column("epochs", justify="right")
    table.add_column("last heard of", justify="right")
    table.add_column("why")
    for row in rows:
        done = "" if row.epochs is None else f"{row.done}/{row.epochs}"
        colour = COLOURS[row.state]
        table.add_row(
            row.name.replace("[", "\\["),
            f"[{colour}]{row.state}[/{colour}]",
            done,
            _ago(row.heard),
            row.note.replace("[", "\\["),
        )
    return table


def _words(count: dict[str, int]) -> str:
    total = sum(count.values())
    if not total:
        return "no runs"
    rest = [f"{number} {state}" for state, number in count.items() if state != "finished"]
    return ", ".join([f"{count.get('finished', 0)} of {total} runs finished", *rest])


def _ago(at: int | None) -> str:
    if at is None:
        return ""
    seconds = max(0.0, time.time() - at / 1000)
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size or (unit != "days" and seconds >= size):
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
