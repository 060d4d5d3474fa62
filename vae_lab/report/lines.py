"""The rows that one curve of a chart joins: those that differ in a table's last key only."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from vae_lab.studies.comparison import Comparison, Group, key_name, topic
from vae_lab.tracking import StoredRun

LISTED = 24  # values that are written one after another; the tables have all
LINES = 24  # that are drawn and pictured
DRAWN = 12  # configurations of a line that are

Item = TypeVar("Item")


class Line(NamedTuple):
    """Rows of a comparison that differ in one key only."""

    shared: dict[str, str]  # the keys before it
    key: str
    groups: list[Group]
    comparison: str  # its title

    @property
    def family(self) -> str:
        """What the rows share, in words: `VAE`."""
        return " · ".join(value_text(key, value) for key, value in self.shared.items())

    @property
    def title(self) -> str:
        """What they share and what the key is about: `VAE · depth`."""
        return " · ".join(filter(None, [self.family, topic(self.key)]))

    @property
    def losses(self) -> dict[str, float]:
        """The mean held-out loss by the key's value, where it was measured."""
        values = {group.keys[self.key]: group.values("test/loss") for group in self.groups}
        return {value: math.fsum(losses) / len(losses) for value, losses in values.items() if losses}


def lines(comparisons: Iterable[Comparison]) -> Iterator[Line]:
    """Yields the rows of all comparisons, line by line."""
    for comparison in comparisons:
        for groups in comparison.lines():
            shared = {key: groups[0].keys[key] for key in comparison.by[:-1]}
            yield Line(shared, comparison.by[-1], groups, comparison.title)


def drawn_lines(comparisons: Iterable[Comparison]) -> list[Line]:
    """Returns the lines that charts and pictures show: of many lines and of many configurations some."""
    some = spread_out([*lines(comparisons)], LINES)
    return [line._replace(groups=spread_out(line.groups, DRAWN)) for line in some]


def spread_out(items: Sequence[Item], most: int) -> list[Item]:
    """Returns the items; of more than `most` the first, the last, and others evenly between.

    Examples:
        >>> spread_out(range(100), 4), spread_out(range(3), 4)
        ([0, 33, 66, 99], [0, 1, 2])
    """
    if len(items) <= most:
        return [*items]
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


def value_text(key: str, value: str) -> str:
    """A value that runs share, in words.

    Examples:
        >>> value_text("model", "cvae"), value_text("model.layers", "3")
        ('CVAE', 'layers 3')
    """
    return value.upper() if key == "model" and value in ("vae", "cvae") else f"{key_name(key)} {value}"


def abridged(texts: Sequence[str]) -> list[str]:
    """Returns the texts; of more than LISTED the first and the last ones, with an ellipsis between.

    Examples:
        >>> abridged([str(number) for number in range(100)])[10:14]
        ['10', '11', '…', '88']
    """
    half = LISTED // 2
    return [*texts] if len(texts) <= LISTED else [*texts[:half], "…", *texts[-half:]]


def configuration(run: StoredRun) -> str:
    """The run's name without its seed, which the lab writes last."""
    return re.sub(r" s\d+$", "", run.name)
