"""Tables as Markdown, CSV, LaTeX and HTML."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

from vae_lab.errors import visible
from vae_lab.report.tables.content import MARK, Cell, Column, Table
from vae_lab.report.template import filled, style
from vae_lab.studies.values import is_number

FORMULA = tuple("=+-@＝＋－＠")  # with which a spreadsheet's formula begins, also in the width of East Asia


def _texts(table: Table, best: Callable[[str], str], safe: Callable[[str], str]) -> list[list[str]]:
    def written(cell: Cell, column: Column) -> str:
        text = safe(cell.text(column))
        return best(text) if cell.best else text

    return [list(map(written, row, table.columns)) for row in table.rows]


def markdown(table: Table) -> str:
    """Returns a Markdown section: heading, table and legend.

    Examples:
        >>> loss = Column("loss", "nats/image")
        >>> table = Table.of("Depth", [(Column("layers"), ["2", "3"]), (loss, [104.5, 110.0])], "A note.")
        >>> print(markdown(table))
        ### Depth
        <BLANKLINE>
        |   layers |   loss (nats/image) |
        |---------:|--------------------:|
        |        2 |              104.50 |
        |        3 |              110.00 |
        <BLANKLINE>
        A note.
        <BLANKLINE>
    """
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
    r"""Returns a text on one line that is no HTML and neither ends a cell nor begins what Markdown knows.

    Examples:
        >>> print(markdown_text("a|b <i>*"))
        a\|b &lt;i&gt;\*
    """
    safe = visible(text).translate(_MARKDOWN)
    return re.sub("`{3,}|~{3,}", lambda fence: "".join(f"\\{sign}" for sign in fence[0]), safe)


_MARKDOWN = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"} | {sign: f"\\{sign}" for sign in "\\*|["})


def csv(table: Table) -> str:
    """Returns comma-separated values, unrounded; before a text that a spreadsheet would compute is a quote.

    Examples:
        >>> print(csv(Table.of("Depth", [(Column("layers"), ["2"]), (Column("loss"), [104.5625])])))
        layers,loss
        2,104.5625
        <BLANKLINE>
        >>> print(csv(Table.of("Depth", [(Column("layers"), ["=1+1", "-2"])])))
        layers
        '=1+1
        -2
        <BLANKLINE>
    """
    return str(table.frame().map(_no_formula).rename(columns=_no_formula).to_csv(index=False))


def _no_formula(value: object) -> object:
    if isinstance(value, str) and value.startswith(FORMULA) and not is_number(value):
        return f"'{value}"
    return value


def latex(table: Table) -> str:
    r"""Returns a LaTeX table of the booktabs package.

    Examples:
        >>> loss = Column("loss"), [Cell(104.5, best=True)]
        >>> text = latex(Table.of("Depth", [(Column("layers"), ["2"]), loss]))
        >>> print(text[text.index(r"\midrule") : text.index(r"\bottomrule")])
        \midrule
        2 & \textbf{104.50}* \\
        <BLANKLINE>
    """
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
    # The end of the row before would take a bracket or an asterisk for its own.
    return ("{}" if text.lstrip().startswith(("[", "*")) else "") + text.translate(_LATEX)


def html(table: Table) -> str:
    """Returns an HTML table with its style; every text is escaped."""
    return f"<style>\n{style('table.css')}</style>\n{fragment(table)}"


def fragment(table: Table) -> str:
    """Returns an HTML table for a page that holds `templates/table.css` itself."""
    rows = [list(zip(row, table.columns, strict=True)) for row in table.rows]
    starts = [0, *(i + 1 for i in sorted(table.breaks)), len(rows)]
    bodies = [rows[start:end] for start, end in itertools.pairwise(starts) if start < end]
    return filled("table.html.jinja", table=table, mark=MARK, bodies=bodies)


FORMATS: dict[str, Callable[[Table], str]] = {"markdown": markdown, "csv": csv, "latex": latex, "html": html}
SUFFIXES = {"markdown": "md", "csv": "csv", "latex": "tex", "html": "html"}  # of files in these formats
