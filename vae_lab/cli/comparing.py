"""`vae-lab compare`: a study's tables, read from MLflow."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click
from rich.console import Console
from rich.table import Table as RichTable

from vae_lab import tables
from vae_lab.comparison import MEASURES, load_study, measures
from vae_lab.report import analysis_tables, study_tables
from vae_lab.tracking import KIND, STUDY, SWEEP, Reader, reader


def compare(study: str | None, form: str, metrics: Sequence[str], by: Sequence[str], uri: str | None) -> None:
    """Prints the tables of `study`, or the list of studies."""
    store = reader(uri)
    if study is None:
        _list(store)
        return
    found = load_study(store, study)
    chosen = measures(metrics, found.runs) if metrics else MEASURES
    made = study_tables(found, by, chosen)
    if not by and not metrics:
        made += analysis_tables(store, found)
    if form != "terminal":
        click.echo("\n".join(tables.FORMATS[form](table) for table in made), nl=False)
        return
    console = tables.console()
    started = time.strftime("%Y-%m-%d %H:%M", time.localtime(found.parent.started / 1000))
    finished = sum(run.status == "FINISHED" for run in found.runs)
    console.print(f"{found.plan.name}: {finished} of {len(found.runs)} runs finished, started {started}")
    if found.plan.question:
        console.print(found.plan.question)
    for table in made:
        console.print()
        tables.show(table, console)


def _list(store: Reader) -> None:
    parents = store.tagged(KIND, SWEEP)
    if not parents:
        click.echo("No multirun is kept here yet. Start one with: vae-lab train experiments=reference")
        return
    shown = RichTable(box=None, header_style="bold")
    for heading in ("study", "started", "status", "parent run"):
        shown.add_column(heading)
    for parent in parents:
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(parent.started / 1000))
        shown.add_row(parent.tags.get(STUDY, parent.name), started, parent.status.lower(), parent.run_id)
    Console(highlight=False).print(shown)
    click.echo("\nTables: vae-lab compare STUDY")
