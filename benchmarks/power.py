"""How often eleven claims show an effect, or that there is none: the tables of docs/statistics.md.

    python -m benchmarks.power [--studies 500]

A study compares two samples of runs whose standard deviation is 1; effects and margins are in its units.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from vae_lab.studies.statistics import BETS, LOOKED, PAIRED, UNPAIRED, Pair, Test, within

LEVEL, CLAIMS = 0.05, 11
OF_EFFECTS, OF_MARGINS = (UNPAIRED, LOOKED, BETS), (UNPAIRED, PAIRED, LOOKED, BETS)
EFFECTS, SEEDS = (1.8, 2.5, 4.0), (6, 10, 13, 22)
SPREADS, SEEDS_WITHIN = (0.3, 0.5, 0.8), (6, 10, 22, 35)  # of runs, in margins
AT_ONCE = 250  # studies, to bound the memory of rearrangements


def shares(
    tests: Sequence[Test], studies: int, seeds: int, *, effect: float = 0.0, margin: float | None = None
) -> list[float]:
    """Returns the share of studies that each test settles as one of eleven claims.

    Args:
        tests: What is compared.
        studies: How many are drawn.
        seeds: Runs of each of the two samples.
        effect: By how much the first sample is higher.
        margin: Asks whether the difference is shown to be less; without one, whether the first is higher.
    """
    rng, settled = np.random.default_rng(0), np.zeros(len(tests))
    for start in range(0, studies, AT_ONCE):
        first, second = rng.normal(size=(2, min(AT_ONCE, studies - start), seeds))
        pair = Pair(first + effect, second)
        for place, test in enumerate(tests):
            p = test.directions(pair).up if margin is None else within(pair, margin, test)
            settled[place] += (p <= LEVEL / CLAIMS).sum()
    return [float(share) for share in settled / studies]


def row(seeds: int, cells: Sequence[Sequence[float]]) -> str:
    """Returns a line of a Markdown table."""
    texts = [", ".join(f"{share:.2f}" for share in cell) for cell in cells]
    return f"| {' | '.join([str(seeds), *texts])} |"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Returns the command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.power",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--studies", type=int, default=500, help="studies a cell")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Prints both tables."""
    studies = parse(arguments).studies
    print(f"\nAn effect is shown ({', '.join(test.name for test in OF_EFFECTS)})\n")
    print(f"| seeds | {' | '.join(f'{effect:g}' for effect in EFFECTS)} |")
    for seeds in SEEDS:
        shown = [shares(OF_EFFECTS, studies, seeds, effect=effect) for effect in EFFECTS]
        print(row(seeds, shown), flush=True)
    print(f"\nNo difference is shown to be negligible ({', '.join(test.name for test in OF_MARGINS)})\n")
    print(f"| seeds | {' | '.join(f'{spread:g} margins' for spread in SPREADS)} |")
    for seeds in SEEDS_WITHIN:
        shown = [shares(OF_MARGINS, studies, seeds, margin=1 / spread) for spread in SPREADS]
        print(row(seeds, shown), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
