"""Verdicts as a table in every format, on the parent run, and in the terminal with their sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable
from rich.text import Text

from vae_lab.report.tables import FORMATS, SUFFIXES, Cell, Column, Table
from vae_lab.studies.claims import Verdict, decimals, explanations, metric_name, surviving
from vae_lab.studies.statistics import least_replicates

if TYPE_CHECKING:  # only named: whoever reads an SQLite file goes without MLflow
    from vae_lab.tracking import Recorder

TAG = "vae_lab.verdict."  # of a parent run, followed by the claim's id
TITLE = "Verdicts on the study's claims"
NOTE = (
    "Effect: mean over paired seeds in the metric's unit, positive as claimed, with its 95 % interval. "
    "p: sign-flip test, adjusted over all claims (Holm)."
)
BRIEF_NOTE = "Effects with their intervals, p and P(better) as columns: vae-lab verdict --format markdown."
ADDING = (
    " Seeds that are added after a look at the verdicts make the test wrong too often: start a study of its "
    "own with all of them, or let seeds=auto add them, whose test allows for looking."
)
LONGEST_WORD = len("reconstruction")
STYLES = {"supported": "bold green", "refuted": "bold red", "undecided": "yellow"}


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """One row a claim: its verdict, the effect with its interval, and the sentence that says it."""
    columns = [
        Column("claim", numeric=False),
        Column("verdict", numeric=False),
        Column("metric", numeric=False),
        Column("effect", digits=3),
        Column("from", digits=3),
        Column("to", digits=3),
        Column("n", "seeds", 0),
        Column("P(better)"),
        Column("adjusted p", digits=4),
        Column("seeds needed", digits=0),
        Column("finding", numeric=False),
    ]
    rows = [
        [
            *(Cell(text) for text in (each.claim.id, each.verdict, each.claim.metric)),
            *(Cell(finite(value)) for value in (each.effect, each.low, each.high)),
            Cell(float(each.n)),
            *(Cell(finite(value)) for value in (each.better, each.adjusted_p, each.needed)),
            Cell(each.sentence),
        ]
        for each in verdicts
    ]
    return Table(TITLE, columns, rows, _note(verdicts))


def brief_table(verdicts: Sequence[Verdict]) -> Table:
    """The same for a page: few columns, so that the sentences have room."""
    columns = [Column(name, numeric=False) for name in ("claim", "verdict")]
    columns += [Column("n", "seeds", 0), Column("finding", numeric=False)]
    rows = [
        [
            Cell(each.claim.id),
            Cell(each.verdict),
            Cell(float(each.n)),
            Cell(f"{each.claim.text} {each.sentence}"),
        ]
        for each in verdicts
    ]
    return Table(TITLE, columns, rows, BRIEF_NOTE + _adding(verdicts))


def record_verdicts(recorder: Recorder, verdicts: Sequence[Verdict]) -> Table:
    """Writes the verdicts to the parent run as `tables/verdicts.*` and a tag a claim; gives their table."""
    table = verdict_table(verdicts)
    with recorder.artifacts() as folder:
        (folder / "tables").mkdir()
        for name, suffix in SUFFIXES.items():
            (folder / "tables" / f"verdicts.{suffix}").write_text(FORMATS[name](table))
    recorder.tag({TAG + each.claim.id: each.verdict for each in verdicts})
    return table


def print_verdicts(verdicts: Sequence[Verdict], console: Console) -> None:
    """Prints the verdicts as a table that fits 80 characters, then what was found for each claim."""
    shown = RichTable(
        title=TITLE,
        title_style="bold",
        title_justify="left",
        caption=_note(verdicts),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for heading in ("claim", "verdict"):
        shown.add_column(heading, no_wrap=True)
    shown.add_column("metric", min_width=LONGEST_WORD)
    for heading in ("effect", "interval", "seeds", "p"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for each in verdicts:
        shown.add_row(
            Text(each.claim.id),
            Text(each.verdict, style=STYLES[each.verdict]),
            Text(metric_name(each.claim.metric)),
            *_effect(each),
            str(each.n),
            f"{each.adjusted_p:.2g}",
        )
    console.print(shown)
    findings = RichTable(box=None, show_header=False, padding=(0, 1))
    findings.add_column(no_wrap=True, style="bold")
    findings.add_column()
    for each in verdicts:
        findings.add_row(Text(each.claim.id), Text(each.claim.text, style="dim"))
        findings.add_row("", Text(each.sentence))
    console.print(findings)
    if told := surviving(explanations(verdicts)):
        console.print(f"\n[bold]What explains it[/bold]  {escape(told)}")


def finite(value: float | None) -> float | None:
    """The value, None where it says nothing."""
    return value if value is not None and math.isfinite(value) else None


def _note(verdicts: Sequence[Verdict]) -> str:
    levels = {each.claim.level for each in verdicts}
    exact = levels <= {0.05}
    note = NOTE if exact else NOTE.replace("its 95 % interval", "its interval at the claim's level")
    return note + _adding(verdicts)


def _adding(verdicts: Sequence[Verdict]) -> str:
    """What to know before more seeds are trained, where a claim could have been settled and was not."""
    open_ = [each for each in verdicts if not each.settled]
    could = any(each.n >= least_replicates(each.claim.level, len(verdicts)) for each in open_)
    return ADDING * could


def _effect(verdict: Verdict) -> tuple[str, str]:
    """Effect and interval, to the digits that the interval bears."""
    if not math.isfinite(verdict.effect):
        return "–", "–"
    form = f"+,.{decimals(verdict.effect, verdict.low, verdict.high)}f"
    bounds = f"{verdict.low:{form}} to {verdict.high:{form}}" if math.isfinite(verdict.low) else "–"
    return f"{verdict.effect:{form}}", bounds
