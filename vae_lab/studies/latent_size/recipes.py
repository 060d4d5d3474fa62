"""Three recipes for the latent size, and how far each is from the best size of a sweep.

1. The sweep itself: the size with the best mean of the metric.
2. The data's spectrum, without training: the ranks that hold a share of the variance, and the dimensions
   that probabilistic PCA would use, those whose eigenvalue is above the noise variance.
3. A large latent space under a penalty: the dimensions that stay active.

References:
    Tipping & Bishop 1999, Probabilistic Principal Component Analysis.
    Lucas et al. 2019, Don't Blame the ELBO! A Linear VAE Perspective on Posterior Collapse, section 4.
    Burda et al. 2016, Importance Weighted Autoencoders, section 5.2 (active units).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae_lab import metrics
from vae_lab.studies import statistics
from vae_lab.studies.claims import DIRECTIONS
from vae_lab.studies.comparison import POINT, Study, is_number
from vae_lab.studies.latent_size.spectrum import Spectrum
from vae_lab.studies.plan import Plan
from vae_lab.tracking import StoredRun

SIZE, ACTIVE = "model.latent_size", "test/active_units"
SWEEP, SPECTRUM, LARGE = 1, 2, 3  # the recipes

Array = NDArray[np.float64]


class Prediction(NamedTuple):
    """What one recipe says, and what the sweep says to it."""

    recipe: int  # SWEEP, SPECTRUM or LARGE
    label: str
    size: int
    value: float  # the metric at that size, mean over replicates
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


def outcomes(study: Study, spectrum: Spectrum) -> list[RecipeComparison]:
    """The recipes of a study's oracle in every family of its runs whose sweep has finished.

    A replicate counts where it has every swept size.
    """
    plan = study.plan
    oracle = plan.oracle or {}
    finished = [run for run in study.runs if run.status == "FINISHED"]
    grid = [
        dict(zip(plan.cross, chosen, strict=True)) for chosen in itertools.product(*_found(plan, finished))
    ]
    made = (_outcome(plan, oracle, spectrum, family, _within(finished, family)) for family in grid)
    return [each for each in made if each is not None]


def _found(plan: Plan, runs: Sequence[StoredRun]) -> list[list[str]]:
    return [list(dict.fromkeys(run.params.get(key, "") for run in runs)) for key in plan.cross]


def _within(runs: Iterable[StoredRun], wanted: Mapping[str, str]) -> list[StoredRun]:
    return [run for run in runs if all(run.params.get(key) == value for key, value in wanted.items())]


def _outcome(
    plan: Plan,
    oracle: Mapping[str, Any],
    spectrum: Spectrum,
    family: dict[str, str],
    runs: Sequence[StoredRun],
) -> RecipeComparison | None:
    metric = str(oracle["metric"])
    others = {key: value for key, value in plan.base.items() if key != SIZE}
    swept = _within(runs, others)
    sizes, seeds, values = _table(plan, swept, metric)
    if len(sizes) < 2 or not len(values):
        return None
    sign = 1.0 if DIRECTIONS.get(metric, "lower") == "lower" else -1.0
    best = int((sign * values.mean(0)).argmin())

    def scored(recipe: int, label: str, predicted: Mapping[str, int], runs: int, how: str) -> Prediction:
        """What a recipe predicts for each replicate, each scored on the replicate's own sweep."""
        chosen = [
            (max(1, predicted[seed]), row)
            for seed, row in zip(seeds, values, strict=True)
            if seed in predicted
        ]
        at = np.array([interpolated(sizes, row, size) for size, row in chosen])
        behind = sign * (at - np.array([row[best] for _, row in chosen]))
        mean, low, high, _ = statistics.paired_interval(behind)
        outside = any(not sizes[0] <= size <= sizes[-1] for size, _ in chosen)
        size = round(float(np.mean([size for size, _ in chosen])))
        return Prediction(recipe, label, size, float(at.mean()), mean, low, high, outside, runs, how)

    def alike(size: int) -> dict[str, int]:
        return dict.fromkeys(seeds, size)

    found = [scored(SWEEP, "sweep", alike(sizes[best]), len(sizes), f"best of {len(sizes)} sizes swept")]
    found += [
        scored(SPECTRUM, f"SVD {share:.4g} %", alike(rank), 0, f"holds {share:.4g} % of the variance")
        for share, rank in ((100 * share, rank_at(spectrum, share)) for share in oracle["shares"])
    ]
    noise = spectrum.noise_variance
    above = sum(value > noise for value in spectrum.eigenvalues)
    how = f"eigenvalues above the likelihood's noise variance, {noise:.3g}"
    found.append(scored(SPECTRUM, "probabilistic PCA", alike(above), 0, how))
    named = {str(point): _within(runs, {POINT: str(point)}) for point in oracle["points"]}
    large = {f"Z={sizes[-1]}": _within(swept, {SIZE: str(sizes[-1])})}
    large |= {f"{name}, Z={mine[0].params.get(SIZE)}": mine for name, mine in named.items() if mine}
    for label, mine in large.items():
        active = {_replicate(plan, run): round(run.metrics[ACTIVE]) for run in mine if ACTIVE in run.metrics}
        if active.keys() & set(seeds):
            how = f"active units: {', '.join(str(active[seed]) for seed in seeds if seed in active)}"
            found.append(scored(LARGE, label, active, 1, how))
    return RecipeComparison(
        family, metric, sizes, values, found, {name: _kl(mine) for name, mine in large.items()}
    )


def _replicate(plan: Plan, run: StoredRun) -> str:
    return run.params.get(next(iter(plan.replicate), "seed"), "")


def _table(plan: Plan, swept: Sequence[StoredRun], metric: str) -> tuple[list[int], list[str], Array]:
    """The swept sizes in order, the n replicates that have them all, and their metric (n, sizes)."""
    rows: dict[str, dict[int, float]] = {}
    for run in swept:
        if is_number(run.metrics.get(metric, math.nan)):
            rows.setdefault(_replicate(plan, run), {})[int(run.params[SIZE])] = run.metrics[metric]
    sizes = sorted({size for row in rows.values() for size in row})
    whole = {seed: [row[size] for size in sizes] for seed, row in rows.items() if len(row) == len(sizes)}
    values = np.array(list(whole.values()), dtype=np.float64).reshape(len(whole), len(sizes))
    return sizes, list(whole), values


def interpolated(sizes: Sequence[int], row: Array, size: float) -> float:
    """A sweep's metric at a size: linear in log(size) between swept sizes, beyond them that of the end."""
    return float(np.interp(math.log(size), np.log(sizes), row))


def rank_at(spectrum: Spectrum, share: float) -> int:
    """The fewest dimensions that hold `share` of the variance."""
    kept = np.cumsum(spectrum.eigenvalues) / sum(spectrum.eigenvalues)
    return int((kept < share - 1e-12).sum()) + 1


def _kl(runs: Sequence[StoredRun]) -> list[float]:
    """Mean KL over replicates of each dimension, the largest first; empty where it was not measured."""
    rows = [metrics.series(run.metrics, metrics.KL_DIMENSION) for run in runs]
    rows = [row for row in rows if row]
    return np.sort(np.array(rows).mean(0))[::-1].tolist() if rows else []
