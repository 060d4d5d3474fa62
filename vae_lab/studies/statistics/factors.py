"""Many configurations at once: Holm's adjustment, importance of hyperparameters, ties with the best."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from vae_lab.errors import UserError, choices
from vae_lab.studies.statistics.differences import PAIRED, Pair, Test

if TYPE_CHECKING:
    import pandas as pd

MOST_TERMS = 1_000  # of an ANOVA; every further key doubles them
TESTED_AT_ONCE = 64  # pairs of configurations, with 20,000 rearrangements each: 10 MB

Name = TypeVar("Name", bound=Hashable)
Replicate = TypeVar("Replicate", bound=Hashable)


def holm(p: Sequence[float]) -> list[float]:
    """Returns Holm's adjusted p values: at or below a level, they err in any of them at most at that level.

    Not statsmodels' `multipletests`, which collects garbage at every call, for 50 ms.

    References:
        Holm, A simple sequentially rejective multiple test procedure, 1979.

    Examples:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    raw = np.asarray(p, dtype=np.float64)
    order = raw.argsort()
    scaled = np.minimum(1.0, raw[order] * np.arange(len(raw), 0, -1))
    adjusted = np.empty_like(raw)
    adjusted[order] = np.maximum.accumulate(scaled)
    return [*map(float, adjusted)]


def importance(runs: pd.DataFrame, metric: str, factors: Sequence[str]) -> pd.Series:
    """Returns the share of a metric's variance that each factor and each interaction explains.

    Every combination of values counts alike, however many runs it has: the variance of the means of the
    combinations is shared out by an ANOVA on categories, and the residual is the mean variance within a
    combination. Where all have as many runs, these are the usual sums of squares, divided by their total.

    With one run a combination, the interaction of all factors is the residual. Where only some have one,
    these count as if they had no variance within: what chance adds to them is the factors'.

    Args:
        runs: one row a run.
        metric: a column of numbers; rows without a finite one are left out.
        factors: columns; runs must exist for every combination of their values.

    Returns:
        Shares that add up to 1, indexed by factor, `a x b` for an interaction, and `residual`.

    Raises:
        UserError: a column is missing, a factor has one value, or the grid is not full.
    """
    import pandas as pd

    for name in (metric, *factors):
        if name not in runs:
            raise UserError(f"{name}: the runs have no such column{choices(name, map(str, runs))}")
    measured = runs[np.isfinite(pd.to_numeric(runs[metric], errors="coerce"))]
    columns = {factor: measured[factor].astype(str) for factor in factors}
    cells = _full_grid(columns)
    y = measured[metric].to_numpy(np.float64)
    return _shares(y, columns, saturated=len(measured) == len(cells))


def _full_grid(columns: Mapping[str, pd.Series]) -> set[tuple[str, ...]]:
    """The combinations of the factors' values, if there is a run of every one of them."""
    values = {factor: sorted(column.unique()) for factor, column in columns.items()}
    for factor, options in values.items():
        if len(options) < 2:
            raise UserError(
                f"{factor}: has {len(options)} value in the finished runs; at least 2 are compared."
            )
    cells = set(zip(*columns.values(), strict=True))
    absent = [cell for cell in itertools.product(*values.values()) if cell not in cells]
    if absent:
        named = ", ".join(f"{key}={value}" for key, value in zip(columns, absent[0], strict=True))
        raise UserError(
            f"importance of {', '.join(columns)}: the grid is not full, {len(absent)} of "
            f"{len(absent) + len(cells)} combinations have no finished run, such as {named}."
        )
    return cells


def _shares(y: NDArray[np.float64], columns: Mapping[str, pd.Series], *, saturated: bool) -> pd.Series:
    import pandas as pd

    if np.ptp(y) == 0:
        raise UserError("importance: every run has the same value; there is no variance to share out.")
    factors = list(columns)
    order = len(factors) - (1 if saturated else 0)
    terms = [
        term for size in range(1, order + 1) for term in itertools.combinations(range(len(factors)), size)
    ]
    if len(terms) > MOST_TERMS:
        raise UserError(
            f"importance of {', '.join(factors)}: they have {len(terms):,} terms, interactions "
            f"included; at most {MOST_TERMS:,} are shared out. Compare fewer keys."
        )
    if not terms:
        raise UserError("importance: one factor with one run a value leaves nothing to compare it with.")
    means, within = _cells((y - y.mean()) / y.std(), [pd.factorize(columns[factor])[0] for factor in factors])
    variances = [_explained(means, term) for term in terms]
    if saturated:
        within += _explained(means, range(len(factors)))
    names = [" x ".join(factors[i] for i in term) for term in terms]
    shares = np.array([*variances, within])
    return pd.Series(shares / shares.sum(), index=[*names, "residual"])


