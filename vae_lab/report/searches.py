"""What a search came to, for tables and page: how far its trials went, what mattered, and the front."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from vae_lab.metrics import metric_named
from vae_lab.report.tables import Cell, Column, Table
from vae_lab.studies.comparison import key_name
from vae_lab.studies.searched import Searched

SHOWN = 20  # trials of the table
STOPPED = "The trials that were followed longest, the best of them first."
BEST = "Best of full length; of several objectives, every trial that no other is better than."
MATTERED = (
    "What a key explains alone of the variance over the space, and what only several explain together "
    "(fANOVA, Hutter et al. 2014), by what the forecast of the learning curves expects at full length."
)
TOGETHER = "several keys together"


def headings(searched: Searched) -> list[str]:
    """Returns the objectives in words, with their units."""
    metrics = [metric_named(metric) for metric in searched.metrics]
    return [f"{metric.heading}, {metric.unit}" if metric.unit else metric.heading for metric in metrics]


def sentence(searched: Searched) -> str:
    """Returns in few sentences what was tried, for how much, and how the trials ended."""
    counts = Counter[str](searched.states.values() or ["whole"] * len(searched.whole()))
    trials = len(searched.states) or len(searched.newest())
    spent = max([searched.spent, *(step.spent for step in searched.steps)])
    full = searched.length * trials
    share = f", {100 * spent / full:.0f} % of what all whole ones take" if full else ""
    words = {
        "whole": f"of full length ({searched.length} epochs)",
        "stopped": "stopped before",
        "failed": "failed",
        "left": "left before their end",
    }
    ends = [f"{counts[state]} {ended}" for state, ended in words.items() if counts[state] or state == "whole"]
    said = [f"{trials} trials took {spent} epochs{share}: {', '.join(ends)}."]
    if counts["stopped"]:
        said.append("The command of a run that was stopped trains it to its end.")
    if counts["left"]:
        said.append("The command of the search goes on with those that were left.")
    return " ".join(said)


def trials_table(searched: Searched) -> Table:
    """Returns the trials that were followed longest."""
    best = searched.best_ends()
    followed = sorted(searched.newest(), key=lambda step: (-step.epoch, searched.lowered(step.values)))
    steps = followed[:SHOWN]
    columns: list[tuple[Column, Sequence[Cell | float | str | None]]] = [
        (Column("trial", numeric=False), [step.run for step in steps]),
        (Column("epochs", f"of {searched.length}", 0), [float(step.epoch) for step in steps]),
    ]
    for place, key in enumerate(searched.metrics):
        metric = metric_named(key)
        cells = [Cell(step.values[place], best=step in best) for step in steps]
        columns.append((Column(metric.heading, metric.unit, metric.digits), cells))
    return Table.of("How far trials went", columns, STOPPED, best=BEST)


def importance_table(searched: Searched) -> Table | None:
    """Returns what mattered for each objective; None if too little is known."""
    importance = {metric: searched.importance[metric] for metric in searched.together}
    if not importance:
        return None
    keys = list(dict.fromkeys(key for shares in importance.values() for key in shares))
    columns: list[tuple[Column, Sequence[Cell | float | str | None]]] = [
        (Column("key", numeric=False), [*map(key_name, keys), TOGETHER])
    ]
    for metric, shares in importance.items():
        column = Column(f"share of {metric_named(metric).heading}", "%", 0)
        cells = [shares.get(key) for key in keys]
        cells.append(searched.together[metric])
        columns.append((column, [None if share is None else 100 * share for share in cells]))
    partial = [
        key_name(key) for key in keys if all(shares.get(key) is None for shares in importance.values())
    ]
    note = MATTERED
    if partial:
        note += f" Not every trial has {', '.join(partial)}: what such keys explain is part of the last row."
    return Table.of("What mattered", columns, note)
