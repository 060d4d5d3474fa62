"""`vae-lab compare`: a study's tables, read from MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from vae_lab.cli.options import format_option, refuse_unread, uri_option
from vae_lab.cli.terminal.messages import echo
from vae_lab.errors import UserError

if TYPE_CHECKING:
    from vae_lab.report.tables import Contrast, Table
    from vae_lab.studies.study import Study
    from vae_lab.tracking import Reader

MOST_ROWS = 200  # of a table in the terminal
OF_TABLES = ("form", "metrics", "by", "contrasts", "importance")  # options


@click.command
@click.argument("study", required=False)
@format_option
@click.option("--metric", "metrics", multiple=True, help="Show this metric instead; can be given again.")
@click.option("--by", multiple=True, help="One row for each value of this key; can be given again.")
@click.option(
    "--contrast",
    "contrasts",
    multiple=True,
    metavar="KEY=A,B",
    help="Show what changing KEY from A to B does, in place of the tables: paired by seed within one "
    "architecture, as two samples between architectures; can be given again.",
)
@click.option("--importance", is_flag=True, help="How much of the variance each key explains, instead.")
@uri_option
def compare(
    study: str | None,
    form: str,
    metrics: tuple[str, ...],
    by: tuple[str, ...],
    contrasts: tuple[str, ...],
    importance: bool,
    uri: str | None,
) -> None:
    """Print the ablation tables of STUDY, read from MLflow.

    STUDY is a study's or sweep's name, for its newest multirun, or the id of a parent run. Without it,
    the multiruns of the store are listed. Where seeds repeat, values are means with 95 % intervals, and the
    best are marked only where the seeds show that others are worse.

    \b
    Examples:
      vae-lab compare reference
      vae-lab compare reference --format latex > tables.tex
      vae-lab compare depth --by model.layers --metric test/loss --metric test/kl
      vae-lab compare depth --contrast model.layers=2,3 --contrast model.layers=3,4
      vae-lab compare ablations --importance --metric test/loss
    """
    from vae_lab.report import tables
    from vae_lab.studies.study import load_study
    from vae_lab.tracking import reader

    if by and (contrasts or importance):
        raise UserError(
            "--by: groups the rows of the ablation tables; leave it out with --contrast and --importance."
        )
    if study is None:
        refuse_unread("is of a study's tables; name the study, as in: vae-lab compare reference", *OF_TABLES)
    parsed = [tables.parse_contrast(text) for text in contrasts]
    store = reader(uri)
    if study is None:
        _print_multiruns(store)
        return
    loaded = load_study(store, study)
    _print(store, loaded, _tables(store, loaded, metrics, by, parsed, importance), form)


def _tables(
    store: Reader,
    study: Study,
    metrics: Sequence[str],
    by: Sequence[str],
    contrasts: list[Contrast],
    importance: bool,
) -> list[Table]:
    from vae_lab.report import tables
    from vae_lab.studies.comparison import requested_metrics

    columns = requested_metrics(metrics, study.runs, study.plan.own_metrics)
    drawn = tables.contrast_tables(study, contrasts, columns) if contrasts else []
    if importance:
        drawn += tables.importance_tables(study, columns, needed=True)
    if contrasts or importance:
        return drawn
    drawn = tables.study_tables(study, by, columns)
    if by or metrics or (study.plan.oracle is None and study.plan.reference is None):
        return drawn
    from vae_lab.report.analyses import analysis_tables  # draws too: a second of imports

    return [*drawn, *analysis_tables(store, study)]


def _print(store: Reader, study: Study, drawn: Sequence[Table], form: str) -> None:
    from vae_lab.cli.terminal.listing import started
    from vae_lab.report import tables
    from vae_lab.report.terminal import output, plain
    from vae_lab.studies.names import whose
    from vae_lab.studies.status import states_in_words

    if form != "terminal":
        echo("\n".join(tables.FORMATS[form](table) for table in drawn), nl=False)
        return
    console = output()
    owner, when = whose(study.parent, store.uri), started(study.parent)
    console.print(plain(f"{study.plan.name}{owner}: {states_in_words(study)}, started {when}"))
    if study.plan.question:
        console.print(plain(study.plan.question))
    for table in drawn:
        console.print()
        tables.show(table.abridged(MOST_ROWS), console)
    if any(len(table.rows) > MOST_ROWS for table in drawn):
        console.print(plain(f"\nEvery row: vae-lab compare {study.plan.name} --format csv"))


def _print_multiruns(store: Reader) -> None:
    from vae_lab.cli.terminal.listing import belongings, print_multiruns
    from vae_lab.tracking import KIND, SWEEP

    parents = store.tagged(KIND, SWEEP)
    details = belongings(store, parents) | {
        "status": [parent.status.lower() for parent in parents],
        "parent run": [parent.run_id for parent in parents],
    }
    print_multiruns(parents, details, "Tables: vae-lab compare STUDY")
