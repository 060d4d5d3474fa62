"""What a table holds: cells under columns, what their marks mean, and nothing of how it is written.

Every text in it is made `visible` here, so that no format has to.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from vae_lab.errors import visible
from vae_lab.studies.statistics import BETS, LOOKED, PAIRED, UNPAIRED, Test

if TYPE_CHECKING:
    import pandas as pd

MARK = "*"  # of a best value; it shows where colours and bold type do not


@dataclass(frozen=True)
class Column:
    """A heading, its unit and how a number is printed."""

    heading: str
    unit: str = ""
    digits: int = 2
    numeric: bool = True
    signed: bool = False  # whether a plus is written, too

    def __post_init__(self) -> None:
        _make_visible(self, "heading", "unit")

    @property
    def title(self) -> str:
        """Heading and unit on one line.

        Examples:
            >>> Column("loss", "nats/image").title
            'loss (nats/image)'
        """
        return f"{self.heading} ({self.unit})" if self.unit else self.heading


@dataclass(frozen=True)
class Cell:
    """A value; half the width of its interval; whether it is among the best; and of how many replicates.

    `count` is given only where it is not the number that the row says.
    """

    value: float | str | None
    half: float | None = None
    best: bool = False
    count: int | None = None

    def __post_init__(self) -> None:
        _make_visible(self, "value")

    def parts(self, column: Column) -> tuple[str, str]:
        """Returns the value as it is printed, an en dash where there is none, and what stands behind it.

        Examples:
            >>> Cell(1234.5, half=0.25, count=3).parts(Column("loss", "nats/image"))
            ('1,234.50', ' ± 0.25 (n 3)')
            >>> Cell(None).parts(Column("loss"))
            ('–', '')
            >>> Cell(-0.001).parts(Column("change"))
            ('0.00', '')
        """
        if self.value is None or (isinstance(self.value, float) and math.isnan(self.value)):
            return "–", ""
        if isinstance(self.value, str):
            return self.value, ""
        # "z": what rounds to zero has no minus.
        form = f"{'+' if column.signed and self.value else ''}z,.{column.digits}f"
        half = "" if self.half is None else f" ± {self.half:,.{column.digits}f}"
        count = "" if self.count is None else f" (n {self.count})"
        return f"{self.value:{form}}", half + count

    def text(self, column: Column) -> str:
        """Returns both parts.

        Examples:
            >>> Cell(3.0).text(Column("change", digits=1, signed=True))
            '+3.0'
        """
        return "".join(self.parts(column))


Columns = Iterable[tuple[Column, Sequence[Cell | float | str | None]]]  # with the cells below each


@dataclass(frozen=True)
class Table:
    """Rows of cells under columns; `breaks` are the rows after which a group of rows ends."""

    title: str
    columns: list[Column]
    rows: list[list[Cell]]
    note: str = ""
    breaks: frozenset[int] = field(default_factory=frozenset)
    best: str = ""  # what the mark means
    lead: int = 1  # first columns that say what a row is; they stand in every part of a table that is split

    def __post_init__(self) -> None:
        _make_visible(self, "title", "note", "best")

    @classmethod
    def of(
        cls,
        title: str,
        columns: Columns,
        note: str = "",
        **more: Any,
    ) -> Table:
        """Returns a table of columns with their cells, or with the values of plain cells.

        Examples:
            >>> table = Table.of("Depth", [(Column("layers"), ["2", "3"]), (Column("loss"), [104.5, 110.0])])
            >>> [cell.text(column) for cell, column in zip(table.rows[0], table.columns)]
            ['2', '104.50']
        """
        headings, values = zip(*columns, strict=True)
        rows = [[x if isinstance(x, Cell) else Cell(x) for x in row] for row in zip(*values, strict=True)]
        return cls(title, list(headings), rows, note, **more)

    @property
    def marked(self) -> bool:
        """Whether any cell bears the mark."""
        return any(cell.best for row in self.rows for cell in row)

    def abridged(self, most: int) -> Table:
        """Returns the table; of more than `most` rows those with a mark and others evenly between.

        Examples:
            >>> table = Table.of("Seeds", [(Column("loss"), [*map(float, range(1000))])]).abridged(3)
            >>> [row[0].value for row in table.rows], table.note
            ([0.0, 500.0, 999.0], '3 of 1,000 rows: those with a mark, and others evenly between.')
        """
        count = len(self.rows)
        if count <= most:
            return self
        evenly = {round(place * (count - 1) / (most - 1)) for place in range(most)}
        kept = [i for i, row in enumerate(self.rows) if i in evenly or any(cell.best for cell in row)]
        ends = {i for i in range(len(kept) - 1) if any(kept[i] <= end < kept[i + 1] for end in self.breaks)}
        what = f"{len(kept):,} of {count:,} rows: those with a mark, and others evenly between."
        note = " ".join(filter(None, [what, self.note]))
        return replace(self, rows=[self.rows[i] for i in kept], breaks=frozenset(ends), note=note)

    @property
    def legend(self) -> list[str]:
        """What stands below the table: what the mark means, where it is used, and the note."""
        return [text for text in (f"{MARK} {self.best}" if self.marked else "", self.note) if text]

    def frame(self) -> pd.DataFrame:
        """Returns the numbers unrounded, and beside a column its intervals, counts and marks."""
        import pandas as pd

        data: dict[str, list[object]] = {}
        for i, column in enumerate(self.columns):
            cells = [row[i] for row in self.rows]
            data[column.title] = [cell.value for cell in cells]
            if any(cell.half is not None for cell in cells):
                data[f"{column.title} ±"] = [cell.half for cell in cells]
            if any(cell.count is not None for cell in cells):
                data[f"{column.title} n"] = [cell.count for cell in cells]
            if any(cell.best for cell in cells):
                data[f"{column.title} best"] = [MARK if cell.best else "" for cell in cells]
        return pd.DataFrame(data)


def _make_visible(part: Column | Cell | Table, *fields: str) -> None:
    for name in fields:
        if isinstance(text := getattr(part, name), str):
            object.__setattr__(part, name, visible(text))  # as a frozen dataclass sets its own fields


def finite(value: float | None) -> float | None:
    """Returns the value, None where it says nothing.

    Examples:
        >>> finite(0.5), finite(math.inf), finite(None)
        (0.5, None, None)
    """
    return value if value is not None and math.isfinite(value) else None


def how_tested(test: Test, replicate: str = "seed") -> str:
    """Returns in words by which test two rows are told apart.

    Examples:
        >>> how_tested(UNPAIRED)
        'permutation test of two samples of seeds'
    """
    words = {
        PAIRED: "sign-flip test within {}s",
        UNPAIRED: "permutation test of two samples of {}s",
        BETS: "bets within {}s, which allow for {}s added while looking",
        LOOKED: "permutation test of two samples at looks, which allows for {}s added while looking",
    }
    return words[test].replace("{}", replicate)
