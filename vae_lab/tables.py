"""Ablation tables for the terminal, Markdown, CSV, LaTeX and HTML."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from vae_lab.comparison import (
    MEASURES,
    NATS,
    Comparison,
    Group,
    Measure,
    Plan,
    is_number,
    key_name,
    mean_and_spread,
    reference_values,
)


@dataclass(frozen=True)
class Column:
    """A heading, its unit and how a number is printed."""

    heading: str
    unit: str = ""
    digits: int = 2
    numeric: bool = True

    @property
    def title(self) -> str:
        """Heading and unit on one line."""
        return f"{self.heading} ({self.unit})" if self.unit else self.heading


@dataclass(frozen=True)
class Cell:
    """A value with its spread over replicates; `best` if no row of its group has a better one."""

    value: float | str | None
    spread: float | None = None
    best: bool = False

    def text(self, digits: int) -> str:
        """The value as it is printed; an en dash where there is none."""
        if self.value is None or (isinstance(self.value, float) and math.isnan(self.value)):
            return "–"
        if isinstance(self.value, str):
            return self.value
        shown = f"{self.value:,.{digits}f}"
        return shown if self.spread is None else f"{shown} ± {self.spread:,.{max(digits, 2)}f}"


@dataclass(frozen=True)
class Table:
    """Rows of cells under columns; `breaks` are the rows after which a group of rows ends."""

    title: str
    columns: list[Column]
    rows: list[list[Cell]]
    note: str = ""
    breaks: frozenset[int] = field(default_factory=frozenset)

    def texts(self, best: Callable[[str], str] = lambda text: text) -> list[list[str]]:
        """Every cell as text, the best ones passed through `best`."""
        return [
            [
                best(cell.text(column.digits)) if cell.best else cell.text(column.digits)
                for cell, column in zip(row, self.columns, strict=True)
            ]
            for row in self.rows
        ]

    def frame(self) -> pd.DataFrame:
        """The numbers as they are, unrounded, with a column of spreads beside each that has any."""
        data: dict[str, list[object]] = {}
        for i, column in enumerate(self.columns):
            cells = [row[i] for row in self.rows]
            data[column.title] = [cell.value for cell in cells]
            if any(cell.spread is not None for cell in cells):
                data[f"{column.title} sd"] = [cell.spread for cell in cells]
        return pd.DataFrame(data)


def ablation_table(comparison: Comparison, plan: Plan, measures: Sequence[Measure] = MEASURES) -> Table:
    """One row a configuration: its keys, the published value if there is one, and the measures."""
    replicated = any(len(group.finished) > 1 for group in comparison.groups)
    failures = any(group.failed for group in comparison.groups)
    published = [reference_values(plan, group) for group in comparison.groups]
    columns = [
        Column(key_name(key), numeric=all(is_number(group.keys[key]) for group in comparison.groups))
        for key in comparison.by
    ]
    cells: list[list[Cell]] = [[Cell(value) for value in group.keys.values()] for group in comparison.groups]
    if any(published):
        assert plan.reference is not None
        name = str(plan.reference.get("source", "published"))
        columns.append(Column(name, NATS, 2))
        finals = [values[-1] if values else None for values in published]
        _extend(cells, _marked([Cell(value) for value in finals], comparison, lower_is_better=True))
    for measure in measures:
        columns.append(Column(measure.heading, measure.unit, measure.digits))
        found = [_cell(group, measure) for group in comparison.groups]
        _extend(cells, _marked(found, comparison, lower_is_better=measure.lower_is_better))
    if replicated:
        columns.append(Column("n", "runs", 0))
        _extend(cells, [Cell(float(len(group.finished))) for group in comparison.groups])
    if failures:
        columns.append(Column("failed", "runs", 0))
        _extend(cells, [Cell(float(group.failed)) for group in comparison.groups])
    return Table(comparison.title, columns, cells, _note(comparison, replicated), _breaks(comparison))


def _cell(group: Group, measure: Measure) -> Cell:
    values = group.values(measure.key)
    return Cell(*mean_and_spread(values)) if values else Cell(None)


def _extend(rows: list[list[Cell]], column: Sequence[Cell]) -> None:
    for row, cell in zip(rows, column, strict=True):
        row.append(cell)


def _marked(cells: list[Cell], comparison: Comparison, *, lower_is_better: bool) -> list[Cell]:
    if not lower_is_better:
        return cells
    lowest: dict[tuple[str, ...], float] = {}
    families = [tuple(group.keys.get(key, "") for key in comparison.within) for group in comparison.groups]
    for family, cell in zip(families, cells, strict=True):
        if isinstance(cell.value, float):
            lowest[family] = min(cell.value, lowest.get(family, math.inf))
    several = {family for family in families if families.count(family) > 1}
    return [
        Cell(cell.value, cell.spread, best=family in several and cell.value == lowest.get(family))
        for family, cell in zip(families, cells, strict=True)
    ]


def _note(comparison: Comparison, replicated: bool) -> str:
    among = f" among rows of one {', '.join(map(key_name, comparison.within))}" if comparison.within else ""
    spread = " ± is the standard deviation over runs." if replicated else ""
    return f"Best: lowest{among}.{spread}"


def _breaks(comparison: Comparison) -> frozenset[int]:
    families = [[group.keys.get(key, "") for key in comparison.within] for group in comparison.groups]
    return frozenset(i for i in range(len(families) - 1) if families[i] != families[i + 1])


PIPE_WIDTH = 200  # characters a line where no terminal says how wide it is


def console() -> Console:
    """Standard output; a pipe or a file is given the width that the tables need."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=PIPE_WIDTH)


