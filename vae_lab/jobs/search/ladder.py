"""How far the runs of a search have come: from rung to rung within a budget of epochs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

NEW = -1  # stands for the number of a trial that is not begun yet


class Segment(NamedTuple):
    """What is trained next: a trial, from where it paused to an epoch."""

    number: int
    until: int


@dataclass
class Climber:
    """A trial on its way up."""

    number: int
    values: list[list[float]] = field(default_factory=list)  # of each rung that is reached, an objective each
    spent: list[int] = field(default_factory=list)  # the epochs of all by then, of each of these rungs
    under_way: bool = False
    over: bool = False  # stopped for good, failed, or at the top

    @property
    def height(self) -> int:
        """How many rungs are reached."""
        return len(self.values)

    @property
    def paused(self) -> bool:
        """Whether it waits on a rung, to go on or to be stopped."""
        return not (self.over or self.under_way)


class Ladder:
    """The rungs of a search, who is on which, and what has been spent.

    Args:
        rungs: Epochs at which runs pause, rising; the last is their full length.
        budget: Epochs of all runs together; None for no bound.

    Examples:
        >>> ladder = Ladder([1, 3], budget=4)
        >>> ladder.enter(0)
        Segment(number=0, until=1)
        >>> ladder.reached(0, [110.0])
        False
        >>> ladder.go_on(0), ladder.spent, ladder.room_for(NEW)
        (Segment(number=0, until=3), 3, True)
    """

    def __init__(self, rungs: Sequence[int], budget: int | None = None) -> None:
        self.rungs, self.budget = [*rungs], budget
        self.spent = 0  # epochs, those under way among them
        self.climbers: dict[int, Climber] = {}

    def enter(self, number: int) -> Segment:
        """Returns the first segment of a new trial, which is under way from now on."""
        self.climbers[number] = Climber(number)
        return self.go_on(number)

    def resume(
        self,
        number: int,
        values: Sequence[Sequence[float]],
        spent: Sequence[int],
        *,
        failed: bool = False,
    ) -> None:
        """Puts a trial of an earlier process where it paused.

        Args:
            number: The trial.
            values: On each rung up to there, the lower the better.
            spent: The epochs of all by each of these.
            failed: Whether it failed on its next segment, whose epochs are spent as they were then.
        """
        climber = self.climbers[number] = Climber(number, [[*value] for value in values], [*spent])
        at_top = climber.height == len(self.rungs)
        climber.over = at_top or failed
        ordered = climber.height + (failed and not at_top)  # segments
        self.spent += self.rungs[ordered - 1] if ordered else 0

    def go_on(self, number: int) -> Segment:
        """Returns the next segment of a trial, which is under way from now on."""
        climber = self.climbers[number]
        climber.under_way = True
        self.spent += self._cost(climber.height)
        return Segment(number, self.rungs[climber.height])

    def reached(self, number: int, values: Sequence[float]) -> bool:
        """Notes that a trial has paused on its next rung with these values, the lower the better.

        Returns:
            Whether that is the top.
        """
        climber = self.climbers[number]
        climber.values.append([*values])
        climber.spent.append(self.spent)
        climber.under_way = False
        climber.over = climber.height == len(self.rungs)
        return climber.over

    def drop(self, number: int) -> None:
        """Takes a trial out that was stopped for good or failed; what it reached is still compared with."""
        climber = self.climbers[number]
        climber.under_way, climber.over = False, True

    def paused(self) -> dict[int, list[float]]:
        """Returns the trials that wait on a rung, with their values there."""
        return {c.number: c.values[-1] for c in self.climbers.values() if c.paused and c.values}

    def in_order(self) -> list[tuple[int, int]]:
        """Returns number and rung, from 0, of all values in the order in which they came in.

        Those of one moment stand by their numbers, in whichever process they came in.
        """
        moments = [
            (spent, c.number, rung) for c in self.climbers.values() for rung, spent in enumerate(c.spent)
        ]
        return [(number, rung) for _, number, rung in sorted(moments)]

    def ready(self) -> list[int]:
        """Returns those that pause and can go on within the budget."""
        return [number for number in self.paused() if self.room_for(number)]

    def under_way(self) -> list[int]:
        """Returns the trials that are trained at this moment."""
        return [c.number for c in self.climbers.values() if c.under_way]

    def room_for(self, number: int) -> bool:
        """Returns whether the budget has room for the next segment of a trial, or of a NEW one.

        Until a first trial has its full length there must be room for one to get there, too.
        """
        if self.budget is None:
            return True
        height = 0 if number == NEW else self.climbers[number].height
        alive = [c for c in self.climbers.values() if not c.over or c.height == len(self.rungs)]
        reserve = min([self._left(height + 1), *(self._left(c.height + c.under_way) for c in alive)])
        return self.spent + self._cost(height) + reserve <= self.budget

    def ranked(self, height: int) -> list[int]:
        """Returns all trials that have reached so many rungs, by their values there, the best first.

        See `best_first`.
        """
        there = {c.number: c.values[height - 1] for c in self.climbers.values() if c.height >= height}
        numbers = [*there]
        return [numbers[place] for place in best_first([*there.values()])]

    def _left(self, height: int) -> int:
        """Returns how many epochs there are from a rung to the top."""
        return self.rungs[-1] - (self.rungs[height - 1] if height else 0)

    def _cost(self, height: int) -> int:
        return self.rungs[height] - (self.rungs[height - 1] if height else 0)


def best_first(values: Sequence[Sequence[float]]) -> list[int]:
    """Returns the places of values, the lower the better, in the order in which fewest others beat them.

    Of several objectives, one beats another if it is no worse in any and better in one.

    >>> best_first([[3.0], [1.0], [2.0]]), best_first([[1.0, 1.0], [2.0, 2.0], [0.0, 3.0]])
    ([1, 2, 0], [0, 2, 1])
    """
    if not values:
        return []
    table = np.array(values, dtype=float)  # (trials, objectives)
    no_worse = (table[:, None] <= table[None]).all(2)
    better = (table[:, None] < table[None]).any(2)
    return [int(place) for place in np.argsort((no_worse & better).sum(0), kind="stable")]


def geometric(first: int, last: int, eta: float) -> list[int]:
    """Returns the epochs from `first` to `last`, each about `eta` times the one before.

    >>> geometric(1, 27, 3), geometric(1, 10, 3), geometric(20, 10, 3)
    ([1, 3, 9, 27], [1, 3, 10], [10])
    """
    rungs = [last]
    while (below := round(rungs[-1] / eta)) >= first and below < rungs[-1]:
        rungs.append(below)
    return rungs[::-1]
