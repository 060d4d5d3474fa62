"""The difference between two configurations: tests by rearrangement, and the intervals that invert them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cache
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special  # scipy.stats takes half a second more to import

Array = NDArray[np.float64]

EXACT_PAIRED = 13  # replicates up to which all 2^n signs are tried
EXACT_UNPAIRED = 8  # and all C(2n, n) ways to part two samples of n
DRAWS = 19_999  # random rearrangements beyond
PIECES = 20  # in which these are made, so that their making takes little memory
ARCHITECTURE = "model"  # the key and the group of keys that set which weights a network has
ROUNDING = 1e-9  # sums of the same numbers in another order differ by less


class Interval(NamedTuple):
    """An estimate between two bounds, which are infinite where the data set none."""

    estimate: float
    low: float
    high: float
    method: str  # "inverted" for that of a test, "t", "anytime", or "none" for infinite bounds


class Directions(NamedTuple):
    """p for differences above and below zero, each on the two-sided scale; shape (*,)."""

    up: Array
    down: Array


class Margins(NamedTuple):
    """p for differences within a margin, above it and below it, each on the two-sided scale; shape (*,)."""

    inside: Array
    above: Array
    below: Array

    @property
    def beyond(self) -> Array:
        """P for differences above the margin or below it."""
        return np.minimum(self.above, self.below)


class Pair(NamedTuple):
    """Values of two configurations by replicate, both (*, n); the difference is that of their means."""

    first: Array
    second: Array

    @property
    def differences(self) -> Array:
        """Those of each replicate, (*, n)."""
        return np.asarray(self.first - self.second, dtype=np.float64)

    @property
    def swapped(self) -> Pair:
        """The pair with the opposite difference."""
        return Pair(self.second, self.first)

    def less(self, margin: float) -> Pair:
        """Returns the pair with a difference that is smaller by `margin`."""
        return Pair(self.first - margin, self.second)


class Test(NamedTuple):
    """A test of the difference of a pair, and the interval of what it does not reject."""

    name: str
    directions: Callable[[Pair], Directions]
    interval: Callable[[Pair, float], Interval]
    paired: bool
    floor: Callable[[int], float]  # the smallest p of n replicates, on the two-sided scale
    looks: tuple[int, ...] = ()  # the numbers of replicates at which it looks; empty: at any


class _Rearrangements(NamedTuple):
    """What the test compares the data with, as weights of the values.

    Each column weighs the values so that they sum to the shift of the first sample at which rearranged and
    seen values are equally far apart; `same` rearrangements leave them as they are.
    """

    weights: Array  # (values, rearrangements)
    same: int


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
    return _student(mean, float(x.std(ddof=1)) / math.sqrt(len(x)), len(x) - 1, confidence)


def sign_flip(differences: ArrayLike) -> Directions:
    """Returns p of differences (*, n) that are symmetric about zero under the null hypothesis.

    Exact over all 2^n signs up to `EXACT_PAIRED`, so never below 2/2^n; beyond over `DRAWS` random ones
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
    return _directions(x, _signs(x.shape[-1]))


def sign_flip_interval(differences: ArrayLike, confidence: float = 0.95) -> Interval:
    """Returns the centres of differences (n,) that `sign_flip` does not reject.

    Where no centre can be rejected, for want of replicates, Student's t interval is returned.

    References:
        Hartigan, Using subsample values as typical values, JASA 1969.

    Examples:
        >>> estimate, low, high, method = sign_flip_interval([0.8, 1.1, 0.9, 1.3, 1.0, 0.9])
        >>> f"{estimate:.2f} from {low:.2f} to {high:.2f} ({method})"
        '1.00 from 0.80 to 1.30 (inverted)'
    """
    x = np.asarray(differences, dtype=np.float64)
    inverted = _inverted(x, _signs(len(x)), float(x.mean()) if len(x) else math.nan, confidence)
    return inverted if inverted.method != "none" else mean_interval(x, confidence)


