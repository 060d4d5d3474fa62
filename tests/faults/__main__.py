"""Does every fault to runs and says what was lost: `python -m tests.faults`, or `make faults`."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tests.faults.bench import Bench
from tests.faults.children import ROOT, Zygote
from tests.faults.kinds import KINDS

RESULTS = ROOT / "tests" / "faults" / "results"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="SIGKILLs at random moments (default 100)")
    parser.add_argument("--rounds", type=int, default=2, help="of every other fault (default 2)")
    parser.add_argument("--seed", type=int, default=0, help="of what is left to chance (default 0)")
    parser.add_argument(
        "--only", nargs="+", choices=list(KINDS), default=list(KINDS), metavar="KIND", help=", ".join(KINDS)
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Does them, prints the table and writes JSON; gives the exit code."""
    chosen = parse(arguments)
    console = Console(highlight=False)
    begin = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="vae_lab_faults_"))
    with Zygote(folder) as zygote:

        def say(line: str) -> None:
            console.print(f"{time.monotonic() - begin:6.0f} s  {line}", markup=False, soft_wrap=True)

        bench = Bench(zygote, folder, chosen.seed, say)
        for kind in chosen.only:
            KINDS[kind](bench, chosen.kills, chosen.rounds)
    minutes = (time.monotonic() - begin) / 60
    RESULTS.mkdir(exist_ok=True)
    record = {
        "command": " ".join(["python -m tests.faults", *arguments]),
        "minutes": minutes,
        "rows": bench.tally.record(),
        "markdown": bench.tally.markdown(),
    }
    (RESULTS / "faults.json").write_text(json.dumps(record, indent=2))
    console.print(bench.tally.table())
    for line in bench.tally.lost:
        console.print(f"lost: {line}", markup=False, soft_wrap=True)
    console.print(f"{minutes:.1f} minutes, seed {chosen.seed}; written to {RESULTS / 'faults.json'}")
    if bench.tally.lost:
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
