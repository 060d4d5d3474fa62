"""Tables in the terminal; one that is too wide is split into several that lie under each other."""

from __future__ import annotations

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from vae_lab.report.tables.content import MARK, Cell, Column, Table

LEGEND_WIDTH = 80  # characters a line, at least, below a narrow table
GAP = 2  # characters between columns


def show(table: Table, console: Console) -> None:
    """Prints a table; where the terminal is too narrow, in parts that repeat its first columns."""
    texts = [_aligned([row[i] for row in table.rows], column) for i, column in enumerate(table.columns)]
    widths = [
        max(map(cell_len, (*column.heading.split(), column.unit, *column_texts)))
        for column, column_texts in zip(table.columns, texts, strict=True)
    ]
    console.print(Text(table.title, style="bold"), soft_wrap=True)
    parts = _parts(widths, table.lead, console.width)
    for number, part in enumerate(parts):
        if number:
            console.print()
        console.print(_rich_table(table, part, texts, widths))
    broadest = max(sum(widths[i] + GAP for i in part) for part in parts)
    for number, text in enumerate(table.legend):
        if not number:
            console.print()
        console.print(Text(text, style="dim"), width=min(console.width, max(broadest, LEGEND_WIDTH)))


def _aligned(cells: list[Cell], column: Column) -> list[str]:
    """The cells' texts: values end and intervals begin in one place each, and marks hang behind them."""
    parts = [cell.parts(column) for cell in cells]
    if not column.numeric:
        return [value for value, _ in parts]
    front = max((len(value) for value, _ in parts), default=0)
    rest = max((len(text) for _, text in parts), default=0)
    behind = [text.replace(" ± ", " ± " + " " * (rest - len(text))) for _, text in parts]
    marked = [text + MARK * cell.best for cell, text in zip(cells, behind, strict=True)]
    width = max(map(len, marked), default=0)
    return [f"{value:>{front}}{text:<{width}}" for (value, _), text in zip(parts, marked, strict=True)]


def _parts(widths: list[int], lead: int, limit: int) -> list[list[int]]:
    """Indices of the columns of each part; as few parts as fit, and none much narrower than the others."""
    fewest = len(_filled(widths, lead, limit))
    narrower = (_filled(widths, lead, width) for width in range(limit + 1))
    return next(parts for parts in narrower if len(parts) <= fewest)


def _filled(widths: list[int], lead: int, limit: int) -> list[list[int]]:
    """The first `lead` columns and as many others as fit into the limit, one at least, over and over."""
    first = list(range(min(lead, len(widths))))
    parts, used = [list(first)], (start := sum(widths[i] + GAP for i in first))
    for i in range(len(first), len(widths)):
        if used + widths[i] > limit and len(parts[-1]) > len(first):
            parts.append(list(first))
            used = start
        parts[-1].append(i)
        used += widths[i] + GAP
    return parts


def _rich_table(table: Table, part: list[int], texts: list[list[str]], widths: list[int]) -> RichTable:
    printed = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for i in part:
        column = table.columns[i]
        heading = Text("\n".join(column.heading.split()), justify="right" if column.numeric else "left")
        if column.unit:
            heading.append(f"\n{column.unit}", style="dim")
        # Flush right by spaces of our own: Rich would take the places kept for marks and intervals away.
        printed.add_column(heading, no_wrap=True, vertical="bottom", min_width=widths[i])
    for number, row in enumerate(table.rows):
        aligned = [texts[i][number].rjust(widths[i] * table.columns[i].numeric) for i in part]
        cells = [Text(text, "bold green" * row[i].best) for i, text in zip(part, aligned, strict=True)]
        printed.add_row(*cells, end_section=number in table.breaks)
    return printed
