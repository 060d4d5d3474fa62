"""How many replicates a test needs: at least, and probably."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
from scipy import special

from vae_lab.studies.statistics.differences import (
    EXACT_PAIRED,
    EXACT_UNPAIRED,
    PAIRED,
    ROUNDING,
    UNPAIRED,
    Array,
    Pair,
    Test,
    swap_floor,
)
from vae_lab.studies.statistics.sequential import BETS, LOOKED, LOOKS, SHARES, STAKES, wealth

MOST = 100  # replicates that are tried
RANGE = 0.8  # probability that the range of replicates needed holds the number that is
FAIR_CHANCE = 0.5  # probability of a verdict, were the effect as large as may be, that a claim goes on for
SIMULATED = {BETS.name: 500, LOOKED.name: 2000}  # studies: power is known to 0.02 and 0.01
TRIED = (64, 256, 1024)  # replicates up to which bets are followed, as far as it takes


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

    It is the number at which the test shows normal differences of mean m and standard deviation s, that of
    two samples without regard to who is paired with whom: for sign flips and swaps by a formula in m / s, for
    bets and for swaps at looks by simulation, whose number is always one of the looks. The range is that of a
    central 80 % interval of m / s, so it is wide: where 33 are needed, ten replicates estimate 10 to 233.

    Args:
        pair: values (n,) of two or more replicates each.
        level: of all contrasts together, on the two-sided scale.
        contrasts: among which the level is shared out.
        power: probability of showing the effect.
        test: by which the effect is to be shown.

    Examples:
        >>> seen = Pair(np.array([1.0, 3.0, 2.0, 4.0, 0.0, 2.0, 3.0, 1.0]), np.zeros(8))
        >>> replicates_for_power(seen, 0.05), replicates_for_power(seen, 0.05, test=BETS)
        (Needed(estimate=7, low=6, high=15), Needed(estimate=10, low=7, high=26))
    """
    x, least = pair.differences, least_replicates(level, contrasts, test)
    mean = abs(float(x.mean()))
    spread, freedom = _spread(pair, test)
    if mean <= ROUNDING * np.abs(x).max(initial=0.0):
        return Needed(math.inf, least, math.inf)
    if spread <= ROUNDING * mean:
        return Needed(least, least, least)

    def replicates(effect: float) -> float:
        return max(least, SHOWN[test.name](effect, level / contrasts, power)) if effect > 0 else math.inf

    smallest, largest = _plausible(mean / spread, len(x), freedom)
    seen = replicates(mean / spread)
    return Needed(seen, min(replicates(largest), seen), replicates(smallest))


def _spread(pair: Pair, test: Test) -> tuple[float, float]:
    """Returns the standard deviation of a pair's differences, and its degrees of freedom.

    Of samples it is the root of both variances' sum, with the degrees of freedom of Welch's test: there is
    nothing in who is paired with whom.
    """
    x = pair.differences
    if test.paired:
        return float(x.std(ddof=1)), len(x) - 1
    variances = np.array([np.broadcast_to(values, x.shape).var(ddof=1) for values in pair])
    total, squares = float(variances.sum()), float((variances**2).sum())
    return math.sqrt(total), (len(x) - 1) * total**2 / squares if squares else len(x) - 1


def next_replicates(done: int, test: Test) -> float:
    """Returns after how many replicates a test can say more than after so many; inf after its last look.

    Examples:
        >>> next_replicates(8, BETS), next_replicates(8, LOOKED), next_replicates(44, LOOKED)
        (9, 10, inf)
    """
    return next((look for look in test.looks if look > done), math.inf) if test.looks else done + 1


def _formula(effect: float, level: float, power: float, samples: int) -> int:
    """Returns (z / effect)^2 + z_level^2 / 2, where z sums the normal quantiles of power and level.

    The last term allows for an estimated standard deviation; two samples estimate it twice, and add half.

    References:
        Guenther, Sample size formulas for normal theory t tests, The American Statistician 1981.
    """
    tail = -float(special.ndtri(level / 2))
    return math.ceil(((float(special.ndtri(power)) + tail) / effect) ** 2 + tail**2 / (2 * samples))


def _by_flips(effect: float, level: float, power: float) -> float:
    n = _formula(effect, level, power, 1)
    # Where one sign pattern only is rare enough, all differences must agree.
    while n <= EXACT_PAIRED and 2 * PAIRED.floor(n) > level and float(special.ndtr(effect)) ** n < power:
        n += 1
    return n


