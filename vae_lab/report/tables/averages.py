"""Rows that average over fewer configurations than others: they are named below the table, and not ranked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

from vae_lab.metrics import Metric
from vae_lab.studies.comparison import Comparison, Group, key_name

ROWS = 5  # that are named below a table
CONFIGURATIONS = 3  # that are named of a row

Missing = Mapping[int, Set[tuple[str, ...]]]  # configurations that a row lacks, by the row's place


def missing(comparison: Comparison, metric: str) -> Missing:
    """Returns the rows whose mean is not of what the others of their family average over.

    A mean over two depths is no rival of one over three: the deepest may be the worst of all. A row without
    any value has no mean, and is left out.

    Args:
        comparison: The rows.
        metric: Its key.
    """
    if not any(group.pooled for group in comparison.groups):
        return {}
    averaged = [group.averaged(metric) for group in comparison.groups]
    whole: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for group, configurations in zip(comparison.groups, averaged, strict=True):
        whole.setdefault(comparison.family(group), set()).update(configurations)
    lacks = {
        place: whole[comparison.family(group)] - averaged[place]
        for place, group in enumerate(comparison.groups)
        if averaged[place]
    }
    return {place: configurations for place, configurations in lacks.items() if configurations}


def note(comparison: Comparison, metrics: Iterable[Metric]) -> list[str]:
    """Returns a sentence for the metrics whose rows do not all average over the same, none where all do."""
    headings: dict[str, list[str]] = {}
    for metric in metrics:
        if lacks := missing(comparison, metric.key):
            headings.setdefault(_rows_in_words(comparison, lacks), []).append(metric.heading)
    return [
        f"Not ranked by {', '.join(names)}, since without what others average over: {rows}."
        for rows, names in headings.items()
    ]


def _rows_in_words(comparison: Comparison, lacks: Missing) -> str:
    rows = []
    for place in [*lacks][:ROWS]:
        group = comparison.groups[place]
        listed = [_in_words(group, configuration) for configuration in sorted(lacks[place])[:CONFIGURATIONS]]
        more = len(lacks[place]) - len(listed)
        without = "; ".join([*listed, *([f"{more} more"] if more else [])])
        rows.append(f"{' '.join(group.keys.values())} (no {without})")
    return ", ".join(rows) + (f" and {len(lacks) - ROWS} more rows" if len(lacks) > ROWS else "")


def _in_words(group: Group, configuration: tuple[str, ...]) -> str:
    return ", ".join(
        f"{key_name(key)} {value}" for key, value in zip(group.pooled, configuration, strict=True)
    )
