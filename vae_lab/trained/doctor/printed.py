"""Reports in the terminal: of one run all that was found, of many a line each and every finding once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vae_lab.report.terminal import plain
from vae_lab.trained.doctor.findings import FAULT, GRADES, NOTE, WARNING, Finding, Report

STYLES = {FAULT: "bold red", WARNING: "yellow", NOTE: "cyan", "": "green"}
SIGNS = {FAULT: "✗", WARNING: "!", NOTE: "·", "": "✓"}
INDENT = 2  # of a finding below its heading
GRADE_WIDTH = max(map(len, GRADES)) + 2


def show_all(reports: Iterable[Report], count: int, console: Console) -> list[Report]:
    """Prints reports as they come, one of a single subject whole; returns them.

    Args:
        reports: At least one.
        count: How many there will be.
        console: Where they are printed.
    """
    shown = []
    for report in reports:
        (show if count == 1 else show_line)(report, console)
        shown.append(report)
    if count > 1:
        show_together(shown, console)
    return shown


def show(report: Report, console: Console) -> None:
    """Prints all that a report says."""
    injected = f"  (made with fault={report.injected})" if report.injected else ""
    _print_line(report.worst, f"{report.subject}: {report.summary}{injected}", console, "bold")
    for finding in report.findings:
        _print_finding(finding, console)
    if report.unexamined:
        console.print()
        console.print(Text(" " * INDENT + "not examined", "dim"))
        _print_fields(report.unexamined, console)


def show_line(report: Report, console: Console) -> None:
    """Prints the names of what was found in one of many subjects, by grade, as a line."""
    named = [f"{grade} {', '.join(names)}" for grade in GRADES[::-1] if (names := report.of_grade(grade))]
    sign = FAULT if report.failure else report.worst
    _print_line(sign, f"{report.subject}: {'; '.join(named) or report.summary}", console)


def show_together(reports: Sequence[Report], console: Console) -> None:
    """Prints what was found in many subjects: how many have a fault, and every finding with an example."""
    worst = max((report.worst for report in reports), key=["", *GRADES].index)
    faulty = sum(report.worst == FAULT for report in reports)
    failures = sum(bool(report.failure) for report in reports)
    failed = f", {failures} could not be examined" if failures else ""
    console.print()
    _print_line(worst, f"{len(reports)} runs: {faulty or 'none'} with a fault{failed}", console, "bold")
    for grade in GRADES[::-1]:
        names = dict.fromkeys(name for report in reports for name in report.of_grade(grade))
        for name in names:
            having = [report for report in reports if name in report.of_grade(grade)]
            example = having[0].finding(name, grade)
            _print_finding(example, console, f"{len(having)} of {len(reports)}, such as {having[0].subject}")


def _print_line(worst: str, words: str, console: Console, style: str = "") -> None:
    console.print(Text.assemble((SIGNS[worst], STYLES[worst]), " ", plain(words, style)), soft_wrap=True)


def _print_finding(finding: Finding, console: Console, runs: str = "") -> None:
    console.print()
    heading = Text(" " * INDENT)
    heading.append(f"{finding.grade:{GRADE_WIDTH}}", STYLES[finding.grade])
    heading.append(finding.name, "bold")
    console.print(heading, soft_wrap=True)
    fields = {"runs": runs} if runs else {}
    _print_fields(fields | {"seen": finding.seen, "sound": finding.sound, "remedy": finding.remedy}, console)


def _print_fields(fields: Mapping[str, str], console: Console) -> None:
    """Prints texts with their names before them, wrapped within the console's width."""
    grid = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in fields.items():
        grid.add_row(name, plain(text))
    console.print(Padding(grid, (0, 0, 0, INDENT + GRADE_WIDTH)))