def _by_swaps(effect: float, level: float, power: float) -> float:
    n = _formula(effect, level, power, 2)
    # Where one way to part the values only is rare enough, the samples must not overlap.
    while n <= EXACT_UNPAIRED and 2 * swap_floor(n) > level and _apart(effect, n) < power:
        n += 1
    return n


def _apart(effect: float, n: int) -> float:
    """The probability that two normal samples of n do not overlap, of which m / s is `effect`."""
    lowered = special.ndtri(((np.arange(1000) + 0.5) / 1000) ** (1 / n))  # the largest of the lower sample
    return float((special.ndtr(math.sqrt(2) * effect - lowered) ** n).mean())


def _by_bets(effect: float, level: float, power: float) -> float:
    effect = round(effect, 2)  # so that few are simulated
    if not _grows(effect):
        return math.inf
    for most in TRIED:
        reached = _wealth_reached(effect, power, most) >= 2 / level
        if reached.any():
            return int(reached.argmax()) + 1
    return math.inf


def _grows(effect: float) -> bool:
    """Whether bets of some slope win in the long run: they lose on effects below 0.24."""
    quantiles = special.ndtri((np.arange(1000) + 0.5) / 1000) + effect
    ratio = quantiles / math.sqrt(1 + effect**2)
    return any(float(np.log1p(np.tanh(slope * ratio)).mean()) > 0 for slope in STAKES)


@lru_cache(maxsize=500)
def _wealth_reached(effect: float, power: float, most: int) -> Array:
    """The wealth, (most,), that a share `power` of simulated studies has reached after each replicate."""
    differences = np.random.default_rng(0).normal(size=(SIMULATED[BETS.name], most)) + effect
    largest = np.maximum.accumulate(wealth(differences).up, axis=-1)
    return np.asarray(np.quantile(largest, 1 - power, axis=0, method="lower"))


def _at_looks(effect: float, level: float, power: float) -> float:
    means, errors, overlaps = _drawn_samples()
    looks = np.array(LOOKS)
    floors = np.array([swap_floor(look) for look in LOOKS])
    passing = np.floor(level * np.array(SHARES) / floors * (1 + ROUNDING))  # rearrangements, with the own
    tails = np.maximum(passing - 0.5, 0.5) * floors / 2
    clear = (means + effect) / errors > -special.stdtrit(2 * (looks - 1), tails)
    # Where one rearrangement only is rare enough, the samples must not overlap.
    alone = (passing == 1) & (looks <= EXACT_UNPAIRED)
    shown = np.where(alone, effect > overlaps, clear) & (passing > 0)
    enough = np.logical_or.accumulate(shown, axis=1).mean(0) >= power
    return LOOKS[int(enough.argmax())] if enough.any() else math.inf


@cache
def _drawn_samples() -> tuple[Array, Array, Array]:
    """Simulated pairs of samples that differ by nothing: at each look, (studies, looks), what they would say.

    These are the differences of their means, whose own have a standard deviation of 1, the standard errors,
    and by how much the samples overlap.
    """
    drawn = np.random.default_rng(0).normal(size=(2, SIMULATED[LOOKED.name], LOOKS[-1])) / math.sqrt(2)
    samples = [drawn[..., :look] for look in LOOKS]
    means = [first.mean(-1) - second.mean(-1) for first, second in samples]
    errors = [np.sqrt(both.var(-1, ddof=1).sum(0) / both.shape[-1]) for both in samples]
    overlaps = [second.max(-1) - first.min(-1) for first, second in samples]
    return np.stack(means, -1), np.stack(errors, -1), np.stack(overlaps, -1)


SHOWN: dict[str, Callable[[float, float, float], float]] = {
    PAIRED.name: _by_flips,
    UNPAIRED.name: _by_swaps,
    BETS.name: _by_bets,
    LOOKED.name: _at_looks,
}


def _plausible(effect: float, n: int, freedom: float) -> tuple[float, float]:
    """The ends of the central interval of a standardized effect that n replicates estimated."""
    root = math.sqrt(n)
    low, high = (
        float(special.nctdtrinc(freedom, share, effect * root)) / root
        for share in ((1 + RANGE) / 2, (1 - RANGE) / 2)
    )
    return low, high