def show(table: Table, console: Console) -> None:
    """Prints a table; where the terminal is too narrow, the last columns are left out and named."""
    unbounded = console.options.update(width=10_000)
    kept = len(table.columns)
    while kept > 2 and console.measure(_terminal(table, kept), options=unbounded).maximum > console.width:
        kept -= 1
    console.print(_terminal(table, kept))
    left_out = ", ".join(column.heading for column in table.columns[kept:])
    if left_out:
        console.print(
            f"Not shown for want of width: {left_out}. All: --format csv", style="dim", soft_wrap=True
        )


def _terminal(table: Table, kept: int) -> RichTable:
    shown = RichTable(
        title=table.title,
        title_style="bold",
        title_justify="left",
        caption=f"* {table.note}",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
    )
    columns = table.columns[:kept]
    for column in columns:
        heading = column.heading.replace(" ", "\n")
        unit = f"\n[dim]{column.unit}[/dim]" if column.unit else ""
        shown.add_column(
            heading + unit, justify="right" if column.numeric else "left", no_wrap=True, vertical="bottom"
        )
    # The star also shows where colours and bold type do not; its column is kept free in other rows.
    marks = [(" ", "*") if any(row[j].best for row in table.rows) else ("", "") for j in range(kept)]
    for i, row in enumerate(table.rows):
        cells = [
            Text(cell.text(column.digits) + marks[j][cell.best], style="bold green" if cell.best else "")
            for j, (cell, column) in enumerate(zip(row, columns, strict=False))
        ]
        shown.add_row(*cells, end_section=i in table.breaks)
    return shown


def markdown(table: Table) -> str:
    """A Markdown section: heading, table and note."""
    frame = pd.DataFrame(
        [[text.replace("|", "\\|") for text in row] for row in table.texts(lambda text: f"**{text}**")],
        columns=[column.title for column in table.columns],
    )
    align = ["right" if column.numeric else "left" for column in table.columns]
    body = frame.to_markdown(index=False, colalign=align, disable_numparse=True) if table.rows else "No runs."
    return f"### {table.title}\n\n{body}\n\n{table.note}\n"


def csv(table: Table) -> str:
    """Comma-separated values, unrounded."""
    return str(table.frame().to_csv(index=False))


def latex(table: Table) -> str:
    """A LaTeX table of the booktabs package."""
    frame = pd.DataFrame(
        [
            [
                rf"\textbf{{{_latex_safe(text)}}}" if cell.best else _latex_safe(text)
                for text, cell in zip(*row, strict=True)
            ]
            for row in zip(table.texts(), table.rows, strict=True)
        ],
        columns=[_latex_safe(column.title) for column in table.columns],
    )
    align = "".join("r" if column.numeric else "l" for column in table.columns)
    return str(
        frame.style.hide(axis="index").to_latex(
            column_format=align, hrules=True, caption=f"{table.title}. {table.note}", position="htbp"
        )
    )


_LATEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "&%#_{}$"}
    | {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "–": "--",
    }
)


def _latex_safe(text: str) -> str:
    return text.translate(_LATEX)


def html(table: Table) -> str:
    """An HTML table with a caption; cell texts are escaped."""
    frame = pd.DataFrame(table.texts(), columns=[column.title for column in table.columns])
    best = pd.DataFrame(
        [["font-weight: bold" if cell.best else "" for cell in row] for row in table.rows],
        columns=frame.columns,
    )
    anchor = "".join(sign if sign.isalnum() else "-" for sign in table.title.lower())
    style = frame.style.set_uuid(anchor).hide(axis="index").format(escape="html").set_caption(table.title)
    if table.rows:
        style = style.apply(lambda _: best, axis=None)
    style = style.set_table_styles(
        [
            {"selector": "", "props": "border-collapse: collapse; font-variant-numeric: tabular-nums"},
            {"selector": "caption", "props": "text-align: left; font-weight: bold; padding: 0.4em 0"},
            {"selector": "th, td", "props": "padding: 0.25em 0.7em; text-align: right"},
            {"selector": "th", "props": "border-bottom: 1px solid"},
        ]
    )
    return f"{style.to_html()}\n<p>{table.note}</p>\n"


FORMATS: dict[str, Callable[[Table], str]] = {"markdown": markdown, "csv": csv, "latex": latex, "html": html}
SUFFIXES = {"markdown": "md", "csv": "csv", "latex": "tex", "html": "html"}  # of files in these formats