def _cells(y: NDArray[np.float64], levels: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.float64], float]:
    """Returns the means of the combinations, an axis a factor, and the mean of the variances within them.

    Args:
        y: Values (n,).
        levels: For each factor, the number of its value in every run (n,).
    """
    shape = [int(codes.max()) + 1 for codes in levels]
    cells = np.ravel_multi_index(levels, shape)
    count = np.bincount(cells)
    means = np.bincount(cells, y) / count
    within = np.bincount(cells, np.square(y - means[cells])) / count
    return means.reshape(shape), float(within.mean())


def _explained(means: NDArray[np.float64], term: Collection[int]) -> float:
    """Returns the variance of the means that the factors of a term, by their axes, explain only together."""
    effects = means
    for axis in range(means.ndim):
        mean = effects.mean(axis, keepdims=True)
        effects = effects - mean if axis in term else mean
    return float(np.square(effects).mean())


def tied_with_best(
    values: Mapping[Name, Mapping[Replicate, float]],
    *,
    lower_is_better: bool,
    test: Test = PAIRED,
    level: float = 0.05,
) -> set[Name]:
    """Returns the configurations that no other is shown to beat; the best is one with probability 1 - level.

    A configuration leaves the set if some other beats it in the test at the level divided by the number of
    others: the truly best one then leaves wrongly at most at the level.

    Args:
        values: configuration to replicate (seed) to value; two are compared on the replicates they share.
        lower_is_better: what is best.
        test: of the difference between two of them.
        level: of a wrong exclusion.

    Examples:
        >>> losses = {name: {seed: loss + seed for seed in range(7)} for name, loss in (("a", 90), ("b", 95))}
        >>> tied_with_best(losses, lower_is_better=True)
        {'a'}
    """
    # Negated where more is better, so that less is better below.
    sign = 1 if lower_is_better else -1
    finite = {
        name: {key: sign * value for key, value in _finite(runs).items()} for name, runs in values.items()
    }
    compared = [name for name, runs in finite.items() if runs]
    compared.sort(key=lambda name: math.fsum(finite[name].values()) / len(finite[name]))
    shared = level / max(len(compared) - 1, 1)
    # What is better in the mean than an unbeaten one is kept: a noisy row may be unbeaten by the best alone.
    return set(compared[: _unbeaten([finite[name] for name in compared], shared, test)])


def _unbeaten(ranked: Sequence[Mapping[Replicate, float]], level: float, test: Test) -> int:
    """Returns how many of some configurations, best mean first, come down to the last that no other beats."""
    # Most are beaten by the best mean, which is asked first.
    by_best = _are_beaten([(one, ranked[0]) for one in ranked], level, test)
    for place, one in reversed([*enumerate(ranked)]):
        rivals = [(one, rival) for rival in ranked[1:] if rival is not one]
        if not by_best[place] and not any(_are_beaten(rivals, level, test)):
            return place + 1
    return 0


def _finite(values: Mapping[Replicate, float]) -> dict[Replicate, float]:
    return {key: value for key, value in values.items() if np.isfinite(value)}


def _are_beaten(
    pairs: Sequence[tuple[Mapping[Replicate, float], Mapping[Replicate, float]]], level: float, test: Test
) -> list[bool]:
    """Returns whether the first of each pair is larger than the second by a lead that passes the level."""
    answers = [False] * len(pairs)
    by_count: dict[int, list[tuple[int, list[tuple[float, float]]]]] = {}
    for place, (values, rival) in enumerate(pairs):
        both = [(value, rival[key]) for key, value in values.items() if key in rival]
        # Where the differences do not favour the other, p is at least 1.
        if test.floor(len(both)) <= level and math.fsum(own - other for own, other in both) > 0:
            by_count.setdefault(len(both), []).append((place, both))
    for alike in by_count.values():
        for start in range(0, len(alike), TESTED_AT_ONCE):
            some = alike[start : start + TESTED_AT_ONCE]
            first, second = np.moveaxis(np.array([both for _, both in some]), -1, 0)
            up = test.directions(Pair(first, second)).up
            for (place, _), p in zip(some, up, strict=True):
                answers[place] = bool(p <= level)
    return answers
