"""All that is to be known of the lab on a GPU, by one command: `python -m benchmarks.gpu`.

Tests on the device, resume among them, then stacks, number formats, CUDA graphs, memory, and rows 1 to 5,
of which 4 needs pythae and Lightning. Each part is a command of its own with a limit, and all end within ten
minutes; what it gave is kept at once, in gpu.json. Tests come first: how fast a wrong step is does not
matter.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import machine, outputs
from benchmarks.processes import ENVIRONMENT, ROOT

RESULTS = ROOT / "benchmarks" / "results" / "gpu"
LIMIT = 590.0  # seconds of all parts together
SIZES = ("1", "4", "16", "64", "256")
FORMATS = ("float32", "tf32", "bfloat16")
PYTEST = ("pytest", "-q", "-m", "on_device", "-n", "auto", "--maxprocesses", "8", "--dist", "loadfile")
SHORT = ("data=digits", "model.hidden_size=16")  # overrides of a trial: does it run?


class Part(NamedTuple):
    """A part: what it is about, how long it may take, and the arguments of `python -m`."""

    name: str
    what: str
    limit: float  # seconds
    arguments: tuple[str, ...]


def parts(device: str, folder: Path, *, quick: bool, peers: bool) -> list[Part]:
    """Returns the parts in their order; `quick` does less, to see whether they run; `peers`: row 4 too.

    Row 4 comes last and alone: a peer that fails, or takes too long, leaves the lab's own rows.
    """
    stacks = ("benchmarks.stacks", f"--device={device}")
    benchmark = ("benchmarks", f"--device={device}", "--long-repeats", "1", "--rows")
    rows = (*benchmark, "1", "2", "3", "5")
    sizes, formats, fewer = (
        (SIZES, FORMATS, SIZES[:3]) if not quick else (("1", "2"), ("float32", "bfloat16"), ("1",))
    )
    rest = ("--epochs", "1", *SHORT) if quick else ("--epochs", "3")
    work = ("--quick",) if quick else ("--epochs", "2")
    tests = ("tests/test_checkpoints.py",) if quick else ()
    with_peers = (*benchmark, "4", "--peers", *work, f"--output={folder / 'peers'}")
    return [
        Part("tests", "the tests that lie on the device", 200, (*PYTEST, f"--device={device}", *tests)),
        Part("stacks", "stacks of K runs of the base model", 90, (*stacks, "--runs", *sizes, *rest)),
        Part(
            "narrow",
            "stacks of K narrow runs",
            60,
            (*stacks, "--runs", *sizes, *rest, "model.hidden_size=64"),
        ),
        Part("formats", "one run in each number format", 40, (*stacks, "--formats", *formats, *rest)),
        Part("compiled", "stacks of K runs, compiled", 120, (*stacks, "--compile", "--runs", *fewer, *rest)),
        Part("rows", "rows 1, 2, 3 and 5", 200, (*rows, *work, f"--output={folder / 'rows'}")),
        Part(
            "rows compiled",
            "rows 1, 2, 3 and 5, compiled",
            240,
            (*rows, *work, "--compile", f"--output={folder / 'compiled'}"),
        ),
        *([Part("peers", "row 4", 200, with_peers)] if peers else []),
    ]


def main(arguments: Sequence[str]) -> int:
    """Does the parts one after another, prints and keeps what each gave; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda or cuda:N; cpu tries whether the parts run")
    parser.add_argument("--quick", action="store_true", help="less work: do they run?")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    chosen = parser.parse_args(arguments)
    console = Console(highlight=False)
    facts = machine.describe()
    if chosen.device != "cpu" and facts["GPU"] == "none":
        console.print(
            f"--device={chosen.device}: PyTorch finds no GPU here. --device=cpu --quick tries the parts."
        )
        return 2
    console.print(outputs.machine_line(facts))
    missing = [name for name in machine.PEERS if not machine.installed(name)]
    if missing:
        console.print(f"Without row 4: {' and '.join(missing)} not installed (pip install .\\[peers]).")
    record = _measured(chosen, facts, console, peers=not missing)
    console.print(table(record))
    console.print(f"Written to {chosen.output / 'gpu.json'}")
    return 1 if any(not done["ended_well"] for done in record["parts"]) else 0


