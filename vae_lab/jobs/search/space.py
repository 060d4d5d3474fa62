"""The space of a search: what may vary and within which bounds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple, Protocol, TypeGuard

from vae_lab.jobs import grammar

Value = str | int | float | bool | None
DIGITS = 4  # significant ones of a suggested number: what a name of a run can show
WHERE = " where "  # after the key, in Optuna's name of a parameter whose values depend on another's


class Trial(Protocol):
    """What suggests values: Optuna's trial."""

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Any:
        """Returns one of the choices."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Returns a whole number from low to high."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Returns a number from low to high."""


class Dimension(NamedTuple):
    """One key that varies: choices, or numbers from low to high, both among them."""

    key: str
    choices: tuple[Value, ...] = ()
    low: float = 0
    high: float = 0
    step: int | float | None = None  # None: any number in between
    log: bool = False

    def size(self) -> float:
        """Returns how many values there are.

        >>> Dimension("model.layers", low=2, high=6, step=2).size()
        3
        """
        if self.choices:
            return len(self.choices)
        return math.inf if self.step is None else round((self.high - self.low) / self.step) + 1

    def is_finite(self) -> bool:
        """Returns whether there are so many values and no more."""
        return bool(self.choices) or self.step is not None

    def has(self, value: object) -> bool:
        """Returns whether a value is one of these.

        >>> layers = Dimension("model.layers", low=2, high=6, step=2)
        >>> layers.has(4), layers.has(5), layers.has(8)
        (True, False, False)
        """
        if self.choices:
            return value in self.choices
        if not (_is_number(value) and self.low <= value <= self.high):
            return False
        steps = (value - self.low) / self.step if self.step is not None else 0
        return math.isclose(steps, round(steps), abs_tol=1e-9)

    def values(self) -> list[Value]:
        """Returns every value of a finite dimension.

        >>> Dimension("model.layers", low=2, high=6, step=2).values()
        [2, 4, 6]
        """
        if self.choices or self.step is None:
            return [*self.choices]
        return [stepped(self.low, self.step, place) for place in range(int(self.size()))]

    def suggested(self, trial: Trial, name: str) -> Value:
        """Returns the value that a trial suggests for its parameter of that name."""
        if self.choices:
            value: Value = trial.suggest_categorical(name, self.choices)
            return value
        if isinstance(self.step, int):
            low, high = int(self.low), int(self.high)
            # Optuna takes a step or a logarithm.
            return trial.suggest_int(name, low, high, step=1 if self.log else self.step, log=self.log)
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def rounded(self, value: Value) -> Value:
        """Returns a number as runs have it: at its step, or with the digits of names if the bounds allow.

        >>> Dimension("optimizer.lr", low=1e-4, high=1e-2).rounded(0.000312349)
        0.0003123
        >>> Dimension("objective.beta", low=0.1, high=0.5, step=0.1).rounded(0.1 + 2 * 0.1)
        0.3
        """
        if self.choices or not _is_number(value):
            return value
        if self.step is not None:
            return stepped(self.low, self.step, round((value - self.low) / self.step))
        if isinstance(value, int):
            return value
        short = float(f"{value:.{DIGITS}g}")
        return short if self.low <= short <= self.high else value

    def encoded(self, value: Value, *, absent: bool = False) -> tuple[float, ...]:
        """Returns a value as coordinates from 0 to 1: numbers by their place, other choices one each.

        >>> Dimension("optimizer.lr", low=1e-4, high=1e-2, log=True).encoded(1e-2)
        (1.0,)
        >>> Dimension("optimizer", choices=("adam", "sgd")).encoded("sgd")
        (0.0, 1.0)
        """
        ordered = sorted(filter(_is_number, self.choices))
        if len(ordered) < len(self.choices):
            return tuple(0.5 if absent else float(value == choice) for choice in self.choices)
        if absent or not _is_number(value):
            return (0.5,)
        if ordered:
            return (ordered.index(value) / max(len(ordered) - 1, 1),)
        scale = math.log if self.log else float
        low, high = scale(self.low), scale(self.high)
        return ((scale(value) - low) / (high - low),)

    def ends(self) -> list[Value]:
        """Returns the values that a check of the whole space looks at: all choices, or both bounds."""
        if self.choices:
            return [*self.choices]
        return [int(end) if isinstance(self.step, int) else end for end in (self.low, self.high)]


