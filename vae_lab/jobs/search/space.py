"""The space of a search: what may vary and within which bounds, in the grammar of Hydra's overrides."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeGuard

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Sweep
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from vae_lab.errors import UserError, quoted
from vae_lab.jobs import grammar

Value = str | int | float | bool | None
DIGITS = 4  # significant ones of a suggested number: what a name of a run can show
TAGS = ("log",)
KINDS = "choice(a,b), range(first,end,step), interval(low,high), int(interval(low,high)) or tag(log,...)"


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

    def values(self) -> list[Value]:
        """Returns every value of a finite dimension.

        >>> Dimension("model.layers", low=2, high=6, step=2).values()
        [2, 4, 6]
        """
        step = self.step or 0
        return [*self.choices] or [self.low + place * step for place in range(int(self.size()))]

    def suggested(self, trial: Trial) -> Value:
        """Returns the value that a trial suggests."""
        if self.choices:
            value: Value = trial.suggest_categorical(self.key, self.choices)
            return value
        if isinstance(self.step, int):
            low, high = int(self.low), int(self.high)
            # Optuna takes a step or a logarithm.
            return trial.suggest_int(self.key, low, high, step=1 if self.log else self.step, log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log)

    def rounded(self, value: Value) -> Value:
        """Returns a number with so many digits as names show, if it is within the bounds then.

        >>> Dimension("optimizer.lr", low=1e-4, high=1e-2).rounded(0.000312349)
        0.0003123
        """
        if self.choices or self.step is not None or not isinstance(value, float):
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


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


class Condition(NamedTuple):
    """Dimensions that are there only where other keys have these values."""

    where: dict[str, Value]
    dimensions: tuple[Dimension, ...]


class Space(NamedTuple):
    """What varies in a search.

    Examples:
        >>> space = Space((dimension(grammar.read("range(2,64)", "model.latent_size")),))
        >>> space.size(), next(space.corners())
        (62, {'model.latent_size': 2})
    """

    dimensions: tuple[Dimension, ...]
    conditions: tuple[Condition, ...] = ()

    def suggested(self, trial: Trial) -> dict[str, Value]:
        """Returns the values that a trial suggests, those of conditions only where they hold."""
        values = {dim.key: dim.rounded(dim.suggested(trial)) for dim in self.dimensions}
        for condition in self.conditions:
            if condition.where.items() <= values.items():
                values |= {dim.key: dim.rounded(dim.suggested(trial)) for dim in condition.dimensions}
        return values

    def size(self) -> float:
        """Returns how many points there are at most: infinitely many, if a number may be any in between."""
        return math.prod(dim.size() for dim in self.all_dimensions())

    def encoded(self, values: Mapping[str, Value]) -> tuple[float, ...]:
        """Returns a point as coordinates from 0 to 1; what a condition leaves out stands in the middle."""
        coordinates = [part for dim in self.dimensions for part in dim.encoded(values[dim.key])]
        for condition in self.conditions:
            absent = not condition.where.items() <= values.items()
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


def overrides(values: Mapping[str, Value]) -> dict[str, str]:
    """Returns the values of a point as texts of the grammar.

    >>> overrides({"optimizer": "adam", "optimizer.lr": 0.001, "model.encoder_layers": None})
    {'optimizer': 'adam', 'optimizer.lr': '0.001', 'model.encoder_layers': 'null'}
    """
    return {key: value if isinstance(value, str) else grammar.written(value) for key, value in values.items()}


def space_of(search: DictConfig, given: Sequence[Override]) -> tuple[Space, dict[str, str]]:
    """Returns the space of a config's `search` and of the command line, and what is fixed for all points.

    A key given as one value on the command line leaves the space, one given as several takes its place there.

    Args:
        search: The checked node `search` of the config.
        given: The command line's overrides.

    Raises:
        UserError: A dimension is not of the grammar or has no values, or nothing varies.
    """
    lines = {str(key): _read(str(key), value, "search.space") for key, value in search.space.items()}
    fixed: dict[str, str] = {}
    for override in given:
        key = override.get_key_element()
        if override.is_sweep_override():
            lines[key] = override
        else:
            lines.pop(key, None)
            fixed[key] = str(override.get_value_element_as_str())
    dimensions = tuple(map(dimension, lines.values()))
    known = {dim.key: dim for dim in dimensions}
    conditions = tuple(
        _condition(place, item, known, fixed.keys()) for place, item in enumerate(search.conditional)
    )
    if not dimensions:
        raise UserError(
            "hydra/sweeper=search: nothing varies; give keys several values, as in "
            "'optimizer.lr=tag(log,interval(1e-4,1e-2))' 'model.latent_size=range(2,64)'."
        )
    return Space(dimensions, tuple(item for item in conditions if item.dimensions)), fixed


def _read(key: str, value: object, where: str) -> Override:
    text = value if isinstance(value, str) else grammar.written(_plain(value))
    try:
        override = grammar.read(text.removeprefix("[").removesuffix("]") if _is_list(value) else text, key)
    except HydraException:
        raise UserError(f"{where}: {key}: {quoted(text)}: must be {KINDS}.") from None
    if not override.is_sweep_override():
        raise UserError(f"{where}: {key}: {quoted(text)}: is one value; must be {KINDS}.")
    return override


def _is_list(value: object) -> bool:
    return OmegaConf.is_list(value) or isinstance(value, list)


def _plain(value: object) -> object:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def dimension(override: Override) -> Dimension:
    """Returns the dimension that an override of several values stands for.

    Raises:
        UserError: It stands for none: an unknown tag, bounds in the wrong order, a glob.

    >>> dimension(grammar.read("tag(log,interval(1e-4,1e-2))", "optimizer.lr"))
    Dimension(key='optimizer.lr', choices=(), low=0.0001, high=0.01, step=None, log=True)
    >>> dimension(grammar.read("choice(adam,sgd)", "optimizer")).choices
    ('adam', 'sgd')
    """
    key, line = override.get_key_element(), quoted(override.input_line or "")
    if key.lstrip("+~") == "seed":
        raise UserError(
            f"{line}: a search does not vary the seed; its best is trained with others afterwards."
        )
    if key.lstrip("+~").partition(".")[0] == "search":
        raise UserError(f"{line}: is of the search as a whole; give one value, and a command for each.")
    sweep = override._value
    if not isinstance(sweep, Sweep):
        raise UserError(f"{line}: must be {KINDS}.")
    if unknown := sorted(sweep.tags - {*TAGS}):
        raise UserError(f"{line}: tag {quoted(unknown[0])}: must be {', '.join(TAGS)}.")
    log = "log" in sweep.tags
    if isinstance(sweep, IntervalSweep):
        step = 1 if {type(sweep.start), type(sweep.end)} == {int} else None
        return _numbers(line, Dimension(key, (), sweep.start or 0, sweep.end or 0, step, log))
    if isinstance(sweep, RangeSweep) and sweep.start is not None and sweep.stop is not None:
        if (every := sweep.step) <= 0:
            raise UserError(f"{line}: step {every:g}: must be above 0.")
        last = sweep.start + every * (math.ceil(round((sweep.stop - sweep.start) / every, 9)) - 1)
        return _numbers(line, Dimension(key, (), sweep.start, last, every, log))
    return Dimension(key, tuple(dict.fromkeys(map(_choice, override.sweep_string_iterator()))))


def _choice(text: str) -> Value:
    """Returns a choice as Optuna keeps it: a plain value, and the text of a list or a mapping."""
    value = grammar.read(text).value()
    return value if value is None or isinstance(value, bool | int | float) else text


def _numbers(line: str, numbers: Dimension) -> Dimension:
    low, high, step, log = numbers.low, numbers.high, numbers.step, numbers.log
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"{line}: {low:g} to {high:g}: must be two finite numbers, the lower one first.")
    if log and low <= 0:
        raise UserError(f"{line}: from {low:g}: with tag(log,...) must be above 0.")
    if log and step is not None and step != 1:
        raise UserError(f"{line}: step {step:g}: with tag(log,...) must be 1, or an interval.")
    return numbers


def _condition(place: int, item: Any, known: Mapping[str, Dimension], fixed: Collection[str]) -> Condition:
    """Returns one item of `search.conditional`, without the dimensions that the command line has fixed."""
    where = f"search.conditional[{place}]"
    if not (OmegaConf.is_dict(item) and {*item} == {"where", "space"} and item.where and item.space):
        raise UserError(
            f"{where}: must be a mapping such as "
            "{where: {optimizer: sgd}, space: {optimizer.momentum: 'interval(0.5,0.99)'}}."
        )
    for key, value in item.where.items():
        if key not in known:
            raise UserError(f"{where}: where: {quoted(key)}: must be one of {', '.join(known)}.")
        if known[key].choices and value not in known[key].choices:
            options = ", ".join(map(str, known[key].choices))
            raise UserError(f"{where}: where: {key}: {quoted(value)}: must be one of {options}.")
    lines = [_read(str(key), value, f"{where}.space") for key, value in item.space.items()]
    dims = tuple(dimension(line) for line in lines if line.get_key_element() not in fixed)
    if twice := [dim.key for dim in dims if dim.key in known]:
        raise UserError(f"{where}: space: {twice[0]}: is in search.space already.")
    return Condition({str(key): value for key, value in item.where.items()}, dims)
