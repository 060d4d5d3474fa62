"""Verdicts as a table in every format, in brief for a page, and in the terminal with their sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from vae_lab.report.tables import Column, Columns, Table, finite
from vae_lab.report.terminal import plain
from vae_lab.studies.claims import Verdict, decimals, explanation_summary, explanations, metric_name
from vae_lab.studies.statistics import PAIRED, UNPAIRED, least_replicates

TITLE = "Verdicts on the study's claims"
FIXED = (
    "p: permutation test, of samples between architectures and within seeds else; adjusted for all claims, "
    "which share the level."
)
NOTE = "Effect: mean over seeds in the metric's unit, positive as claimed, with its 95 % interval. " + FIXED
BRIEF_NOTE = "Effects with their intervals, p and P(better) as columns: vae-lab verdict --format markdown."
ADDING = (
    " Seeds that are added after a look at the verdicts make the test wrong too often: start a study of its "
    "own with all of them, or let seeds=auto add them, whose test allows for looking."
)
SEQUENTIALLY = (
    "p: sequential test, which allows for seeds that were added while looking (swaps at looks between "
    "architectures, bets within seeds), adjusted for all claims, which share the level."
)
IN_TIME = "before a run was seen"
LONGEST_WORD = len("reconstruction")
STYLES = {"supported": "bold green", "refuted": "bold red", "negligible": "bold cyan", "undecided": "yellow"}


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """One row a claim: its verdict, the effect with its interval, and the sentence that says it."""
    columns: Columns = [
        (Column("claim", numeric=False), [v.claim.id for v in verdicts]),
        (Column("verdict", numeric=False), [v.verdict for v in verdicts]),
        *_declared(verdicts),
        (Column("metric", numeric=False), [v.claim.metric for v in verdicts]),
        (Column("effect", digits=3), [finite(v.effect) for v in verdicts]),
        (Column("from", digits=3), [finite(v.low) for v in verdicts]),
        (Column("to", digits=3), [finite(v.high) for v in verdicts]),
        (Column("n", "seeds", 0), [float(v.n) for v in verdicts]),
        (Column("P(better)"), [finite(v.agreement) for v in verdicts]),
        (Column("adjusted p", digits=4), [finite(v.adjusted_p) for v in verdicts]),
        *_needed(verdicts),
        (Column("finding", numeric=False), [v.sentence for v in verdicts]),
    ]
    return Table.of(TITLE, columns, _note(verdicts))


def _declared(verdicts: Sequence[Verdict]) -> Columns:
    """The column that says which claims were declared or dropped after runs had been seen, if any was."""
    if any(verdict.standing for verdict in verdicts):
        yield Column("declared", numeric=False), [verdict.standing or IN_TIME for verdict in verdicts]


def _needed(verdicts: Sequence[Verdict]) -> Columns:
    """The columns of how many seeds would probably settle a claim, and of the range of that."""
    needed = [verdict.needed for verdict in verdicts]
    yield Column("seeds needed", digits=0), [finite(n.estimate) if n else None for n in needed]
    yield Column("at least", digits=0), [finite(n.low) if n else None for n in needed]
    yield Column("at most", digits=0), [finite(n.high) if n else None for n in needed]


def brief_table(verdicts: Sequence[Verdict]) -> Table:
    """The same for a page: few columns, so that the sentences have room."""
    columns: Columns = [
        (Column("claim", numeric=False), [v.claim.id for v in verdicts]),
        (Column("verdict", numeric=False), [v.verdict for v in verdicts]),
        (Column("n", "seeds", 0), [float(v.n) for v in verdicts]),
        (Column("finding", numeric=False), [f"{_sentence(v.claim.text)}{v.sentence}" for v in verdicts]),
    ]
    if any(verdict.sequential for verdict in verdicts):
        return Table.of(TITLE, columns, f"{BRIEF_NOTE} {SEQUENTIALLY}")
    return Table.of(TITLE, columns, BRIEF_NOTE + _warning_about_added_seeds(verdicts))


def _sentence(text: str) -> str:
    """Returns a claim's text so that another sentence can follow.

    >>> _sentence("more layers raise the loss"), _sentence("Do they?"), _sentence("")
    ('more layers raise the loss. ', 'Do they? ', '')
    """
    text = text.strip()
    return f"{text}{'' if text.endswith(('.', '!', '?', ':')) else '.'} " if text else ""


def print_verdicts(verdicts: Sequence[Verdict], console: Console) -> None:
    """Prints the verdicts as a table that fits 80 characters, then the finding of each claim."""
    table = RichTable(
        title=TITLE, title_style="bold", title_justify="left",
        caption=_note(verdicts), caption_justify="left", box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0), pad_edge=False,
    )  # fmt: skip
    for heading in ("claim", "verdict"):
        table.add_column(heading, no_wrap=True)
    table.add_column("metric", min_width=LONGEST_WORD)
    for heading in ("effect", "interval", "seeds", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    findings = RichTable(box=None, show_header=False, padding=(0, 1))
    findings.add_column(no_wrap=True, style="bold")
    findings.add_column()
    for verdict in verdicts:
        claim = verdict.claim
        metric, label = (
            plain(metric_name(claim.metric, claim.own)),
            Text(verdict.verdict, STYLES[verdict.verdict]),
        )
        numbers = (*_effect(verdict), str(verdict.n), f"{verdict.adjusted_p:.2g}")
        table.add_row(plain(claim.id), label, metric, *numbers)
        findings.add_row(plain(claim.id), plain(claim.text, "dim"))
        findings.add_row("", plain(verdict.sentence))
    console.print(table)
    console.print(findings)
    if summary := explanation_summary(explanations(verdicts)):
        console.print()
        console.print(Text.assemble(("What explains it", "bold"), "  ", plain(summary)))


def _note(verdicts: Sequence[Verdict]) -> str:
    exact = all(verdict.claim.level == 0.05 for verdict in verdicts)
    note = NOTE if exact else NOTE.replace("its 95 % interval", "its interval at the claim's level")
    if any(verdict.sequential for verdict in verdicts):
        return note.replace(FIXED, SEQUENTIALLY)
    return note + _warning_about_added_seeds(verdicts)


def _warning_about_added_seeds(verdicts: Sequence[Verdict]) -> str:
    """What to know before more seeds are trained, where a claim could have been settled and was not."""
    could = any(
        not verdict.settled
        and verdict.n
        >= least_replicates(verdict.claim.level, len(verdicts), PAIRED if verdict.paired else UNPAIRED)
        for verdict in verdicts
    )
    return ADDING * could


def _effect(verdict: Verdict) -> tuple[str, str]:
    """Effect and interval, to the digits that the interval bears."""
    if not math.isfinite(verdict.effect):
        return "–", "–"
    form = f"+,.{decimals(verdict.effect, verdict.low, verdict.high)}f"
    bounds = f"{verdict.low:{form}} to {verdict.high:{form}}" if math.isfinite(verdict.low) else "–"
    return f"{verdict.effect:{form}}", bounds
