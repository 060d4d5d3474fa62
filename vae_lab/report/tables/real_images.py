"""The row of real images below samples: what the same measures say of training images in their place."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

from vae_lab.metrics import HIGHER, REAL, Metric
from vae_lab.report.tables.content import Cell, Column
from vae_lab.studies.comparison import Comparison

HEADING = "real images"
NOTE = (
    "Real images: training images in place of samples, against the same held-out images; what exceeds them "
    "is not marked."
)


def value(comparison: Comparison, metric: Metric) -> float | None:
    """Returns what real images have of a measure of samples; None where no run has measured it."""
    runs = [run for group in comparison.groups for run in group.finished]
    values = [run.metrics[key] for run in runs if (key := REAL.get(metric.key, "")) in run.metrics]
    return math.fsum(values) / len(values) if values else None


def exceeded(metric: Metric, values: Collection[float], real: float | None) -> bool:
    """Returns whether the mean of a row's values is beyond that of real images, which is no better.

    Examples:
        >>> from vae_lab.metrics import metric_named
        >>> recall = metric_named("eval/recall")
        >>> [exceeded(recall, [0.8, 1.0], real) for real in (0.86, 0.95, None)]
        [True, False, False]
    """
    mean = math.fsum(values) / len(values)
    return real is not None and (mean > real if metric.better == HIGHER else mean < real)


def with_row(
    columns: Sequence[tuple[Column, list[Cell]]], cells: Sequence[Cell]
) -> list[tuple[Column, list[Cell]]]:
    """Returns columns with a further row: its name, blanks, and `cells` in the last columns."""
    row = [Cell(HEADING), *[Cell("")] * (len(columns) - len(cells) - 1), *cells]
    return [(column, [*above, cell]) for (column, above), cell in zip(columns, row, strict=True)]


def note(comparison: Comparison, metrics: Iterable[Metric]) -> str:
    """Returns what stands below a table that has the row; empty where it has none."""
    return NOTE if any(value(comparison, metric) is not None for metric in metrics) else ""
