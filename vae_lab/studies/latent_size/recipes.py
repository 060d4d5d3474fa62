"""What each recipe predicts as the latent size, and how many nats that is behind the best size of a sweep.

1. The sweep itself: the size with the best mean of the metric.
2. The data's spectrum, without training: the ranks that hold a share of the variance, and the dimensions
   that probabilistic PCA would use, those whose eigenvalue is above the noise variance.
3. A large latent space, without a penalty, with one, or with a larger beta: the dimensions that stay active.

References:
    Tipping & Bishop 1999, Probabilistic Principal Component Analysis.
    Lucas et al. 2019, Don't Blame the ELBO! A Linear VAE Perspective on Posterior Collapse, section 4.
    Burda et al. 2016, Importance Weighted Autoencoders, section 5.2 (active units).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae_lab import metrics
from vae_lab.studies import statistics
from vae_lab.studies.claims import DIRECTIONS
from vae_lab.studies.latent_size.spectrum import Spectrum
from vae_lab.studies.plan import Oracle, Plan
from vae_lab.studies.study import POINT, Study, has_params
from vae_lab.studies.values import canonical, is_number
from vae_lab.tracking import StoredRun

SIZE, ACTIVE = "model.latent_size", "test/active_units"
SWEEP, SPECTRUM, LARGE = 1, 2, 3  # the recipes

Array = NDArray[np.float64]


class Prediction(NamedTuple):
    """What one recipe predicts, and what the sweep shows of it."""

    recipe: int  # SWEEP, SPECTRUM or LARGE
    label: str
    size: int
    value: float  # the metric at that size, mean over the replicates that have a prediction
    n: int  # of these replicates
    regret: float  # how much worse than at the sweep's best size, in the metric's unit; never below 0
    low: float  # 95 % interval of the regret, infinite where there is none
    high: float
    outside: bool  # beyond the sizes swept: scored at the nearest one
    runs: int  # that the recipe takes, for one seed
    how: str


class RecipeComparison(NamedTuple):
    """The recipes in one family of runs: those that share the crossed keys."""

    family: dict[str, str]
    metric: str
    sizes: list[int]
    values: Array  # (n, sizes), the metric of every replicate
    predictions: list[Prediction]
    large: dict[str, list[float]]  # point of recipe 3: mean KL of its dimensions, the largest first

    @property
    def best(self) -> Prediction:
        """The sweep's own choice."""
        return self.predictions[0]


class Sweep(NamedTuple):
    """The metric of one family over the swept sizes; n replicates."""

    sizes: list[int]  # in order
    replicates: list[str]
    values: Array  # (n, sizes)
    sign: float  # 1 where less of the metric is better, else -1

    @property
    def best(self) -> int:
        """The index of the size with the best mean."""
        return int((self.sign * self.values.mean(0)).argmin())

    def at_one_size(self, size: int) -> dict[str, int]:
        """The same prediction for every replicate."""
        return dict.fromkeys(self.replicates, size)

    def score(self, recipe: int, label: str, predicted: Mapping[str, int], runs: int, how: str) -> Prediction:
        """What a recipe predicts for each replicate, each scored on the replicate's own sweep."""
        chosen = [
            (max(1, predicted[replicate]), row)
            for replicate, row in zip(self.replicates, self.values, strict=True)
            if replicate in predicted
        ]
        at = np.array([interpolated(self.sizes, row, size) for size, row in chosen])
        behind = self.sign * (at - np.array([row[self.best] for _, row in chosen]))
        mean, low, high, _ = statistics.sign_flip_interval(behind)
        outside = any(not self.sizes[0] <= size <= self.sizes[-1] for size, _ in chosen)
        size = round(float(np.mean([size for size, _ in chosen])))
        return Prediction(recipe, label, size, float(at.mean()), len(at), mean, low, high, outside, runs, how)


def compare_recipes(study: Study, spectrum: Spectrum) -> list[RecipeComparison]:
    """Returns the recipes of a study's oracle in every family of its runs whose sweep has finished.

    A replicate counts where it has every swept size.
    """
    plan = study.plan
    if plan.oracle is None:
        return []
    finished = [run for run in study.runs if run.status == "FINISHED"]
    crossed = [list(dict.fromkeys(run.params.get(key, "") for run in finished)) for key in plan.cross]
    families = [dict(zip(plan.cross, values, strict=True)) for values in itertools.product(*crossed)]
    compared = (
        _compare_in_family(plan, plan.oracle, spectrum, family, _with_params(finished, family))
        for family in families
    )
    return [comparison for comparison in compared if comparison is not None]