def stepped(low: float, step: float, place: int) -> int | float:
    """Returns the number so many steps above the lowest, with their decimals, which floats do not add up to.

    >>> stepped(0.1, 0.1, 2), 0.1 + 2 * 0.1
    (0.3, 0.30000000000000004)
    """
    if isinstance(step, int):
        return int(low) + place * step
    return float(Decimal(str(low)) + place * Decimal(str(step)))


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


class Condition(NamedTuple):
    """Dimensions that are there only where other keys have these values."""

    where: dict[str, Value]
    dimensions: tuple[Dimension, ...]

    def holds(self, values: Mapping[str, Value]) -> bool:
        """Returns whether a point has these values."""
        return self.where.items() <= values.items()


class Space(NamedTuple):
    """What varies in a search.

    Examples:
        >>> space = Space((Dimension("model.latent_size", low=2, high=63, step=1),))
        >>> space.size(), next(space.corners())
        (62, {'model.latent_size': 2})
    """

    dimensions: tuple[Dimension, ...]
    conditions: tuple[Condition, ...] = ()

    def suggested(self, trial: Trial) -> dict[str, Value]:
        """Returns the values that a trial suggests, those of conditions only where they hold."""
        values = {dim.key: dim.rounded(dim.suggested(trial, dim.key)) for dim in self.dimensions}
        for condition in self.conditions:
            if condition.holds(values):
                for dim in condition.dimensions:
                    values[dim.key] = dim.rounded(dim.suggested(trial, self._parameter(dim, condition)))
        return values

    def _parameter(self, dim: Dimension, condition: Condition) -> str:
        """Returns what Optuna calls a dimension below a condition: by its key, if that has no other values.

        Optuna takes one set of choices for each name.
        """
        conditional = (other for item in self.conditions for other in item.dimensions)
        if {other for other in conditional if other.key == dim.key} == {dim}:
            return dim.key
        return f"{dim.key}{WHERE}{', '.join(f'{key}={value}' for key, value in condition.where.items())}"

    def size(self) -> float:
        """Returns how many points there are at most: infinitely many, if a number may be any in between."""
        return math.prod(dim.size() for dim in self.all_dimensions())

    def encoded(self, values: Mapping[str, Value]) -> tuple[float, ...]:
        """Returns a point as coordinates from 0 to 1; what a condition leaves out stands in the middle."""
        coordinates = [part for dim in self.dimensions for part in dim.encoded(values[dim.key])]
        for condition in self.conditions:
            absent = not condition.holds(values)
            for dim in condition.dimensions:
                coordinates += dim.encoded(values.get(dim.key), absent=absent)
        return tuple(coordinates)

    def all_dimensions(self) -> list[Dimension]:
        """Returns the dimensions, those of conditions after the others."""
        return [*self.dimensions, *(dim for condition in self.conditions for dim in condition.dimensions)]

    def corners(self) -> Iterator[dict[str, Value]]:
        """Yields points that have every choice and both ends of all numbers among them, to be checked."""
        base = {dim.key: dim.ends()[0] for dim in self.dimensions}
        yield base
        for dim in self.dimensions:
            yield from (base | {dim.key: end} for end in dim.ends()[1:])
        for condition in self.conditions:
            first = {dim.key: dim.ends()[0] for dim in condition.dimensions}
            for dim in condition.dimensions:
                yield from (base | condition.where | first | {dim.key: end} for end in dim.ends())


def by_key(parameters: Mapping[str, Value]) -> dict[str, Value]:
    """Returns a point by its keys from parameters by the names that Optuna has for them.

    >>> by_key({"optimizer": "sgd", "train.batch_size where optimizer=sgd": 128})
    {'optimizer': 'sgd', 'train.batch_size': 128}
    """
    return {key_of(name): value for name, value in parameters.items()}


def key_of(name: str) -> str:
    """Returns the key that a parameter's name in Optuna stands for."""
    return name.partition(WHERE)[0]


def overrides(values: Mapping[str, Value]) -> dict[str, str]:
    """Returns the values of a point as texts of the grammar.

    >>> overrides({"optimizer": "adam", "optimizer.lr": 0.001, "model.encoder_layers": None})
    {'optimizer': 'adam', 'optimizer.lr': '0.001', 'model.encoder_layers': 'null'}
    """
    return {key: value if isinstance(value, str) else grammar.written(value) for key, value in values.items()}