def _measured(
    chosen: argparse.Namespace, facts: Mapping[str, Any], console: Console, *, peers: bool
) -> dict[str, Any]:
    """Returns the record of all parts, which is also written after each."""
    chosen.output.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {"machine": facts, "device": chosen.device, "quick": chosen.quick, "parts": []}
    end = time.monotonic() + LIMIT
    for part in parts(chosen.device, chosen.output, quick=chosen.quick, peers=peers):
        console.print(f"{part.name}: {part.what}, at most {part.limit:.0f} s")
        done = done_part(part, min(part.limit, end - time.monotonic()))
        console.print(f"  {done['said']} ({done['seconds']:.0f} s)", markup=False, soft_wrap=True)
        record["parts"].append(done)
        (chosen.output / "gpu.json").write_text(json.dumps(record, indent=2))
    return record


def done_part(part: Part, limit: float) -> dict[str, Any]:
    """Returns what a part gave: its words and every line of JSON that it printed, also when it is stopped."""
    start = time.monotonic()
    if limit <= 0:
        return {
            "name": part.name,
            "seconds": 0.0,
            "ended_well": False,
            "said": "no time was left",
            "lines": [],
        }
    with tempfile.TemporaryFile("w+") as printed:
        code = _exit_code([sys.executable, "-m", *part.arguments], printed, limit)
        printed.seek(0)
        words = [line.strip() for line in printed if line.strip()]
    lines = [json.loads(line) for line in words if line.startswith("{")]
    said = _said([line for line in words if not line.startswith("{")], well=code == 0)
    if lines:
        said = f"{len(lines)} figures" if code == 0 else f"{len(lines)} figures; {said}"
    return {
        "name": part.name,
        "seconds": time.monotonic() - start,
        "ended_well": code == 0,
        "said": said if code is not None else f"stopped after {limit:.0f} s; {said}",
        "lines": lines,
    }


def _exit_code(command: Sequence[str], printed: IO[str], limit: float) -> int | None:
    """Runs a command; returns its exit code, None if it and all that it started were stopped at the limit."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=printed,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        return process.wait(limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


def _said(words: Sequence[str], *, well: bool) -> str:
    """Returns the rows that were measured, else the last words; more of them if it did not end well."""
    rows = [line for line in words if line.startswith("row ") and ":" in line]
    return "; ".join(rows) or "\n".join(words[-1:] if well else words[-8:])


def figures(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns what was measured of stacks and formats, of all parts."""
    return [line for part in record["parts"] for line in part["lines"]]


COLUMNS = ("layers", "runs", "format", "compiled", "first", "epoch", "runs a s", "memory")


def cells(figure: Mapping[str, Any]) -> list[str]:
    """Returns a figure's cells as texts; an epoch, and runs a second, are those of the whole stack."""
    memory, least = figure["peak_memory"], "≥ " if figure["share"] < 1 else ""
    return [
        figure["model"],
        str(figure["runs"]),
        figure["format"],
        "yes" if figure["compiled"] else "no",
        f"{figure['first_epoch']:.2f} s",
        f"{figure['epoch']:.3f} s",
        f"{figure['runs_a_second']:.2f}",
        "–" if memory is None else f"{least}{memory / 2**30:.2f} GiB",
    ]


def table(record: Mapping[str, Any]) -> Table:
    """Returns the figures of stacks and formats as a table for the terminal."""
    rows = Table(box=box.SIMPLE_HEAD, header_style="bold")
    for i, heading in enumerate(COLUMNS):
        rows.add_column(heading, justify="left" if i in (0, 2, 3) else "right", no_wrap=True)
    for figure in figures(record):
        rows.add_row(*cells(figure))
    return rows


def markdown(record: Mapping[str, Any]) -> str:
    """Returns the page's section: what every part said, and the figures."""
    facts = record["machine"]
    lines = [f"On {outputs.machine_line(facts)}, {facts['date']}, at {facts['commit']}:", ""]
    if record["quick"]:
        lines += ["**A quick run on less work: it shows that the parts work, and no result.**", ""]
    for part in record["parts"]:
        said = " ".join(part["said"].split())
        lines.append(f"- {part['name']}: {said} ({part['seconds']:.0f} s)")
    lines += ["", f"| {' | '.join(COLUMNS)} |", "| --- | ---: | --- | --- | ---: | ---: | ---: | ---: |"]
    lines += [f"| {' | '.join(cells(figure))} |" for figure in figures(record)]
    lines += [
        "",
        "Epoch: of all runs of the stack. Runs a s: of how many runs an epoch is trained in a second. "
        "Memory with ≥: of an epoch of a part of the images, by which its seconds are divided.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
