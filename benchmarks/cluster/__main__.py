"""Does the proofs one after the other and prints a line for each: `python -m benchmarks.cluster`."""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.cluster import cut_off, hosts, killed_driver, overhead, requeued, server, slurm
from benchmarks.cluster.results import WrongError
from benchmarks.processes import FailedError


class Sizes(NamedTuple):
    """How much is done."""

    runs: int  # of the hosts that are cut off
    kills: int
    short_runs: int
    turns: int


WHOLE = Sizes(runs=40, kills=10, short_runs=100, turns=3)
QUICK = Sizes(runs=8, kills=2, short_runs=8, turns=1)


class Proof(NamedTuple):
    """Something that is shown, in a folder of its own."""

    what: str
    shown: Callable[[Path, Sizes], str]
    lacking: Callable[[], str]  # why it cannot be shown here; nothing where it can


def without_ray() -> str:
    """Returns why Ray cannot be had here; nothing where it can."""
    return "" if importlib.util.find_spec("ray") else "Ray is not installed: pip install 'vae-lab[ray]'"


PROOFS = {
    1: Proof(
        "a host cut off and healed",
        lambda folder, sizes: cut_off.prove(folder, sizes.runs),
        lambda: without_ray() or hosts.lacking(),
    ),
    2: Proof(
        "the command killed",
        lambda folder, sizes: killed_driver.prove(folder, sizes.kills),
        without_ray,
    ),
    3: Proof(
        "what Ray costs short runs",
        lambda folder, sizes: overhead.prove(folder, sizes.short_runs, sizes.turns),
        without_ray,
    ),
    4: Proof(
        "a server killed under writers, and its passwords",
        lambda folder, sizes: server.prove(folder, kills=sizes.kills),
        server.lacking,
    ),
    8: Proof(
        "jobs of SLURM requeued",
        lambda folder, _sizes: requeued.prove(folder),
        lambda: without_ray() or slurm.slurm_lacking(),
    ),
}


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Returns which proofs are asked for, and whether only a little of each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument(
        "--only", type=int, nargs="+", choices=list(PROOFS), default=list(PROOFS), help="which (default: all)"
    )
    parser.add_argument("--quick", action="store_true", help="little of each: does it run?")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Does the proofs; returns the exit code, 1 if one failed."""
    chosen = parse(arguments)
    sizes = QUICK if chosen.quick else WHOLE
    failed = [number for number in chosen.only if not _shown(number, PROOFS[number], sizes)]
    return 1 if failed else 0


def _shown(number: int, proof: Proof, sizes: Sizes) -> bool:
    """Does one proof and prints its line; returns whether it held, or could not be tried."""
    name = f"{number}. {proof.what}:"
    if reason := proof.lacking():
        print(f"{name} skipped, {reason}", flush=True)
        return True
    folder = Path(tempfile.mkdtemp(prefix="vae_lab_cluster_"))
    began = time.monotonic()
    try:
        seen = proof.shown(folder, sizes)
    except (WrongError, FailedError, TimeoutError) as error:
        print(f"{name} FAILED, {error} (kept in {folder})", flush=True)
        return False
    print(f"{name} {seen} ({time.monotonic() - began:.0f} s)", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
