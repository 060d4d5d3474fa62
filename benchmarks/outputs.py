"""The table in the terminal and in Markdown, and a plot of every row between must and aim."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from benchmarks.targets import TARGETS

COLORS = {"aim reached": "#009e73", "reached": "#0072b2", "short": "#d55e00"}  # of rows with a target
STYLES = {"aim reached": "green", "reached": "blue", "short": "bold red", "no target": "dim"}
HEADINGS = ("", "must", "aim", "measured", "rounds", "")
Rows = Sequence[Mapping[str, Any]]  # the records of targets.Result


def cells(row: Mapping[str, Any]) -> list[str]:
    """Returns a row's cells as texts, without the first and the last."""
    target = TARGETS[row["row"]]
    keys = ("must", "aim", "measured", "least", "most")
    must, aim, measured, least, most = (target.format(row[key]) for key in keys)
    spread = f"{least} to {most}" if row["rounds"] > 1 else "one round"
    return [must, aim, f"{measured} {target.unit}", spread, str(row["rounds"])]


def terminal(rows: Rows) -> Table:
    """Returns the table for the terminal, which fits into 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    for i, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if i in (0, 5) else "right", no_wrap=i > 0)
    for row in rows:
        verdict, target = row["verdict"], TARGETS[row["row"]]
        must, aim, measured, spread = cells(row)[:4]
        what = f"{row['row']}  {row['what']}, {target.unit}"
        number = measured.removesuffix(f" {target.unit}")
        table.add_row(what, must, aim, f"[bold]{number}[/]", spread, f"[{STYLES[verdict]}]{verdict}[/]")
    return table


def markdown(rows: Rows) -> str:
    """Returns the table in Markdown, with a note on the origin of every figure below it."""
    lines = [
        "| row | what | must | aim | measured | least to most | rounds | verdict |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        lines.append(f"| {row['row']} | {row['what']} | {' | '.join(cells(row))} | {row['verdict']} |")
    notes = [f"- Row {row['row']}: {row['note']}." for row in rows]
    return "\n".join([*lines, "", *notes])


def machine_line(machine: Mapping[str, str]) -> str:
    """Returns the machine in one line."""
    gpu = f", {machine['GPU']}" if machine["GPU"] != "none" else ""
    return (
        f"{machine['processor']}, {machine['cores']} cores ({machine['instructions']}), "
        f"{machine['memory']}{gpu}; "
        f"torch {machine['torch']} with {machine['threads']} threads, {machine['BLAS'] or 'unknown BLAS'}; "
        f"Python {machine['Python']}; environment: {machine['environment']}"
    )


def progress(row: Mapping[str, Any], value: float) -> float:
    """Returns the position of a value on a logarithmic scale that is 0 at `must` and 1 at `aim`."""
    return math.log(value / row["must"]) / math.log(row["aim"] / row["must"])


def plot(rows: Rows) -> Figure:
    """Returns a plot of the rows with a target: bars end at the measured value, lines are must and aim."""
    upwards = [row for row in rows if row["must"] is not None][::-1]
    figure = Figure(figsize=(8, 0.55 * len(upwards) + 1.3), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    left, right = -3.0, 4.0
    for y, row in enumerate(upwards):
        end = min(max(progress(row, row["measured"]), left), right)
        color = COLORS[row["verdict"]]
        axes.barh(y, end - left, left=left, color=color, alpha=0.35, height=0.6)
        ends = [min(max(progress(row, row[key]), left), right) for key in ("least", "most")]
        axes.plot(ends, [y, y], color=color, linewidth=2, solid_capstyle="butt")
        axes.plot(end, y, "o", color=color, markersize=5)
        text = cells(row)[2]
        axes.annotate(
            text, (max(end, *ends), y), xytext=(7, 0), textcoords="offset points", va="center", fontsize=8
        )
    for at, name in ((0, "must"), (1, "aim")):
        axes.axvline(at, color="black", linewidth=0.8, linestyle="-" if at == 0 else "--", zorder=0)
        axes.annotate(name, (at, len(upwards) - 0.5), ha="center", va="bottom", fontsize=9)
    axes.set_yticks(
        range(len(upwards)), [_wrapped(f"{row['row']}  {row['what']}") for row in upwards], fontsize=8
    )
    axes.set_xlim(left, right + 2)
    axes.set_ylim(-0.6, len(upwards) - 0.2)
    axes.set_xticks([])
    axes.set_xlabel("better to the right; distances are ratios, 1 from must to aim", fontsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    return figure


def _wrapped(text: str, width: int = 44) -> str:
    if len(text) <= width:
        return text
    cut = text.rfind(" ", 0, width)
    return f"{text[:cut]}\n    {text[cut + 1 :]}"
