"""How often eleven claims show an effect, or that there is none: the tables of docs/statistics.md.

    python -m benchmarks.power [--studies 500] [--only effects margins needed given-up]

A study compares two samples of runs whose standard deviation is 1; effects and margins are in its units. In
the tables of the seeds needed and of claims given up it is 1 of the differences between seeds.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence

import numpy as np
from scipy import special

from vae_lab.studies.statistics import (
    BETS,
    FAIR_CHANCE,
    LOOKED,
    LOOKS,
    PAIRED,
    UNPAIRED,
    Pair,
    Test,
    replicates_for_power,
    two_sided,
    within,
)

LEVEL, CLAIMS = 0.05, 11
OF_EFFECTS, OF_MARGINS = (UNPAIRED, LOOKED, BETS), (UNPAIRED, PAIRED, LOOKED, BETS)
EFFECTS, SEEDS = (1.8, 2.5, 4.0), (6, 10, 13, 22)
SPREADS, SEEDS_WITHIN = (0.3, 0.5, 0.8), (6, 10, 22, 35)  # of runs, in margins
CLAIMS_NEEDING, EFFECTS_NEEDING = (1, 8, 11), (0.5, 0.75, 1.0, 1.25, 2.0)
MOST, EFFECTS_GIVEN_UP = (22, 44), (0.0, 0.4, 0.8, 1.2)
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


def drawn(test: Test, studies: int, seeds: int, effect: float, claims: int) -> Pair:
    """Returns differences whose standard deviation is 1, of samples where the test is of samples."""
    first, second = np.random.default_rng(claims).normal(size=(2, studies, seeds))
    return Pair(first + effect, 0 * second) if test.paired else Pair(first / 2**0.5 + effect, second / 2**0.5)


def needed_and_shown(test: Test, studies: int, effect: float, claims: int) -> str:
    """Returns the seeds that are said to be needed, and how often so many show an effect of this size."""
    quantiles = special.ndtri((np.arange(4000) + 0.5) / 4000)
    needed = replicates_for_power(Pair(quantiles + effect, 0 * quantiles), LEVEL, claims, test=test)
    if math.isinf(needed.estimate):
        return "never"
    pair, shown = drawn(test, studies, int(needed.estimate), effect, claims), 0
    for start in range(0, studies, AT_ONCE):
        some = Pair(*(values[start : start + AT_ONCE] for values in pair))
        shown += int((test.directions(some).up <= LEVEL / claims).sum())
    return f"{needed.estimate:.0f}: {shown / studies:.2f}"


def given_up(test: Test, studies: int, effect: float, claims: int, most: int) -> str:
    """Returns how many claims are given up, how many of all would have been settled, and the seeds saved."""
    pair, looks = drawn(test, studies, most, effect, claims), [look for look in LOOKS if look <= most]
    pairs = [Pair(pair.first[:, :look], pair.second[:, :look]) for look in looks]
    settled = np.array([two_sided(test.directions(some)) <= LEVEL / claims for some in pairs])
    stopped = lost = saved = 0
    for study in range(studies):
        for place, (look, some) in enumerate(zip(looks[:-1], pairs, strict=False)):
            if settled[place, study]:
                break
            seen = Pair(some.first[study], some.second[study])
            if replicates_for_power(seen, LEVEL, claims, FAIR_CHANCE, test=test).low > most:
                stopped, lost, saved = stopped + 1, lost + settled[-1, study], saved + most - look
                break
    return f"{stopped / studies:.2f}, {lost / studies:.3f}, {saved / max(stopped, 1) / most:.2f}"


def row(first: object, cells: Sequence[Sequence[float] | str]) -> str:
    """Returns a line of a Markdown table."""
    texts = [cell if isinstance(cell, str) else ", ".join(f"{share:.2f}" for share in cell) for cell in cells]
    return f"| {' | '.join([str(first), *texts])} |"


def effects_table(studies: int) -> None:
    """Prints how often an effect is shown."""
    print(f"\nAn effect is shown ({', '.join(test.name for test in OF_EFFECTS)})\n")
    print(f"| seeds | {' | '.join(f'{effect:g}' for effect in EFFECTS)} |")
    for seeds in SEEDS:
        shown = [shares(OF_EFFECTS, studies, seeds, effect=effect) for effect in EFFECTS]
        print(row(seeds, shown), flush=True)


def margins_table(studies: int) -> None:
    """Prints how often nothing is shown to be negligible."""
    print(f"\nNo difference is shown to be negligible ({', '.join(test.name for test in OF_MARGINS)})\n")
    print(f"| seeds | {' | '.join(f'{spread:g} margins' for spread in SPREADS)} |")
    for seeds in SEEDS_WITHIN:
        shown = [shares(OF_MARGINS, studies, seeds, margin=1 / spread) for spread in SPREADS]
        print(row(seeds, shown), flush=True)


def needed_table(studies: int) -> None:
    """Prints which seeds are said to be needed, and how often they show the effect."""
    print("\nSeeds needed: how often they show the effect\n")
    print(f"| test, claims | {' | '.join(f'{effect:g}' for effect in EFFECTS_NEEDING)} |")
    for test in OF_MARGINS:
        for claims in CLAIMS_NEEDING:
            cells = [needed_and_shown(test, studies, effect, claims) for effect in EFFECTS_NEEDING]
            print(row(f"{test.name}, {claims}", cells), flush=True)


def given_up_table(studies: int) -> None:
    """Prints how often a claim is given up."""
    print("\nGiven up; would have been settled; seeds saved of those given up\n")
    print(f"| test, claims, most | {' | '.join(f'{effect:g}' for effect in EFFECTS_GIVEN_UP)} |")
    for test in (LOOKED, BETS):
        for claims in CLAIMS_NEEDING[:2]:
            for most in MOST:
                cells = [given_up(test, studies, effect, claims, most) for effect in EFFECTS_GIVEN_UP]
                print(row(f"{test.name}, {claims}, {most}", cells), flush=True)


TABLES: dict[str, Callable[[int], None]] = {
    "effects": effects_table,
    "margins": margins_table,
    "needed": needed_table,
    "given-up": given_up_table,
}


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Returns the command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.power",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--studies", type=int, default=500, help="studies a cell")
    parser.add_argument("--only", nargs="+", choices=TABLES, default=[*TABLES], help="tables to print")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Prints the tables."""
    chosen = parse(arguments)
    for name in chosen.only:
        TABLES[name](chosen.studies)


if __name__ == "__main__":
    main(sys.argv[1:])