def _compare_in_family(
    plan: Plan, oracle: Oracle, spectrum: Spectrum, family: dict[str, str], runs: Sequence[StoredRun]
) -> RecipeComparison | None:
    swept = _with_params(runs, {key: value for key, value in plan.base.items() if key != SIZE})
    sweep = _sweep(plan, swept, oracle.metric)
    sizes = sweep.sizes
    if len(sizes) < 2 or not len(sweep.values):
        return None
    large = {f"Z={sizes[-1]}": _with_params(swept, {SIZE: str(sizes[-1])})}
    for point in oracle.points:
        if point_runs := _with_params(runs, {POINT: point}):
            large[f"{point}, Z={point_runs[0].params.get(SIZE)}"] = point_runs
    best = sweep.at_one_size(sizes[sweep.best])
    predictions = [
        sweep.score(SWEEP, "sweep", best, len(sizes), f"best of {len(sizes)} sizes swept"),
        *_from_spectrum(sweep, spectrum, oracle.shares),
        *_from_large_spaces(sweep, plan, large),
    ]
    kl = {label: _kl(large_runs) for label, large_runs in large.items()}
    return RecipeComparison(family, oracle.metric, sizes, sweep.values, predictions, kl)


def _from_spectrum(sweep: Sweep, spectrum: Spectrum, shares: Iterable[float]) -> list[Prediction]:
    predictions = []
    for share in shares:
        size, percent = rank_at(spectrum, share), f"{100 * share:.4g} %"
        how = f"holds {percent} of the variance"
        predictions.append(sweep.score(SPECTRUM, f"SVD {percent}", sweep.at_one_size(size), 0, how))
    noise = spectrum.noise_variance
    above = sum(value > noise for value in spectrum.eigenvalues)
    how = f"eigenvalues above the likelihood's noise variance, {noise:.3g}"
    return [*predictions, sweep.score(SPECTRUM, "probabilistic PCA", sweep.at_one_size(above), 0, how)]


def _from_large_spaces(
    sweep: Sweep, plan: Plan, large: Mapping[str, Sequence[StoredRun]]
) -> list[Prediction]:
    predictions = []
    for label, runs in large.items():
        active = {seed: round(count) for seed, count in _by_replicate(plan, runs, ACTIVE).items()}
        counts = [str(active[replicate]) for replicate in sweep.replicates if replicate in active]
        if counts:
            how = f"active units: {', '.join(counts)}"
            predictions.append(sweep.score(LARGE, label, active, 1, how))
    return predictions


def _with_params(runs: Iterable[StoredRun], params: Mapping[str, str]) -> list[StoredRun]:
    return [run for run in runs if has_params(run, params)]


def _by_replicate(plan: Plan, runs: Iterable[StoredRun], metric: str) -> dict[str, float]:
    """The metric of every replicate, its mean over what else repeats its runs if it has all of these."""
    measured: dict[str, dict[tuple[str, ...], float]] = {}
    for run in runs:
        if is_number(run.metrics.get(metric, math.nan)):
            repeat = tuple(canonical(run.params.get(key, "")) for key in plan.further_repeats)
            measured.setdefault(run.params.get(plan.pairs_by, ""), {})[repeat] = run.metrics[metric]
    planned = set(itertools.product(*(map(canonical, values) for values in plan.further_repeats.values())))
    return {
        replicate: math.fsum(values.values()) / len(values)
        for replicate, values in measured.items()
        if values.keys() >= planned
    }


def _sweep(plan: Plan, swept: Sequence[StoredRun], metric: str) -> Sweep:
    """The swept sizes in order, the n replicates that have them all, and their metric (n, sizes)."""
    by_size: dict[int, list[StoredRun]] = {}
    for run in swept:
        if is_number(run.metrics.get(metric, math.nan)):
            by_size.setdefault(int(run.params[SIZE]), []).append(run)
    sizes = sorted(by_size)
    columns = [_by_replicate(plan, by_size[size], metric) for size in sizes]
    whole = {
        replicate: [column[replicate] for column in columns]
        for replicate in (columns[0] if columns else ())
        if all(replicate in column for column in columns)
    }
    values = np.array(list(whole.values()), dtype=np.float64).reshape(len(whole), len(sizes))
    sign = 1.0 if DIRECTIONS.get(metric, "lower") == "lower" else -1.0
    return Sweep(sizes, list(whole), values, sign)


def interpolated(sizes: Sequence[int], row: Array, size: float) -> float:
    """A sweep's metric at a size: linear in log(size) between swept sizes, beyond them that of the end.

    Examples:
        >>> interpolated([4, 16], np.array([10.0, 12.0]), 8)
        11.0
    """
    return float(np.interp(math.log(size), np.log(sizes), row))


def rank_at(spectrum: Spectrum, share: float) -> int:
    """The fewest dimensions that hold `share` of the variance; one if there is none.

    The same as `evaluation.spectrum.rank_at`, for who reads a study and does so without PyTorch.

    Examples:
        >>> rank_at(Spectrum("data", "0", 100, [0.6, 0.3, 0.1], 0.2), 0.9)
        2
    """
    if not any(spectrum.eigenvalues):
        return 1
    cumulative = np.cumsum(spectrum.eigenvalues) / sum(spectrum.eigenvalues)
    return int((cumulative < share - 1e-12).sum()) + 1


def _kl(runs: Sequence[StoredRun]) -> list[float]:
    """Mean KL over replicates of each dimension, the largest first; empty where it was not measured."""
    rows = [metrics.series(run.metrics, metrics.KL_DIMENSION) for run in runs]
    rows = [row for row in rows if row]
    return np.sort(np.array(rows).mean(0))[::-1].tolist() if rows else []
