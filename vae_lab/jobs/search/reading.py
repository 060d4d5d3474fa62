"""How config and command line say the space of a search, in the grammar of Hydra's overrides."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Sweep
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from vae_lab import config
from vae_lab.errors import UserError, quoted
from vae_lab.jobs import grammar
from vae_lab.jobs.search.space import Condition, Dimension, Space, Value, stepped

TAGS = ("log",)
KINDS = "choice(a,b), range(first,end,step), interval(low,high), int(interval(low,high)) or tag(log,...)"


def space_of(search: DictConfig, given: Sequence[Override]) -> tuple[Space, dict[str, str]]:
    """Returns the space of a config's `search` and of the command line, and what is fixed for all points.

    A key given as one value on the command line leaves the space, one given as several takes its place there.
    One of `search.conditional` is still set only where its condition holds. A condition that the command line
    rules out is left out, and what stands below one that always holds varies like all else.

    Args:
        search: The checked node `search` of the config.
        given: The command line's overrides.

    Raises:
        UserError: A dimension is not of the grammar or has no values, or nothing varies.
    """
    lines = {_name(key): _read(str(key), value, "search.space") for key, value in search.space.items()}
    on_line = {_name(override.get_key_element()): override for override in given}
    swept = {name: dimension(line) for name, line in on_line.items() if line.is_sweep_override()}
    fixed = {name: line for name, line in on_line.items() if name not in swept}
    known = {
        name: swept.get(name) or dimension(line)
        for name, line in (lines | on_line).items()
        if name not in fixed
    }
    says = Says(lines, swept, fixed, known)
    conditions = [_condition(place, item, says) for place, item in enumerate(search.conditional)]
    _check_apart(conditions)
    always = {_name(dim.key): dim for item in conditions if not item.where for dim in item.dimensions}
    sometimes = tuple(item for item in conditions if item.where and item.dimensions)
    inside = {_name(dim.key) for item in sometimes for dim in item.dimensions} - always.keys()
    dimensions = tuple(dim for name, dim in (known | always).items() if name not in inside)
    if not dimensions:
        raise UserError(
            "hydra/sweeper=search: nothing varies; give keys several values, as in "
            "'optimizer.lr=tag(log,interval(1e-4,1e-2))' 'model.latent_size=range(2,64)'."
        )
    outside = [line for name, line in fixed.items() if name not in inside]
    return Space(dimensions, sometimes), {line.get_key_element(): _text(line) for line in outside}


class Says(NamedTuple):
    """What is said of keys outside `search.conditional`, by their names without a plus."""

    lines: dict[str, Override]  # of `search.space`
    swept: dict[str, Dimension]  # of the command line
    fixed: dict[str, Override]
    known: dict[str, Dimension]  # of both, without what is fixed


def _name(key: object) -> str:
    return str(key).lstrip("+~")


def _text(line: Override) -> str:
    return str(line.get_value_element_as_str())


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
    if config.is_of_all_runs(key):
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
        if not all(map(math.isfinite, (sweep.start, sweep.stop, every))):
            raise UserError(f"{line}: must be finite numbers.")
        if sweep.start != int(sweep.start):
            every = float(every)  # halves, say, in steps of 1 are no whole numbers
        count = math.ceil(round((sweep.stop - sweep.start) / every, 9))
        last = stepped(sweep.start, every, count - 1)
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
    if log and isinstance(step, float):
        raise UserError(f"{line}: with tag(log,range(...)) must be whole numbers, or an interval.")
    return numbers


def _condition(place: int, item: Any, says: Says) -> Condition:
    """Returns one item of `search.conditional` as the command line leaves it.

    Its `where` is what is left to be met; one that cannot be met has no dimensions.
    """
    where = f"search.conditional[{place}]"
    if not (OmegaConf.is_dict(item) and {*item} == {"where", "space"} and item.where and item.space):
        raise UserError(
            f"{where}: must be a mapping such as "
            "{where: {optimizer: sgd}, space: {optimizer.momentum: 'interval(0.5,0.99)'}}."
        )
    lines = {_name(key): _read(str(key), value, f"{where}.space") for key, value in item.space.items()}
    if twice := [name for name in lines if name in says.lines]:
        raise UserError(f"{where}: space: {twice[0]}: is in search.space already.")
    is_possible, left = True, dict[str, Value]()
    for key, value in item.where.items():
        name = _name(key)
        _check_possible(f"{where}: where: ", name, value, says)
        if name in says.fixed:
            is_possible &= says.fixed[name].value() == value
        else:
            is_possible &= says.known[name].has(value)
            left[says.known[name].key] = says.known[name].rounded(value)
    dims = {name: _narrowed(name, line, says) for name, line in lines.items()}
    if not left:  # what is fixed is so for all points
        dims = {name: dim for name, dim in dims.items() if name not in says.fixed}
    return Condition(left, tuple(dims.values()) if is_possible else ())


def _check_apart(conditions: Sequence[Condition]) -> None:
    """Raises a UserError for a key with two sets of values that can hold at once."""
    for (first, one), (second, other) in itertools.combinations(enumerate(conditions), 2):
        if any(one.where[key] != other.where[key] for key in one.where.keys() & other.where.keys()):
            continue
        dims = {_name(dim.key): dim for dim in one.dimensions}
        for dim in other.dimensions:
            if dims.get(_name(dim.key), dim) != dim:
                raise UserError(
                    f"search.conditional[{second}]: space: {_name(dim.key)}: has other values in "
                    f"search.conditional[{first}], which can hold at the same time; must be the same values, "
                    "or each `where` another value of one key."
                )


def _narrowed(name: str, line: Override, says: Says) -> Dimension:
    """Returns the dimension of a condition's line, or what the command line says in its place."""
    if name in says.fixed:
        return Dimension(says.fixed[name].get_key_element(), (_choice(_text(says.fixed[name])),))
    return says.swept.get(name) or dimension(line)


def _check_possible(where: str, name: str, value: object, says: Says) -> None:
    """Raises a UserError unless a key can have a value by the file, or by the command line."""
    if name not in says.known and name not in says.fixed:
        raise UserError(f"{where}{quoted(name)}: must be one of {', '.join({**says.known, **says.lines})}.")
    dims = [dimension(says.lines[name])] if name in says.lines else []
    dims += [says.swept[name]] if name in says.swept else []
    if dims and not any(dim.has(value) for dim in dims):
        first = dims[0]
        options = ", ".join(map(str, first.choices)) or f"those from {first.low:g} to {first.high:g}"
        raise UserError(f"{where}{name}: {quoted(value)}: must be one of {options}.")
