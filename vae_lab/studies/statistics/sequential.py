"""Tests that stay valid however often one looks: bets on the signs of paired differences."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vae_lab.studies.statistics.differences import Array, Directions, Interval, Test, two_sided
from vae_lab.studies.statistics.power import least_replicates

STAKES = (0.5, 1.0, 2.0, 4.0)  # slopes of the bets, against the differences' root mean square so far
GRID = 2001  # centres tried for a confidence sequence
GROWTH = 1.25  # of the number of replicates from one round to the next


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


ANYTIME = Test(
    "bets on signs",
    lambda pair: anytime_sign_flip(pair.differences),
    lambda pair, confidence: confidence_sequence(pair.differences, confidence),
    paired=True,
)


def next_round(done: int, most: int, level: float, contrasts: int = 1) -> int:
    """Returns the replicates after the next round: first what could settle anything, then a quarter more.

    Args:
        done: replicates so far.
        most: never more than these.
        level: of all contrasts together.
        contrasts: among which it is shared out.

    Examples:
        >>> next_round(0, 40, 0.05), next_round(6, 40, 0.05), next_round(35, 40, 0.05)
        (6, 8, 40)
    """
    first = least_replicates(level, contrasts)
    while np.min(anytime_sign_flip(np.ones(first)).up) > level / contrasts:
        first += 1
    return min(most, max(first, math.ceil(done * GROWTH), done + 1))
