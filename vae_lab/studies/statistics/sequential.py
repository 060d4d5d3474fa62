"""Tests that stay valid while replicates are added: bets on signs, and swaps at looks fixed beforehand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vae_lab.studies.statistics.differences import (
    Array,
    Directions,
    Interval,
    Pair,
    Test,
    swap,
    swap_floor,
    swap_interval,
    two_sided,
)

STAKES = (0.5, 1.0, 2.0, 4.0)  # slopes of the bets, against the differences' root mean square so far
GRID = 2001  # centres tried for a confidence sequence
GROWTH = 1.25  # of the number of replicates from one round to the next
# Replicates at which unpaired samples are looked at, and the shares of the level that the looks have: six are
# the fewest that can settle eleven claims, by half of it.
LOOKS = (6, 8, 10, 13, 17, 22, 28, 35, 44)
SHARES = (0.5, *[0.5 / (len(LOOKS) - 1)] * (len(LOOKS) - 1))


class Wealth(NamedTuple):
    """Wealth after each replicate of bets on differences above and below zero; shape (*, n)."""

    up: Array
    down: Array


def wealth(differences: ArrayLike) -> Wealth:
    """Returns the wealth from 1 by betting on the signs of differences (*, n) in their order.

    With r_i the root mean square of the first i differences, a bet of slope c multiplies its wealth by
    1 + tanh(c d_i / r_i); given |d_i| and the past, a symmetric d_i makes that 1 on average, so wealth is a
    nonnegative martingale under the null hypothesis. Wealth is the mean over `STAKES`.

    References:
        Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting, 2024; Ramdas et
        al., Admissible anytime-valid sequential inference must rely on nonnegative martingales, 2020.
    """
    d = np.asarray(differences, dtype=np.float64)
    r = np.sqrt(np.cumsum(d**2, axis=-1) / np.arange(1, d.shape[-1] + 1))
    ratio = np.divide(d, r, out=np.zeros_like(d), where=r > 0)
    bets = np.tanh(np.multiply.outer(np.asarray(STAKES), ratio))
    return Wealth(np.cumprod(1 + bets, axis=-1).mean(0), np.cumprod(1 - bets, axis=-1).mean(0))


def anytime_sign_flip(differences: ArrayLike) -> Directions:
    """Returns p as `sign_flip` does, but valid at any stopping time: 2 / the largest wealth so far (Ville).

    The order of the last axis must be fixed beforehand, as that of seeds 0, 1, 2, ... is.

    Examples:
        >>> [round(float(anytime_sign_flip([1.0] * n).up), 3) for n in (5, 6)]
        [0.094, 0.05]
    """
    x = np.asarray(differences, dtype=np.float64)
    if x.shape[-1] == 0:
        return Directions(np.ones(x.shape[:-1]), np.ones(x.shape[:-1]))
    up, down = wealth(x)
    return Directions(np.minimum(1.0, 2 / up.max(-1)), np.minimum(1.0, 2 / down.max(-1)))


def confidence_sequence(differences: ArrayLike, confidence: float = 0.95) -> Interval:
    """Returns an interval of the centre of symmetric differences (n,), right at every n at once.

    It is right with probability `confidence`, and spans the centres that the anytime test does not reject,
    tried on a grid.
    """
    x = np.asarray(differences, dtype=np.float64)
    if len(x) == 0:
        return Interval(math.nan, -math.inf, math.inf, "none")
    mean, span = float(x.mean()), float(np.ptp(x))
    margin = span or max(abs(mean), 1.0)
    centres = np.linspace(x.min() - 2 * margin, x.max() + 2 * margin, GRID)
    p = anytime_sign_flip(x - centres[:, None])
    inside = centres[two_sided(p) > 1 - confidence]
    if len(inside) == 0 or inside[0] == centres[0] or inside[-1] == centres[-1]:
        return Interval(mean, -math.inf, math.inf, "none")
    step = centres[1] - centres[0]
    return Interval(mean, float(inside[0] - step), float(inside[-1] + step), "anytime")


def anytime_swap(pair: Pair) -> Directions:
    """Returns p as `swap` does, but valid at any stopping time: the smallest over `LOOKS`, each by its share.

    One of the looks has a p within its share of the level with a probability of at most their sum, the level,
    whichever of them are taken.

    References:
        Pocock, Group sequential methods in the design and analysis of clinical trials, Biometrika 1977;
        Lan and DeMets, Discrete sequential boundaries for clinical trials, Biometrika 1983.

    Examples:
        >>> high, low = np.arange(6.0) + 10, np.arange(6.0)
        >>> p = [anytime_swap(Pair(high[:n], low[:n])) for n in (5, 6)]
        >>> [round(float(directions.up), 4) for directions in p]
        [1.0, 0.0043]
    """
    shape, n = pair.differences.shape[:-1], pair.differences.shape[-1]
    up, down = np.ones(shape), np.ones(shape)
    for look, share in zip(LOOKS, SHARES, strict=True):
        if look <= n:
            p = swap(Pair(pair.first[..., :look], pair.second[..., :look]))
            up, down = np.minimum(up, p.up / share), np.minimum(down, p.down / share)
    return Directions(up, down)


def swap_sequence(pair: Pair, confidence: float = 0.95) -> Interval:
    """Returns the shifts of two samples (n,) that no look of `anytime_swap` rejects."""
    mean, n = float(pair.differences.mean()) if pair.differences.size else math.nan, len(pair.differences)
    inside = [
        swap_interval(Pair(pair.first[:look], pair.second[:look]), 1 - (1 - confidence) * share)
        for look, share in zip(LOOKS, SHARES, strict=True)
        if look <= n
    ]
    low = max((interval.low for interval in inside if interval.method == "inverted"), default=-math.inf)
    high = min((interval.high for interval in inside if interval.method == "inverted"), default=math.inf)
    if math.isinf(low) or low > high:
        return Interval(mean, -math.inf, math.inf, "none")
    return Interval(mean, low, high, "anytime")


def _swap_floor(n: int) -> float:
    at_looks = (swap_floor(look) / share for look, share in zip(LOOKS, SHARES, strict=True) if look <= n)
    return min(at_looks, default=1.0)


BETS = Test(
    "bets on signs",
    lambda pair: anytime_sign_flip(pair.differences),
    lambda pair, confidence: confidence_sequence(pair.differences, confidence),
    paired=True,
    floor=lambda n: float(anytime_sign_flip(np.ones(n)).up),
)
LOOKED = Test("swaps at looks", anytime_swap, swap_sequence, paired=False, floor=_swap_floor, looks=LOOKS)


def anytime(test: Test, level: float, contrasts: int = 1) -> Test:
    """Returns the test to take in the place of one, where replicates are added while looking.

    Bets need no looks that are fixed beforehand, but pairs: they are taken for samples too where the looks
    cannot reach the level over so many contrasts.

    Examples:
        >>> from vae_lab.studies.statistics import PAIRED, UNPAIRED
        >>> [anytime(test, 0.05, 11).name for test in (PAIRED, UNPAIRED)]
        ['bets on signs', 'swaps at looks']
    """
    reached = not test.paired and _swap_floor(LOOKS[-1]) <= level / contrasts
    return LOOKED if reached else BETS


def next_look(done: int, most: int, tests: Sequence[Sequence[int]] = ((),)) -> int | None:
    """Returns the replicates after the next round, a quarter more at least; None if `most` leaves no look.

    It is the soonest look of one of the tests that is as far ahead, else the last of any that `most` leaves.

    Args:
        done: Replicates so far.
        most: Of all replicates.
        tests: The looks of each; one that looks at any number, as bets do, is taken along at `LOOKS`.

    Examples:
        >>> next_look(6, 99), next_look(9, 99), next_look(44, 99), next_look(44, 50), next_look(50, 50)
        (8, 13, 55, 50, None)
        >>> pairs_of_seeds = [2 * look for look in LOOKS]
        >>> next_look(10, 12, [LOOKS, pairs_of_seeds]), next_look(10, 12, [LOOKS])
        (12, None)
    """
    least = math.ceil(done * GROWTH)
    at_any = (*LOOKS, max(least, LOOKS[-1]), most)
    left = [look for looks in tests for look in looks or at_any if done < look <= most]
    return min((look for look in left if look >= least), default=max(left, default=None))
