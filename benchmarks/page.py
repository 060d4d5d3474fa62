"""Puts the last results into docs/performance.md, between its markers, and the plot beside it.

python -m benchmarks.page [FOLDER ...]      # of benchmark.json and, if it is there, profile.json

Folders were measured one after another on one machine; a row is taken from the last folder that has it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import outputs, profile
from benchmarks.processes import ROOT

PAGE = ROOT / "docs" / "performance.md"


def section(records: Sequence[Mapping[str, Any]]) -> str:
    """Returns the page's section of the results; a row is taken from the last record that has it.

    Raises:
        ValueError: They come from different machines.
    """
    machines = {outputs.machine_line(record["machine"]) for record in records}
    if len(machines) > 1:
        raise ValueError(f"results of different machines cannot share a table: {'; '.join(sorted(machines))}")
    lines, rows = [], latest_rows(records)
    for record in records:
        machine, busy = record["machine"], record["busy_cores_before"]
        others = "" if busy is None else f", other programs on {busy:.2f} cores when it began"
        numbers = ", ".join(str(row["row"]) for row in record["rows"] if row in rows)
        if numbers:
            lines.append(
                f"- Row{'s' * (',' in numbers)} {numbers}: `{record['command']}` at {machine['commit']}, "
                f"{machine['date']}, {record['minutes']:.0f} minutes{others}."
            )
    lines += ["", f"On {machines.pop()}."]
    if any(record["quick"] for record in records):
        lines.append("**A quick run on less work: it shows that the rows work, and no result.**")
    table = outputs.markdown(rows)
    return "\n".join([*lines, "", table, "", "![Every row between must and aim](performance.png)"])


def latest_rows(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Returns the rows of all records in order, each from the last record that has it."""
    rows = {row["row"]: row for record in records for row in record["rows"]}
    return [rows[number] for number in sorted(rows)]


def replace_section(page: str, name: str, content: str) -> str:
    """Returns the page with new content between the markers of that name.

    Raises:
        ValueError: The page has no such markers.
    """
    start, end = f"<!-- {name}: start -->", f"<!-- {name}: end -->"
    before, start_marker, rest = page.partition(start)
    _, end_marker, after = rest.partition(end)
    if not (start_marker and end_marker):
        raise ValueError(f"the page has no {start} ... {end}")
    return f"{before}{start}\n{content}\n{end}{after}"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Returns the command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.page",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    results = ROOT / "benchmarks" / "results"
    parser.add_argument("folders", type=Path, nargs="*", default=[results], metavar="FOLDER")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Rewrites the page from folders of results."""
    folders = parse(arguments).folders
    for folder in folders:
        if not (folder / "benchmark.json").is_file():
            sys.exit(f"{folder / 'benchmark.json'}: no result is there yet. Start with: make benchmark")
    records = [json.loads((folder / "benchmark.json").read_text()) for folder in folders]
    try:
        page = replace_section(PAGE.read_text(), "result", section(records))
    except ValueError as error:
        sys.exit(str(error))
    for folder in folders:
        if (profiled := folder / "profile.json").is_file():
            page = replace_section(page, "profile", profile.markdown(json.loads(profiled.read_text())))
    PAGE.write_text(page)
    outputs.plot(latest_rows(records)).savefig(PAGE.with_suffix(".png"))
    print(f"Written: {PAGE.relative_to(ROOT)} and {PAGE.with_suffix('.png').relative_to(ROOT)}")


if __name__ == "__main__":
    main(sys.argv[1:])
