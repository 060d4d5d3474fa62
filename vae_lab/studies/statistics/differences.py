"""Paired differences between two configurations: their mean, its interval, and whether they are chance."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special  # scipy.stats takes half a second more to import, and only the bootstrap needs it

Array = NDArray[np.float64]

EXACT_REPLICATES = 13  # up to here all 2^n signs are tried
DRAWS = 9_999  # random signs beyond
RESAMPLES = 9_999  # of the bootstrap
ROUNDING = 1e-9  # sums of the same numbers in another order differ by less


class Interval(NamedTuple):
    """An estimate between two bounds, which are infinite where the data set none."""

    estimate: float
    low: float
    high: float
    method: str  # "t", "BCa", "anytime", or "none" for infinite bounds


class Directions(NamedTuple):
    """p for differences above and below zero, each on the two-sided scale; shape (*,)."""

    up: Array
    down: Array


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Returns Student's t interval of the mean of values (n,); exact for normal values.

    Examples:
        >>> estimate, low, high, method = mean_interval([1.0, 2.0, 3.0])
        >>> f"{estimate} from {low:.3f} to {high:.3f} ({method})"
        '2.0 from -0.484 to 4.484 (t)'
    """
    x = np.asarray(values, dtype=np.float64)
    if len(x) == 0:
        return Interval(math.nan, -math.inf, math.inf, "none")
    mean = float(x.mean())
    if len(x) == 1:
        return Interval(mean, -math.inf, math.inf, "none")
    half = float(special.stdtrit(len(x) - 1, (1 + confidence) / 2)) * float(x.std(ddof=1)) / math.sqrt(len(x))
    return Interval(mean, mean - half, mean + half, "t")


def paired_interval(differences: ArrayLike, confidence: float = 0.95) -> Interval:
    """Returns the bootstrap interval (BCa) of the mean of paired differences (n,).

    Few or equal differences have Student's t interval instead.

    A bootstrap mean never leaves the range of its n differences, which misses the centre of a symmetric
    distribution with probability 2/2^n: below `least_replicates` no bootstrap interval can hold its level,
    and the t interval is returned. Above, the confidence is raised to what gives normal data Student's
    interval (Hesterberg 2015), since resampling is narrow by sqrt((n - 1) / n) and has normal instead of t
    tails.

    References:
        Efron, Better bootstrap confidence intervals, JASA 1987; Hesterberg, What teachers should know
        about the bootstrap, The American Statistician 2015.

    Examples:
        >>> estimate, low, high, method = paired_interval([0.8, 1.1, 0.9, 1.3, 1.0, 0.9])
        >>> f"{estimate:.2f} from {low:.2f} to {high:.2f} ({method})"
        '1.00 from 0.87 to 1.25 (BCa)'
    """
    x = np.asarray(differences, dtype=np.float64)
    n = len(x)
    if n < least_replicates(1 - confidence) or np.ptp(x) <= ROUNDING * np.abs(x).max():
        return mean_interval(x, confidence)
    from scipy import stats

    reach = math.sqrt(n / (n - 1)) * float(special.stdtrit(n - 1, (1 + confidence) / 2))
    bounds = stats.bootstrap(
        (x,),
        np.mean,
        confidence_level=1 - 2 * float(special.ndtr(-reach)),
        n_resamples=RESAMPLES,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Interval(float(x.mean()), float(bounds.low), float(bounds.high), "BCa")


def sign_flip(differences: ArrayLike) -> Directions:
    """Returns p of differences (*, n) that are symmetric about zero under the null hypothesis.

    Exact over all 2^n signs up to `EXACT_REPLICATES`, so never below 2/2^n; beyond over `DRAWS` random ones
    and the observed, so never below 2/(`DRAWS` + 1).

    References:
        Fisher, The Design of Experiments, 1935, section 21; Phipson and Smyth, Permutation p-values should
        never be zero, 2010.

    Examples:
        Of all 2^6 signs only the observed ones have as large a sum:

        >>> p = sign_flip([0.8, 1.1, 0.9, 1.3, 1.0, 0.9])
        >>> float(p.up), float(p.down)
        (0.03125, 1.0)
    """
    x = np.asarray(differences, dtype=np.float64)
    n = x.shape[-1]
    if n == 0:
        return Directions(np.ones(x.shape[:-1]), np.ones(x.shape[:-1]))
    observed = x.sum(-1, keepdims=True)
    sums = x @ _signs(n)
    slack = ROUNDING * np.abs(x).sum(-1, keepdims=True)
    up = (sums >= observed - slack).mean(-1)
    down = (sums <= observed + slack).mean(-1)
    return Directions(*(np.asarray(np.minimum(1.0, 2 * p), dtype=np.float64) for p in (up, down)))


@cache
def _signs(n: int) -> Array:
    """Signs (n, draws), the observed ones (all +1) among them."""
    if n <= EXACT_REPLICATES:
        bits = np.arange(2**n) >> np.arange(n)[:, None] & 1
        return np.asarray(1.0 - 2.0 * bits, dtype=np.float64)
    drawn = 2.0 * np.random.default_rng(0).integers(0, 2, (n, DRAWS)) - 1.0
    return np.concatenate([np.ones((n, 1)), drawn], axis=1)


def two_sided(p: Directions) -> Array:
    """Returns the p of the null hypothesis against both directions."""
    return np.minimum(p.up, p.down)


def probability_of_better(differences: ArrayLike) -> float:
    """Returns the share of replicates above zero, ties counted half: how often one pair would say so."""
    x = np.asarray(differences, dtype=np.float64)
    return float((np.sign(x).mean() + 1) / 2) if len(x) else math.nan


def least_replicates(level: float, contrasts: int = 1) -> int:
    """Returns the fewest replicates whose sign-flip p, at least 2/2^n, can pass Holm's first step.

    Examples:
        >>> least_replicates(0.05), least_replicates(0.05, contrasts=11)
        (6, 9)
    """
    return max(2, math.ceil(math.log2(2 * contrasts / level) - ROUNDING))


def replicates_for_power(
    differences: ArrayLike, level: float, contrasts: int = 1, power: float = 0.8
) -> float:
    """Returns how many replicates would show an effect of the size seen (normal approximation); inf for none.

    Args:
        differences: paired differences (n,), two or more.
        level: of all contrasts together.
        contrasts: among which the level is shared out.
        power: probability of showing the effect.
    """
    x = np.asarray(differences, dtype=np.float64)
    least = least_replicates(level, contrasts)
    mean, spread = abs(float(x.mean())), float(x.std(ddof=1))
    if mean <= ROUNDING * np.abs(x).max(initial=0.0):
        return math.inf
    quantiles = float(special.ndtri(power) - special.ndtri(level / contrasts / 2))
    return max(least, math.ceil((quantiles * spread / mean) ** 2))
