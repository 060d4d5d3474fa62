"""Measures how fast the lab is and compares it with how fast it should be: `python -m benchmarks`.

Every contender runs in a process of its own, with the environment that this command was started with, and all
take turns, so that a drift of the machine's speed meets everybody. Ratios are of medians.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import machine, outputs
from benchmarks.processes import ENVIRONMENT, ROOT, FailedError
from benchmarks.rows import GROUPS, Sizes
from benchmarks.targets import NEEDS_PEERS, TARGETS

QUIET = 0.1  # cores that others may keep busy
ROW_LIST = "\n".join(f"  {number}  {target.what}" for number, target in TARGETS.items())


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Returns the command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"{__doc__}\nRows:\n{ROW_LIST}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    rows = list(TARGETS)
    parser.add_argument(
        "--rows", type=int, nargs="+", choices=rows, default=rows, help="which (default: all)"
    )
    parser.add_argument("--repeats", type=_positive, help="rounds of what takes seconds (default 5)")
    parser.add_argument(
        "--long-repeats", type=_positive, help="rounds of rows 1 to 5, of minutes each (default 2, row 5: 1)"
    )
    parser.add_argument("--epochs", type=_positive, help="of each run in rows 1 to 5 (default 10)")
    parser.add_argument("--quick", action="store_true", help="one round of less work: does it run?")
    parser.add_argument("--peers", action="store_true", help="pythae and Lightning, too: rows 4 and 9")
    parser.add_argument(
        "--device", default="cpu", help="of rows 1 to 5 and 9: cpu or cuda (make benchmark-gpu)"
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        dest="compiled",
        help="rows 1 to 5 and 9 with train.compile=true: CUDA graphs on a GPU",
    )
    parser.add_argument(
        "--output", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the results"
    )
    return parser.parse_args(arguments)


def sizes(chosen: argparse.Namespace, data: str, shorter: tuple[str, ...] = ()) -> Sizes:
    """Returns how much is measured: the rounds and the work of each row, and in which shorter formats."""
    usual = Sizes(
        data,
        chosen.device,
        chosen.compiled,
        peers=machine.PEERS if chosen.peers else (),
        shorter=shorter,
    )
    if chosen.quick:
        usual = usual._replace(repeats=1, long_repeats=1, epochs=1, seeds=4, seed_epochs=1)
    return usual._replace(
        epochs=chosen.epochs or usual.epochs,
        seed_epochs=chosen.epochs or usual.seed_epochs,
        repeats=chosen.repeats or usual.repeats,
        long_repeats=chosen.long_repeats or usual.long_repeats,
        seed_repeats=chosen.long_repeats or usual.seed_repeats,
    )


def main(arguments: Sequence[str]) -> int:
    """Measures, prints, and writes JSON and a plot; returns the exit code."""
    chosen = parse(arguments)
    console = Console(highlight=False)
    if missing := [name for name in machine.PEERS if chosen.peers and not machine.installed(name)]:
        console.print(
            f"--peers: {' and '.join(missing)} not installed. Install them with: pip install .\\[peers]"
        )
        return 2
    if not chosen.peers and set(chosen.rows) <= NEEDS_PEERS:
        console.print("--rows 4: is measured against pythae and Lightning; add --peers")
        return 2
    machine_facts = machine.describe()
    console.print(outputs.machine_line(machine_facts))
    busy = machine.busy_cores()
    if busy is not None and busy > QUIET:
        console.print(
            f"[bold red]Other programs keep {busy:.1f} cores busy: these figures will not be worth much.[/]"
        )
    start = time.monotonic()
    try:
        measured, failed = _measure(chosen, console)
    except FailedError as error:
        console.print(f"benchmarks: {error}", markup=False, soft_wrap=True)
        return 1
    record = {
        "machine": machine_facts,
        "busy_cores_before": busy,
        "minutes": (time.monotonic() - start) / 60,
        "command": " ".join(["python -m benchmarks", *_without_output(arguments)]),
        "quick": chosen.quick,
        "rows": sorted(measured, key=lambda row: row["row"]),
    }
    _write(record, chosen.output, console)
    return 1 if failed else 0


def _measure(chosen: argparse.Namespace, console: Console) -> tuple[list[dict[str, Any]], bool]:
    """Returns the rows' records, and whether some could not be measured."""
    size = sizes(chosen, _printed(MNIST), tuple(_printed(FORMATS, chosen.device).split()))
    measured: list[dict[str, Any]] = []
    failed = False
    for rows, measure in GROUPS:
        if not set(rows) & set(chosen.rows):
            continue
        name = f"row {rows[0]}" if len(rows) == 1 else f"rows {rows[0]} to {rows[-1]}"
        with console.status(name) as status:

            def say(what: str, name: str = name) -> None:
                if console.is_terminal:
                    status.update(f"{name}, {what}")
                else:
                    console.print(f"{name}, {what}")

            try:
                results = measure(size, say)
            except FailedError as error:
                console.print(f"{name}: could not be measured: {error}", markup=False, soft_wrap=True)
                failed = True
                continue
        for result in results:
            target = result.target
            figure = f"{target.format(result.value)} {target.unit}, {target.verdict(result.value)}"
            console.print(
                f"row {result.row}: {target.what}: [bold]{figure}[/]\n       {result.note}", soft_wrap=True
            )
            measured.append(result.record())
    return measured, failed


def _write(record: dict[str, Any], folder: Path, console: Console) -> None:
    rows = record["rows"]
    if not rows:
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "benchmark.json").write_text(json.dumps(record, indent=2))
    outputs.plot(rows).savefig(folder / "benchmark.png")
    console.print(outputs.terminal(rows))
    if record["quick"]:
        console.print("A quick run: one round of less work, and no result.")
    console.print(f"{record['minutes']:.1f} minutes; written to {folder}: benchmark.json, benchmark.png")


def _without_output(arguments: Sequence[str]) -> list[str]:
    """Returns the command line without the folder of the results, which has no influence on them."""
    return [
        word
        for previous, word in zip(["", *arguments], arguments, strict=False)
        if previous != "--output" and not word.startswith("--output")
    ]


MNIST = "from vae_lab.data import mnist; print(mnist().origin)"  # fetched if it is not there
FORMATS = (
    "import sys, torch; from vae_lab.devices import faster_precisions; "
    "print(*{'bfloat16'}.intersection(faster_precisions(torch.device(sys.argv[1]))))"
)


def _printed(code: str, *arguments: str) -> str:
    """Returns what a few lines of Python print that import the lab, which nobody else here may do."""
    process = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True
    )
    if process.returncode:
        raise FailedError(f"MNIST or the device is not to be had:\n{process.stderr[-1000:]}")
    return process.stdout.strip()


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