def swap(pair: Pair) -> Directions:
    """Returns p of two unpaired samples, each (*, n), that have one distribution under the null hypothesis.

    Exact over all C(2n, n) ways to part their values into two samples up to `EXACT_UNPAIRED` replicates,
    beyond over `DRAWS` random ones and the observed. Since the samples are of one size, a studentized
    statistic would give the same p.

    References:
        Fisher, The Design of Experiments, 1935; Chung and Romano, Exact and asymptotically robust
        permutation tests, Annals of Statistics 2013.

    Examples:
        >>> p = swap(Pair(np.array([5.0, 6.0, 7.0, 8.0]), np.array([1.0, 2.0, 3.0, 4.0])))
        >>> round(float(p.up), 4) == round(2 / 70, 4), float(p.down)
        (True, 1.0)
    """
    return _directions(_both(pair), _partings(pair.differences.shape[-1]))


def swap_interval(pair: Pair, confidence: float = 0.95) -> Interval:
    """Returns the shifts of two samples of n that `swap` does not reject; Welch's t for too small ones."""
    n, estimate = len(pair.differences), float(pair.differences.mean())
    inverted = _inverted(_both(pair), _partings(n), estimate, confidence)
    if inverted.method != "none" or n < 2:
        return inverted
    parts = np.array([pair.first.var(ddof=1), pair.second.var(ddof=1)]) / n
    squares = float((parts**2).sum())
    freedom = (n - 1) * float(parts.sum()) ** 2 / squares if squares else 1.0
    return _student(estimate, math.sqrt(parts.sum()), freedom, confidence)


def swap_floor(n: int) -> float:
    """Returns the smallest p of two unpaired samples of n, on the two-sided scale."""
    return 2 / (math.comb(2 * n, n) if n <= EXACT_UNPAIRED else DRAWS + 1)


PAIRED = Test(
    "sign flips",
    lambda pair: sign_flip(pair.differences),
    lambda pair, confidence: sign_flip_interval(pair.differences, confidence),
    paired=True,
    floor=lambda n: 2 / (2**n if n <= EXACT_PAIRED else DRAWS + 1),
)
UNPAIRED = Test("swaps between samples", swap, swap_interval, paired=False, floor=swap_floor)


def chosen_test(keys: Iterable[str]) -> Test:
    """Returns the test of configurations that differ in these parameters, chosen before any value is seen.

    Runs of one seed share first weights, shuffles and noise where they are of one architecture: they are
    paired. Those of other architectures share the order of the images, which correlates their results by
    about nothing (-0.03 on average in the published runs): they are compared as samples.

    Examples:
        >>> chosen_test(["optimizer.lr"]).name, chosen_test(["model.layers", "optimizer.lr"]).name
        ('sign flips', 'swaps between samples')
    """
    return UNPAIRED if any(map(is_of_architecture, keys)) else PAIRED


def is_of_architecture(key: str) -> bool:
    """Returns whether a parameter sets which weights a network has."""
    return key == ARCHITECTURE or key.startswith(f"{ARCHITECTURE}.")


def within(pair: Pair, margin: float, test: Test) -> Array:
    """Returns p, shape (*,), of a difference that is as large as a margin or larger, in either direction.

    The larger p of two one-sided tests (TOST), doubled as every p here: it is at or below the level exactly
    where the interval at 1 - level lies within the margin. Where the difference is the margin, it errs at
    half the level, and the other half is left for a wrong sign of what a claim says besides.

    References:
        Schuirmann, A comparison of the two one-sided tests procedure, 1987; Lakens, Equivalence tests, 2017.

    Examples:
        >>> pair = Pair(np.linspace(-0.4, 0.4, 8), np.zeros(8))
        >>> float(within(pair, 1.0, PAIRED)), float(within(pair, 0.1, PAIRED)) > 0.05
        (0.0078125, True)
    """
    return beside(pair, margin, test).inside


def beside(pair: Pair, margin: float, test: Test) -> Margins:
    """Returns p of where a difference lies: within a margin (see `within`), above it or below it."""
    upper, lower = (test.directions(pair.less(end)) for end in (margin, -margin))
    return Margins(np.asarray(np.maximum(upper.down, lower.up)), upper.up, lower.down)


