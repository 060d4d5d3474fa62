"""The lab's own sampler: of many points, the one that may come to the best end by the forecast."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from vae_lab.jobs.search.forecast import Numbers
from vae_lab.jobs.search.ladder import best_first
from vae_lab.jobs.search.space import Space, Value, by_key, key_of

POOL = 500  # points that are looked at
BEST = 5  # trials near which half of them lie
NEAR = 0.1  # standard deviation of these, of a range of 1

Judge = Callable[[Sequence[tuple[float, ...]]], Numbers]  # how good new trials of these settings may become


class Draw:
    """Suggests values at random, or near those of a trial; see `space.Trial`.

    Args:
        generator: Of the numbers.
        near: The values of a trial.
    """

    def __init__(self, generator: np.random.Generator, near: Mapping[str, Value] | None = None) -> None:
        self.generator, self.near = generator, near or {}

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Value:
        """Returns one of the choices; mostly that of the trial, if it is one of them."""
        if self.near.get(name, self) in choices and self.generator.random() > NEAR * 2:
            return self.near[name]
        return choices[int(self.generator.integers(len(choices)))]

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Returns a whole number."""
        if log:
            return min(max(round(self._number(name, low, high, log=True)), low), high)
        return low + step * round(self._number(name, 0, (high - low) / step, offset=low, unit=step))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Returns a number."""
        if step is None:
            return self._number(name, low, high, log=log)
        return low + step * round(self._number(name, 0, (high - low) / step, offset=low, unit=step))

    def _number(
        self, name: str, low: float, high: float, *, log: bool = False, offset: float = 0, unit: float = 1
    ) -> float:
        scale, back = (math.log, math.exp) if log else (float, float)
        first, last = scale(low), scale(high)
        if name in self.near:
            middle = scale((float(self.near[name]) - offset) / unit)  # type: ignore[arg-type]
            at = self.generator.normal(middle, NEAR * (last - first))
        else:
            at = self.generator.uniform(first, last)
        return min(max(back(min(max(at, first), last)), low), high)


class ForecastSampler(BaseSampler):
    """Proposes the point that may come to the best end, of many drawn at random and near the best so far.

    Args:
        space: What varies.
        judge: Says how good new trials may become, the lower the better.
        seed: Of the draw.
    """

    def __init__(self, space: Space, judge: Judge, seed: int | None = None) -> None:
        self.space, self.judge = space, judge
        self.generator = np.random.default_rng(seed)
        self.chosen: dict[str, Value] = {}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Returns nothing: the whole point is chosen before the trial."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Returns nothing."""
        return {}

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Chooses the point of a trial."""
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        taken = {tuple(sorted(by_key(other.params).items(), key=str)) for other in others}
        pool = {
            tuple(sorted(point.items(), key=str)): point
            for point in self._pool(_best(others, study.directions))
        }
        points = [point for key, point in pool.items() if key not in taken]
        points = points or [next(iter(pool.values()))]
        self.chosen = points[int(np.argmin(self.judge([self.space.encoded(point) for point in points])))]

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Returns the value of the chosen point."""
        return self.chosen[key_of(param_name)]

    def _pool(self, best: Sequence[FrozenTrial]) -> list[dict[str, Value]]:
        draws = [Draw(self.generator) for _ in range(POOL // 2 if best else POOL)]
        draws += [
            Draw(self.generator, best[place % len(best)].params) for place in range(POOL // 2 if best else 0)
        ]
        return [self.space.suggested(draw) for draw in draws]


def _best(trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> list[FrozenTrial]:
    """Returns the trials that were best when they were seen last."""
    signs = [-1 if direction == StudyDirection.MAXIMIZE else 1 for direction in directions]
    followed = [trial for trial in trials if _latest(trial)]
    lowered = [
        [sign * value for sign, value in zip(signs, _latest(trial), strict=True)] for trial in followed
    ]
    return [followed[place] for place in best_first(lowered)[:BEST]]


def _latest(trial: FrozenTrial) -> list[float]:
    """Returns the objectives where a trial was seen last; of several, Optuna has those of whole ones only."""
    steps = trial.intermediate_values
    return [steps[max(steps)]] if steps else trial.values or []
