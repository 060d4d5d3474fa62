"""Puts the last results into docs/performance.md, between its markers, and the plot beside it.

python -m benchmarks.page [FOLDER ...]      # of benchmark.json, profile.json, gpu/gpu.json, or some of these

Folders were measured one after another on one machine; a row is taken from the last folder that has it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import gpu, outputs, profile
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


# Of the page: the file that a section is made of, and how; of the profile and a GPU the last counts.
SECTIONS: dict[str, tuple[str, Callable[[Sequence[Mapping[str, Any]]], str]]] = {
    "result": ("benchmark.json", section),
    "profile": ("profile.json", lambda records: profile.markdown(records[-1])),
    "gpu": ("gpu/gpu.json", lambda records: gpu.markdown(records[-1])),
}


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
    page, written_sections = PAGE.read_text(), 0
    for name, (file, written) in SECTIONS.items():
        records = [json.loads(path.read_text()) for folder in folders if (path := folder / file).is_file()]
        if not records:
            continue
        written_sections += 1
        try:
            page = replace_section(page, name, written(records))
        except ValueError as error:
            sys.exit(str(error))
        if name == "result":
            outputs.plot(latest_rows(records)).savefig(PAGE.with_suffix(".png"))
    if not written_sections:
        looked_for = " or ".join(file for file, _ in SECTIONS.values())
        sys.exit(f"{', '.join(map(str, folders))}: no {looked_for} is there yet. Start with: make benchmark")
    PAGE.write_text(page)
    print(f"Written: {PAGE.relative_to(ROOT)}, and beside it {PAGE.with_suffix('.png').name} of the rows")


if __name__ == "__main__":
    main(sys.argv[1:])
