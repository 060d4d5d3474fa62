"""`vae-lab compare`: a study's tables, read from MLflow."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from vae_lab.errors import UserError
from vae_lab.report import tables
from vae_lab.report.tables import Table
from vae_lab.studies.comparison import Study, load_study, requested_metrics
from vae_lab.tracking import KIND, STUDY, SWEEP, Reader, reader


def compare(
    study: str | None,
    form: str,
    metrics: Sequence[str],
    by: Sequence[str],
    contrasts: Sequence[str],
    importance: bool,
    uri: str | None,
) -> None:
    """Prints the tables of `study`, or the list of studies."""
    asked = [tables.parse_contrast(text) for text in contrasts]
    if by and (asked or importance):
        raise UserError(
            "--by: groups the rows of the ablation tables; leave it out with --contrast and --importance."
        )
    store = reader(uri)
    if study is None:
        _list(store)
        return
    found = load_study(store, study)
    chosen = requested_metrics(metrics, found.runs)
    made = tables.contrast_tables(found, asked, chosen) if asked else []
    if importance:
        made += tables.importance_tables(found, chosen, needed=True)
    if not (asked or importance):
        made = tables.study_tables(found, by, chosen)
        if not by and not metrics:
            made += _analyses(store, found)
    if form != "terminal":
        click.echo("\n".join(tables.FORMATS[form](table) for table in made), nl=False)
        return
    console = tables.console()
    started = time.strftime("%Y-%m-%d %H:%M", time.localtime(found.parent.started / 1000))
    finished = sum(run.status == "FINISHED" for run in found.runs)
    lead = f"{found.plan.name}: {finished} of {len(found.runs)} runs finished, started {started}"
    console.print(lead, markup=False)
    if found.plan.question:
        console.print(found.plan.question, markup=False)
    for table in made:
        console.print()
        tables.show(table, console)


def _analyses(store: Reader, study: Study) -> list[Table]:
    if study.plan.oracle is None and study.plan.reference is None:
        return []
    from vae_lab.report.analyses import analysis_tables  # draws too: a second of imports

    return analysis_tables(store, study)


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
        name = Text(parent.tags.get(STUDY, parent.name))
        shown.add_row(name, started, parent.status.lower(), parent.run_id)
    Console(highlight=False).print(shown)
    click.echo("\nTables: vae-lab compare STUDY")
