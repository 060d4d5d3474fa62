"""What a search did, `search.json` of its parent run: which trial was where, after how many epochs of all."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from vae_lab.studies.plan import read_json

SEARCH_FILE = "search.json"

# Of full length; not trained further on purpose; failed for good; or left where the same command goes on.
State = Literal["whole", "stopped", "failed", "left"]


class Step(Struct, frozen=True, forbid_unknown_fields=True):
    """A trial that paused or ended."""

    run: str  # its name
    epoch: int
    values: list[float]  # of each objective
    spent: int  # epochs of all trials by then
    trial: int = -1  # its number, as names of runs may be alike; -1 in files that do not say so


class Searched(Struct, frozen=True, forbid_unknown_fields=True):
    """A search as it is by now.

    Examples:
        >>> first = [Step("a", 1, [9.0], 1), Step("b", 1, [8.0], 2)]
        >>> steps = [*first, Step("b", 3, [5.0], 4), Step("a", 3, [6.0], 6)]
        >>> searched = Searched(["test/loss"], ["minimize"], 3, 8, 2, steps)
        >>> searched.best_so_far(), searched.best()
        ([(4, 5.0)], ['b'])
        >>> Searched.from_json(searched.to_json()) == searched
        True
    """

    metrics: list[str]
    directions: list[Literal["minimize", "maximize"]]
    length: int  # epochs of a whole run
    budget: int  # epochs of all
    trials: int  # most
    steps: list[Step] = []
    # Of each objective: key to the share of the variance that it explains alone; None of one that not every
    # trial has.
    importance: dict[str, dict[str, float | None]] = {}
    # Of each objective: the share that only several keys together explain. Searches of earlier versions lack
    # it, as theirs are shares of what the keys explain alone, and the two below.
    together: dict[str, float] = {}
    spent: int = 0  # epochs of all trials in the end
    states: dict[str, State] = {}  # of each trial, by its number

    def lowered(self, values: Sequence[float]) -> tuple[float, ...]:
        """Returns the values of the objectives so that the lower ones are the better ones."""
        signs = (1 if direction == "minimize" else -1 for direction in self.directions)
        return tuple(sign * value for sign, value in zip(signs, values, strict=True))

    def whole(self) -> list[Step]:
        """Returns the ends of the trials of full length, in the order in which they got there."""
        return [step for step in self.newest() if step.epoch == self.length]

    def early(self, *, stopped: bool) -> list[Step]:
        """Returns the ends of trials that were stopped before their full length, or of those that broke off.

        In a search of an earlier version all count as stopped.
        """
        ends = [step for step in self.newest() if step.epoch < self.length]
        return [
            step for step in ends if (self.states.get(str(step.trial), "stopped") == "stopped") == stopped
        ]

    def newest(self) -> list[Step]:
        """Returns the last step of each trial, by the epochs of all that were spent by then."""
        last = {(step.run, step.trial): step for step in self.steps}
        return sorted(last.values(), key=lambda step: step.spent)

    def best_so_far(self) -> list[tuple[int, float]]:
        """Returns the first objective of the best trial of full length, over the epochs that were spent."""
        best: list[tuple[int, float]] = []
        for step in self.whole():
            if not best or self.lowered(step.values)[0] < self.lowered([best[-1][1], *step.values[1:]])[0]:
                best.append((step.spent, step.values[0]))
        return best

    def best(self) -> list[str]:
        """Returns the name of the best trial of full length; of several objectives those of `best_ends`."""
        return [step.run for step in self.best_ends()]

    def best_ends(self) -> list[Step]:
        """Returns the end of the best trial; of several objectives of all that no other is better than."""
        ends = [(step, self.lowered(step.values)) for step in self.whole()]
        return [step for step, values in ends if not any(_beats(others, values) for _, others in ends)]

    def to_json(self) -> str:
        """Returns the search as text for `from_json`."""
        return json.dumps(msgspec.to_builtins(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Searched:
        """Returns the search in a text of `to_json`.

        Raises:
            ValueError: The text is damaged, or of another form.
        """
        return read_json(text, cls)


def _beats(first: Sequence[float], second: Sequence[float]) -> bool:
    """Returns whether values are no worse than others in any objective, and better in one."""
    pairs = list(
        itertools.starmap(lambda one, other: (one <= other, one < other), zip(first, second, strict=True))
    )
    return all(no_worse for no_worse, _ in pairs) and any(better for _, better in pairs)
