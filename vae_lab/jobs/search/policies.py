"""Which trial of a search is trained next: a new one, or one that pauses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from vae_lab.jobs.search.forecast import Forecast, Numbers, Seen
from vae_lab.jobs.search.ladder import NEW, Ladder
from vae_lab.seeding import derive_seed

Point = tuple[float, ...]  # settings, each from 0 to 1
FIRST_TRIALS = 6  # before anything is forecast from them


class Policy(Protocol):
    """Chooses among those that wait on a ladder and a new trial."""

    def choose(self, ladder: Ladder, propose: Callable[[], Point | None]) -> int | None:
        """Returns the number of the trial whose next segment is trained.

        Args:
            ladder: Who is where.
            propose: Returns the settings of a new trial, None if there is to be none.

        Returns:
            A number; NEW for the proposed trial; None if nothing can be done within the budget for now.
        """


class Halving:
    """Successive halving that waits for nobody: the best of those on a rung go on, the others wait.

    A run goes on as soon as it is among the best `1/eta` of all that have been on its rung (Li et al. 2020,
    ASHA). Once no new trials are to come, the rest of the budget goes to those that stand best among those
    of their rung: the halving grows milder until it is used up. With `eta` 1 whoever pauses goes on.

    Examples:
        Of three runs after one epoch the best goes on to the third; with nothing new to come, the second:

        >>> ladder = Ladder([1, 3])
        >>> for number, loss in enumerate([110.0, 104.0, 120.0]):
        ...     _ = ladder.enter(number), ladder.reached(number, [loss])
        >>> halving = Halving(eta=3)
        >>> halving.choose(ladder, propose=lambda: (0.5,)), ladder.go_on(1)
        (1, Segment(number=1, until=3))
        >>> halving.choose(ladder, propose=lambda: (0.5,)) == NEW
        True
        >>> halving.choose(ladder, propose=lambda: None)
        0
    """

    def __init__(self, eta: float) -> None:
        self.eta = eta

    def choose(self, ladder: Ladder, propose: Callable[[], Point | None]) -> int | None:
        """Returns the trial to be trained next."""
        ready = {*ladder.ready()}
        standing: list[tuple[float, int, int]] = []
        for height in range(len(ladder.rungs) - 1, 0, -1):
            ranked = ladder.ranked(height)
            for place, number in enumerate(ranked, start=1):
                if number in ready and ladder.climbers[number].height == height:
                    if place <= int(len(ranked) / self.eta):
                        return number
                    standing.append((place / len(ranked), -height, number))
                    break
        if ladder.room_for(NEW) and propose() is not None:
            return NEW
        return min(standing)[2] if standing else None


class Foresight:
    """Trains what may turn out best at its full length, by a forecast from all curves so far.

    Args:
        ladder: Who is where.
        point: Returns the settings of a trial.
        seed: Of the search.
    """

    def __init__(self, ladder: Ladder, point: Callable[[int], Point], seed: int) -> None:
        self.ladder, self.point, self.seed = ladder, point, seed
        self.forecast = Forecast(ladder.rungs[-1])

    def choose(self, ladder: Ladder, propose: Callable[[], Point | None]) -> int | None:
        """Returns the trial to be trained next."""
        new = propose() if ladder.room_for(NEW) else None
        if new is not None and len(ladder.climbers) < FIRST_TRIALS:
            return NEW
        numbers = ladder.ready()
        points = [self.point(number) for number in numbers]
        if new is not None:
            numbers, points = [*numbers, NEW], [*points, new]
        return numbers[int(np.argmin(self.bounds(points, numbers)))] if numbers else None

    def bounds(self, points: Sequence[Point], numbers: Sequence[int] | None = None) -> Numbers:
        """Returns how good trials may become, (trials,), the lower the better.

        Args:
            points: Their settings.
            numbers: Of the trials; None for new ones.
        """
        seen, under_way = self._seen()
        return self.forecast.bounds(seen, points, numbers or [NEW] * len(points), under_way)

    def _seen(self) -> tuple[list[Seen], list[Seen]]:
        """Returns the values of all trials as one number each, in their order, and what is under way."""
        climbers, rungs, in_order = self.ladder.climbers, self.ladder.rungs, self.ladder.in_order()
        several = [climbers[number].values[rung] for number, rung in in_order]
        scalars = _as_one(several, derive_seed(self.seed, "weights", len(several)))
        points = {number: self.point(number) for number in climbers}
        seen = [
            Seen(number, points[number], rungs[rung], scalar)
            for (number, rung), scalar in zip(in_order, scalars, strict=True)
        ]
        under_way = [Seen(number, points[number], rungs[-1], 0.0) for number in self.ladder.under_way()]
        return seen, under_way


def _as_one(values: Sequence[Sequence[float]], seed: int) -> list[float]:
    """Returns several objectives as one: the greatest of them, weighted anew each time.

    So each choice goes after another part of the front (Knowles 2006, ParEGO).
    """
    if not values:
        return []
    table = np.array(values, dtype=float)  # (values, objectives)
    if table.shape[1] == 1:
        return [float(value) for value in table[:, 0]]
    weights = np.random.default_rng(seed).dirichlet(np.ones(table.shape[1]))
    low, high = table.min(0), np.median(table, axis=0)
    scaled = weights * (table - low) / np.maximum(high - low, 1e-9)
    return [float(value) for value in scaled.max(1) + 0.05 * scaled.sum(1)]
