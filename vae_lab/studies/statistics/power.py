"""How many replicates a test needs: at least, and probably."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import special

from vae_lab.studies.statistics.differences import PAIRED, ROUNDING, Pair, Test

MOST = 100  # replicates that are tried
RANGE = 0.8  # probability that the range of replicates needed holds the number that is


class Needed(NamedTuple):
    """Replicates that would show an effect of the size seen, and the range that its noise leaves open."""

    estimate: float
    low: float
    high: float


def least_replicates(level: float, contrasts: float = 1, test: Test = PAIRED) -> float:
    """Returns the fewest replicates whose smallest p can pass Holm's first step; inf where none's can.

    A test by random rearrangements has a smallest p whatever the number, so that thousands of contrasts at
    once are beyond it.

    Examples:
        >>> least_replicates(0.05), least_replicates(0.05, contrasts=11)
        (6, 9)
        >>> from vae_lab.studies.statistics import UNPAIRED
        >>> least_replicates(0.05, test=UNPAIRED), least_replicates(0.05, contrasts=11, test=UNPAIRED)
        (4, 6)
        >>> least_replicates(0.05, contrasts=10_000)
        inf
    """
    for n in range(2, MOST):
        if test.floor(n) <= level / contrasts * (1 + ROUNDING):
            return n
    return math.inf


def replicates_for_power(
    pair: Pair, level: float, contrasts: float = 1, power: float = 0.8, *, test: Test = PAIRED
) -> Needed:
    """Returns how many replicates would show an effect of the size seen; inf for none.

    With z the sum of the normal quantiles of power and level, n = (z s / m)^2 + z_level^2 / 2 for the mean m
    and the standard deviation s of paired differences: the last term allows for s being estimated. Two
    samples estimate it twice, and add half as much. The range is that of a central 80 % interval of m / s, so
    it is wide: where 33 are needed, ten replicates estimate 10 to 233.

    Args:
        pair: values (n,) of two or more replicates each.
        level: of all contrasts together, on the two-sided scale.
        contrasts: among which the level is shared out.
        power: probability of showing the effect.
        test: by which the effect is to be shown.

    References:
        Guenther, Sample size formulas for normal theory t tests, The American Statistician 1981.

    Examples:
        >>> seen = Pair(np.array([1.0, 3.0, 2.0, 4.0, 0.0, 2.0, 3.0, 1.0]), np.zeros(8))
        >>> replicates_for_power(seen, 0.05)
        Needed(estimate=6, low=6, high=15)
    """
    x, least = pair.differences, least_replicates(level, contrasts, test)
    mean, spread = abs(float(x.mean())), float(x.std(ddof=1))
    if mean <= ROUNDING * np.abs(x).max(initial=0.0):
        return Needed(math.inf, least, math.inf)
    if spread <= ROUNDING * mean:
        return Needed(least, least, least)
    tail = -float(special.ndtri(level * test.share / contrasts / 2))
    quantiles, extra = float(special.ndtri(power)) + tail, tail**2 / (2 if test.paired else 4)

    def replicates(effect: float) -> float:
        return max(least, math.ceil((quantiles / effect) ** 2 + extra)) if effect > 0 else math.inf

    smallest, largest = _plausible(mean / spread, len(x), (len(x) - 1) * (1 if test.paired else 2))
    seen = replicates(mean / spread)
    return Needed(seen, min(replicates(largest), seen), replicates(smallest))


def _plausible(effect: float, n: int, freedom: int) -> tuple[float, float]:
    """The ends of the central interval of a standardized effect that n replicates estimated."""
    root = math.sqrt(n)
    low, high = (
        float(special.nctdtrinc(freedom, share, effect * root)) / root
        for share in ((1 + RANGE) / 2, (1 - RANGE) / 2)
    )
    return low, high
