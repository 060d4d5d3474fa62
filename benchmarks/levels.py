"""How often a study has a wrong verdict, at a level of 0.05: a table of docs/statistics.md.

    python -m benchmarks.levels [--studies 2000]

Each row is a truth of which some verdicts are wrong, of one claim or of several, each column a test. For the
last two, seeds are added while looking: bets are looked at after every seed, swaps at all their looks.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vae_lab.studies import claims
from vae_lab.studies.claims import NEGLIGIBLE, REFUTED, SUPPORTED
from vae_lab.studies.claims.contrasts import contrast
from vae_lab.studies.claims.sharing import settled
from vae_lab.studies.claims.wording import Wording
from vae_lab.studies.statistics import BETS, LOOKED, PAIRED, UNPAIRED, Array, Test

SETTLED = frozenset({SUPPORTED, REFUTED, NEGLIGIBLE})
Noise = Callable[[np.random.Generator, tuple[int, ...]], Array]
SEEDS: dict[Test, int] = {PAIRED: 10, UNPAIRED: 10, BETS: 30, LOOKED: 22}


def normal(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Draws values whose standard deviation is a fifth of the margin."""
    return 0.2 * generator.normal(size=shape)


def half(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Draws values whose standard deviation is half the margin: leads are seen, and sizes are not clear."""
    return 0.5 * generator.normal(size=shape)


def skewed(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Draws exponential values in both groups."""
    return generator.exponential(size=shape)


def unequal(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Draws values of which the first group's are three times as wide."""
    values = generator.normal(size=shape)
    values[0] *= 3.0
    return values


class Truth(NamedTuple):
    """A claim, the means for which it is hard to judge, and the verdicts that are wrong then."""

    claim: Mapping[str, Any]
    means: Sequence[Sequence[float]]  # (groups, axis)
    wrong: frozenset[str]
    noise: Noise = normal


def _claim(expect: str, margin: float | None = 1.0, **keys: Any) -> dict[str, Any]:
    declared = {"id": "X", "text": "a claim", "metric": "test/loss", "expect": expect, **keys}
    return declared if margin is None else {**declared, "margin": margin}


GROUPS: dict[str, Any] = {"of": {"model": "cvae"}, "than": {"model": "vae"}}
ALONG: dict[str, Any] = {"along": "model.layers"}
PLAIN = _claim("better", None, **GROUPS)
LEAD, EQUAL = _claim("better", **GROUPS), _claim("equal", **GROUPS)
RISE, INSIDE = _claim("increasing", **ALONG), _claim("best_inside", **ALONG)
GAP = _claim("smaller_spread", **ALONG, **GROUPS)
TREND = {**_claim("same_trend", **ALONG), "of": {"model": "cvae"}, "as": {"model": "vae"}}
AHEAD = Truth(LEAD, [[0.0], [1.0]], SETTLED - {SUPPORTED})
ALIKE = Truth(LEAD, [[0.0], [0.0]], SETTLED - {NEGLIGIBLE})
ONE = {
    "nothing differs, normal": Truth(PLAIN, [[0.0], [0.0]], SETTLED),
    "nothing differs, exponential": Truth(PLAIN, [[0.0], [0.0]], SETTLED, skewed),
    "nothing differs, one three times as wide": Truth(PLAIN, [[0.0], [0.0]], SETTLED, unequal),
    "better: ahead by the margin": AHEAD,
    "equal: the margin apart": Truth(EQUAL, [[1.0], [0.0]], SETTLED),
    "increasing: a step of 0, one of the margin": Truth(RISE, [[0.0, 0.0, 1.0]], SETTLED - {REFUTED}),
    "increasing: two steps of the margin": Truth(RISE, [[0.0, 1.0, 2.0]], SETTLED - {SUPPORTED}),
    "best_inside: the margin ahead of both ends": Truth(INSIDE, [[1.0, 0.0, 1.0]], SETTLED - {SUPPORTED}),
    "best_inside: no better than one end": Truth(INSIDE, [[0.0, 0.0, 1.0]], SETTLED - {REFUTED}),
    "smaller_spread: gaps the margin apart": Truth(GAP, [[0.0, 1.0], [0.0, 2.0]], SETTLED - {SUPPORTED}),
    "smaller_spread: equal gaps": Truth(GAP, [[0.0, 2.0], [0.0, 2.0]], SETTLED - {NEGLIGIBLE}),
    "same_trend: none, and one of the margin": Truth(TREND, [[0.0, 0.0], [0.0, 1.0]], SETTLED),
}
STUDIES: dict[str, tuple[Truth, ...]] = {
    **{name: (truth,) for name, truth in ONE.items()},
    "eleven claims, each ahead by the margin": (AHEAD,) * 11,
    "six of them, noise of half a margin, and five of nothing": (
        *[AHEAD._replace(noise=half)] * 6,
        *[ALIKE._replace(noise=half)] * 5,
    ),
}


def wrong_verdicts(truths: Sequence[Truth], test: Test, seeds: int, studies: int) -> int:
    """Returns in how many studies any verdict is wrong.

    Args:
        truths: What is so of each claim, and what must not be said of it.
        test: By which the claims are judged.
        seeds: Runs of each configuration; claims share none.
        studies: How many are drawn.
    """
    declared = [claims.parse([truth.claim])[0] for truth in truths]
    generator, wrong = np.random.default_rng(0), 0
    for _ in range(studies):
        evidence = []
        for truth, claim in zip(truths, declared, strict=True):
            means = np.asarray(truth.means)
            losses = means[:, None] + truth.noise(generator, (len(means), seeds, means.shape[1]))
            wording = Wording(claim, ["2", "3", "4"][: means.shape[1]])
            evidence.append(contrast(claim, losses, wording, test))
        results = settled(evidence, [claim.level for claim in declared])
        wrong += any(result.verdict in truth.wrong for result, truth in zip(results, truths, strict=True))
    return wrong


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Returns the command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.levels",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--studies", type=int, default=2000, help="studies a cell")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Prints the table."""
    studies = parse(arguments).studies
    print(f"Wrong verdicts of {studies:,} studies, %\n")
    print(f"| truth | {' | '.join(f'{test.name}, {seeds} seeds' for test, seeds in SEEDS.items())} |")
    print(f"| --- |{' ---: |' * len(SEEDS)}")
    for name, truths in STUDIES.items():
        shares = [
            100 * wrong_verdicts(truths, test, seeds, studies) / studies for test, seeds in SEEDS.items()
        ]
        print(f"| {name} | {' | '.join(f'{share:.1f}' for share in shares)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
