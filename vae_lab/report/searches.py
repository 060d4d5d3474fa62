"""What a search came to, for tables and page: how far its trials went, what mattered, and the front."""

from __future__ import annotations

from collections.abc import Sequence

from vae_lab.metrics import metric_named
from vae_lab.report.tables import Cell, Column, Table
from vae_lab.studies.comparison import key_name
from vae_lab.studies.searched import Searched

SHOWN = 20  # trials of the table
STOPPED = "The trials that were followed longest, the best of them first."
BEST = "Best of full length; of several objectives, every trial that no other is better than."
MATTERED = (
    "What a key explains alone of the variance over the space (fANOVA, Hutter et al. 2014), by what the "
    "forecast of the learning curves expects at full length."
)


def headings(searched: Searched) -> list[str]:
    """Returns the objectives in words, with their units."""
    metrics = [metric_named(metric) for metric in searched.metrics]
    return [f"{metric.heading}, {metric.unit}" if metric.unit else metric.heading for metric in metrics]


def sentence(searched: Searched) -> str:
    """Returns in one sentence what was tried and for how much."""
    steps, whole = searched.newest(), searched.whole()
    spent = max((step.spent for step in searched.steps), default=0)
    full = searched.length * len(steps)
    share = f", {100 * spent / full:.0f} % of what all whole ones take" if full else ""
    return (
        f"{len(steps)} trials took {spent} epochs{share}: {len(whole)} have their full length of "
        f"{searched.length}, {len(steps) - len(whole)} were stopped before. The command of such a run trains "
        "it to its end."
    )


def trials_table(searched: Searched) -> Table:
    """Returns the trials that were followed longest."""
    best = {*searched.best()}
    followed = sorted(searched.newest(), key=lambda step: (-step.epoch, searched.lowered(step.values)))
    steps = followed[:SHOWN]
    columns: list[tuple[Column, Sequence[Cell | float | str | None]]] = [
        (Column("trial", numeric=False), [step.run for step in steps]),
        (Column("epochs", f"of {searched.length}", 0), [float(step.epoch) for step in steps]),
    ]
    for place, key in enumerate(searched.metrics):
        metric = metric_named(key)
        cells = [Cell(step.values[place], best=step.run in best) for step in steps]
        columns.append((Column(metric.heading, metric.unit, metric.digits), cells))
    return Table.of("How far trials went", columns, STOPPED, best=BEST)


def importance_table(searched: Searched) -> Table | None:
    """Returns what mattered for each objective; None if too little is known."""
    if not searched.importance:
        return None
    keys = list(dict.fromkeys(key for shares in searched.importance.values() for key in shares))
    columns: list[tuple[Column, Sequence[Cell | float | str | None]]] = [
        (Column("key", numeric=False), [key_name(key) for key in keys])
    ]
    for metric, shares in searched.importance.items():
        column = Column(f"share of {metric_named(metric).heading}", "%", 0)
        columns.append((column, [100 * shares[key] if key in shares else None for key in keys]))
    return Table.of("What mattered", columns, MATTERED)
