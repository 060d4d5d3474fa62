"""Tables as Markdown, CSV, LaTeX and HTML."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from vae_lab import files
from vae_lab.report.tables.content import MARK, Cell, Column, Table

if TYPE_CHECKING:
    from jinja2 import Environment


def _texts(table: Table, best: Callable[[str], str], safe: Callable[[str], str]) -> list[list[str]]:
    def written(cell: Cell, column: Column) -> str:
        text = safe(cell.text(column))
        return best(text) if cell.best else text

    return [[written(*each) for each in zip(row, table.columns, strict=True)] for row in table.rows]


def markdown(table: Table) -> str:
    """A Markdown section: heading, table and legend."""
    import pandas as pd

    frame = pd.DataFrame(
        _texts(table, lambda text: f"**{text}** \\{MARK}", markdown_text),
        columns=[markdown_text(column.title) for column in table.columns],
    )
    align = ["right" if column.numeric else "left" for column in table.columns]
    body = frame.to_markdown(index=False, colalign=align, disable_numparse=True) if table.rows else "No runs."
    legend = "\n\n".join(map(markdown_text, table.legend))
    return f"### {markdown_text(table.title)}\n\n{body}\n\n{legend}\n"


def markdown_text(text: str) -> str:
    """A text that is no HTML, ends no cell and begins no emphasis or link in Markdown."""
    return text.translate(_MARKDOWN)


_MARKDOWN = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\n": " "} | {sign: f"\\{sign}" for sign in "\\*|["}
)


def csv(table: Table) -> str:
    """Comma-separated values, unrounded."""
    return str(table.frame().to_csv(index=False))


def latex(table: Table) -> str:
    """A LaTeX table of the booktabs package."""
    import pandas as pd

    frame = pd.DataFrame(
        _texts(table, lambda text: rf"\textbf{{{text}}}{MARK}", _latex_safe),
        columns=[_latex_safe(column.title) for column in table.columns],
    )
    align = "".join("r" if column.numeric else "l" for column in table.columns)
    return str(
        frame.style.hide(axis="index").to_latex(
            column_format=align,
            hrules=True,
            caption=_latex_safe(f"{table.title}. {' '.join(table.legend)}"),
            position="htbp",
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
        "−": "$-$",
        "→": r"$\rightarrow$",
        "×": r"$\times$",
        "η": r"$\eta$",
        "²": "$^2$",
    }
)


def _latex_safe(text: str) -> str:
    return text.translate(_LATEX)


@cache
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader

    return Environment(
        loader=PackageLoader("vae_lab.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )


def html(table: Table) -> str:
    """An HTML table with its style; every text is escaped."""
    style = (files.PACKAGE / "report" / "templates" / "table.css").read_text()
    return f"<style>\n{style}</style>\n{fragment(table)}"


def fragment(table: Table) -> str:
    """An HTML table for a page that holds `templates/table.css` itself."""
    rows = [list(zip(row, table.columns, strict=True)) for row in table.rows]
    starts = [0, *(i + 1 for i in sorted(table.breaks)), len(rows)]
    return (
        _templates()
        .get_template("table.html.jinja")
        .render(
            table=table,
            mark=MARK,
            bodies=[rows[start:end] for start, end in itertools.pairwise(starts) if start < end],
        )
    )


FORMATS: dict[str, Callable[[Table], str]] = {"markdown": markdown, "csv": csv, "latex": latex, "html": html}
SUFFIXES = {"markdown": "md", "csv": "csv", "latex": "tex", "html": "html"}  # of files in these formats