def two_sided(p: Directions) -> Array:
    """Returns the p of the null hypothesis against both directions."""
    return np.minimum(p.up, p.down)


def probability_of_better(differences: ArrayLike) -> float:
    """Returns the share of replicates above zero, ties counted half: how often one pair would say so."""
    x = np.asarray(differences, dtype=np.float64)
    return float((np.sign(x).mean() + 1) / 2) if len(x) else math.nan


def is_skewed(differences: ArrayLike, level: float = 0.05) -> bool:
    """Returns whether differences (n,) are shown to be skewed; fewer than eight never are.

    References:
        D'Agostino, Transformation to normality of the null distribution of g1, Biometrika 1970.
    """
    x = np.asarray(differences, dtype=np.float64)
    if len(x) < 8 or np.ptp(x) <= ROUNDING * np.abs(x).max():
        return False
    from scipy import stats

    return bool(stats.skewtest(x).pvalue <= level)


def _student(mean: float, error: float, freedom: float, confidence: float) -> Interval:
    half = float(special.stdtrit(freedom, (1 + confidence) / 2)) * error
    return Interval(mean, mean - half, mean + half, "t")


def _both(pair: Pair) -> Array:
    first, second = np.broadcast_arrays(pair.first, pair.second)
    return np.concatenate([first, second], axis=-1).astype(np.float64)


def _directions(values: Array, rearranged: _Rearrangements) -> Directions:
    shifts = values @ rearranged.weights
    slack = ROUNDING * np.abs(values).sum(-1, keepdims=True)
    up = rearranged.same + (shifts <= slack).sum(-1)
    down = rearranged.same + (shifts >= -slack).sum(-1)
    total = shifts.shape[-1] + rearranged.same
    return Directions(*(np.asarray(np.minimum(1.0, 2 * p / total)) for p in (up, down)))


def _inverted(values: Array, rearranged: _Rearrangements, estimate: float, confidence: float) -> Interval:
    """Returns the shifts whose p is above 1 - confidence, for values (n,)."""
    total = rearranged.weights.shape[1] + rearranged.same
    left_out = math.floor((1 - confidence) * total / 2 - rearranged.same + ROUNDING)
    if left_out < 0:
        return Interval(estimate, -math.inf, math.inf, "none")
    shifts = np.sort(values @ rearranged.weights)
    return Interval(estimate, float(shifts[left_out]), float(shifts[-1 - left_out]), "inverted")


@cache
def _signs(n: int) -> _Rearrangements:
    """Flipping the signs of some of n differences: a tie with what was seen if these average zero."""
    if n <= EXACT_PAIRED:
        flipped = np.arange(2**n) >> np.arange(n)[:, None] & 1
    else:
        drawn = np.random.default_rng(0).integers(0, 2, (n, DRAWS))
        flipped = np.concatenate([np.zeros((n, 1)), drawn], axis=1, dtype=np.int8, casting="unsafe")
    count = flipped.sum(0)
    return _Rearrangements(flipped[:, count > 0] / count[count > 0], int((count == 0).sum()))


@cache
def _partings(n: int) -> _Rearrangements:
    """Values that change places between two samples of n: a tie if those from either have one average."""
    if n <= EXACT_UNPAIRED:
        subsets = np.arange(2**n)[:, None] >> np.arange(n) & 1
        size = subsets.sum(1)
        first, second = np.nonzero(size[:, None] == size)
        leaves, comes = subsets[first].T, subsets[second].T
    else:
        drawn = np.random.default_rng(0).random((2 * n, DRAWS))
        # In bytes and bit by bit: a hundred replicates would take 200 MB otherwise.
        orders = (part.argsort(0) for part in np.array_split(drawn, PIECES, axis=1))
        halves = [(order[:n] >= n, order[n:] < n) for order in chain([np.arange(2 * n)[:, None]], orders)]
        leaves, comes = (np.concatenate(half, axis=1, dtype=np.int8) for half in zip(*halves, strict=True))
    count = leaves.sum(0)
    weights = np.concatenate([leaves, -comes])[:, count > 0] / count[count > 0]
    return _Rearrangements(weights, int((count == 0).sum()))
