"""Puts the last results into docs/performance.md, between its markers, and the plot beside it.

python -m benchmarks.page [FOLDER]      # of benchmark.json, benchmark.png and, if it is there, profile.json
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import outputs, profile
from benchmarks.processes import ROOT

PAGE = ROOT / "docs" / "performance.md"


def section(record: Mapping[str, Any]) -> str:
    """The part of the page that a result makes."""
    machine = record["machine"]
    lines = [
        f"`{record['command']}` at {machine['commit']}, {machine['date']}, {record['minutes']:.0f} minutes:",
        f"{outputs.machine_line(machine)}.",
    ]
    busy = record["busy_cores_before"]
    if busy is not None:
        lines.append(f"Other programs kept {busy:.2f} cores busy when it began.")
    if record["quick"]:
        lines.append("**A quick run on less work: it shows that the rows work, and no result.**")
    table = outputs.markdown(record["rows"])
    return "\n".join([*lines, "", table, "", "![Every row between must and aim](performance.png)"])


def replaced(page: str, name: str, made: str) -> str:
    """The page with what is between the markers of that name replaced.

    Raises:
        ValueError: the markers are not there.
    """
    start, end = f"<!-- {name}: start -->", f"<!-- {name}: end -->"
    before, found_start, rest = page.partition(start)
    _, found_end, after = rest.partition(end)
    if not (found_start and found_end):
        raise ValueError(f"the page has no {start} ... {end}")
    return f"{before}{start}\n{made}\n{end}{after}"


def main() -> None:
    """Rewrites the page from a folder of results."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "benchmarks" / "results"
    file = folder / "benchmark.json"
    if not file.is_file():
        sys.exit(f"{file}: no result is there yet. Start with: make benchmark")
    record = json.loads(file.read_text())
    page = replaced(PAGE.read_text(), "result", section(record))
    if (profiled := folder / "profile.json").is_file():
        page = replaced(page, "profile", profile.markdown(json.loads(profiled.read_text())))
    PAGE.write_text(page)
    shutil.copyfile(folder / "benchmark.png", PAGE.with_suffix(".png"))
    print(f"Written: {PAGE.relative_to(ROOT)} and {PAGE.with_suffix('.png').relative_to(ROOT)}")


if __name__ == "__main__":
    main()
