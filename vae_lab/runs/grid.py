"""The points of a multirun: what varies, every combination of it, each composed and checked."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from vae_lab import config
from vae_lab.config import SHOWN_IN_EVERY_NAME
from vae_lab.errors import UserError, quoted

REPLICATED = "seed"  # a list of seeds given on the command line repeats every point
MOST_RUNS = 10_000  # of a multirun; composing and checking a point takes milliseconds


class Axes(NamedTuple):
    """What varies: key to values, as texts of Hydra's override grammar, and what is set for all points."""

    fixed: dict[str, str]
    cross: dict[str, list[str]]
    one_at_a_time: dict[str, list[str]]
    replicate: dict[str, list[str]]
    also: dict[str, dict[str, str]] = {}  # noqa: RUF012  further points by name, each with what it sets


class Point(NamedTuple):
    """One run to be or to be reused: its name, its overrides and its checked config."""

    name: str
    overrides: list[str]
    settings: DictConfig
    names: tuple[str, ...] = ()  # in `sweep.also`


def axes(
    sweep: DictConfig, overrides: Sequence[Override], parser: OverridesParser, seeds: Any = None
) -> Axes:
    """The axes of a config's `sweep`, as the command line's overrides leave them.

    A key given once on the command line is fixed for all points and leaves its axis; a key given as a list
    replaces the values of its axis, or is crossed if it is in none (`seed` replicates). `seeds` replicates
    every point with that many seeds.
    """
    cross, one_at_a_time, replicate = (
        {key: _values(key, value, parser) for key, value in sweep[kind].items()}
        for kind in ("cross", "one_at_a_time", "replicate")
    )
    found = Axes(
        fixed={},
        cross=cross,
        one_at_a_time=one_at_a_time,
        replicate=replicate,
        also={name: _settings(name, settings) for name, settings in (sweep.get("also") or {}).items()},
    )
    if seeds is not None:
        found.replicate[REPLICATED] = [str(seed) for seed in range(seeds)]
    declared = (found.cross, found.one_at_a_time, found.replicate)
    for override in overrides:
        key = override.get_key_element()
        home = next((axis for axis in declared if key in axis), None)
        if override.is_sweep_override():
            target = home if home is not None else found.replicate if key == REPLICATED else found.cross
            target[key] = _listed(override)
        else:
            if home is not None:
                del home[key]
            for settings in found.also.values():
                settings.pop(key, None)
            found.fixed[key] = override.get_value_element_as_str()
    return found


def _listed(override: Override) -> list[str]:
    """The values that an override of several stands for."""
    line = quoted(override.input_line)
    if not override.is_discrete_sweep():
        raise UserError(f"{line}: this sweep takes lists, choice(...) and range(...) only.")
    try:
        sweep = override.value()
        if isinstance(sweep, RangeSweep):  # counted first, as a shuffled one is made whole
            count = sum(1 for _ in itertools.islice(sweep.range(), MOST_RUNS + 1))
            if count > MOST_RUNS:
                raise UserError(f"{line}: must be at most {MOST_RUNS} values.")
        found = list(override.sweep_string_iterator())
    except (HydraException, ArithmeticError, ValueError, TypeError) as error:
        raise error if isinstance(error, UserError) else UserError(f"{line}: {quoted(error, 300)}") from None
    if not found:
        raise UserError(f"{line}: must be one value at least.")
    return found


def _settings(name: str, settings: Any) -> dict[str, str]:
    """What a point of `sweep.also` sets."""
    if not re.fullmatch(config.POINT_NAME, str(name)) or name == config.BASE:
        raise UserError(
            f"sweep.also: {quoted(name)}: a point's name must be letters, digits, spaces and _ + - "
            f"(40 at most, not {config.BASE}), since it begins the names of its runs."
        )
    if not OmegaConf.is_dict(settings) or not settings:
        raise UserError(
            f"sweep.also.{name}: must map keys to one value each, as in {{model.latent_size: 100}}."
        )
    return {
        str(key): _element(OmegaConf.to_container(value) if OmegaConf.is_list(value) else value)
        for key, value in settings.items()
    }


def _values(key: str, value: Any, parser: OverridesParser) -> list[str]:
    """The values of an axis in a YAML file: a list, or a text such as `2,3,4` or `range(2,5)`."""
    if OmegaConf.is_list(value):
        if len(value) == 0:
            raise UserError(f"sweep: {key} has an empty list of values.")
        return [_element(item) for item in OmegaConf.to_container(value)]  # type: ignore[union-attr]
    (override,) = parser.parse_overrides([f"{key}={value}"])
    if override.is_sweep_override():
        return _listed(override)
    return [override.get_value_element_as_str()]


def _element(item: object) -> str:
    if item is None:
        return "null"
    if isinstance(item, bool):
        return str(item).lower()
    if isinstance(item, list):
        return f"[{','.join(map(_element, item))}]"
    return str(item)


def combinations(axes: Axes) -> list[tuple[str, dict[str, str]]]:
    """Every point's values, seeds outermost: after the first round each configuration has run once.

    The base of the axes that vary one at a time comes first in each of its families; values equal to the
    base's come again here and are dropped once the configs are composed. A point of `also` comes once in
    each family too, but what it sets goes before what is crossed. Before the values stands what makes the
    point: the key that leaves the base, or its name in `also`.
    """
    sizes = {key: len(values) for axis in (axes.replicate, axes.cross) for key, values in axis.items()}
    singles = 1 + sum(map(len, axes.one_at_a_time.values())) + len(axes.also)
    if (count := math.prod(sizes.values()) * singles) > MOST_RUNS:
        told = ", ".join(f"{key} with {size} values" for key, size in sizes.items() if size > 1)
        raise UserError(
            f"{quoted(told or 'sweep', 300)}: {count} runs; must be at most {MOST_RUNS} in a multirun."
        )
    alone = [
        ("", {}),
        *((key, {key: value}) for key, values in axes.one_at_a_time.items() for value in values),
        *axes.also.items(),
    ]
    return [
        (own, {**axes.fixed, **crossed, **replica, **single})
        for replica in _grid(axes.replicate)
        for crossed in _grid(axes.cross)
        for own, single in alone
    ]


def _grid(values: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]


def points(
    axes: Axes, compose: Callable[[list[str]], DictConfig], choices: Mapping[str, Any] | None = None
) -> list[Point]:
    """The distinct points, composed and checked, each run named by what tells it apart.

    Args:
        axes: what varies.
        compose: overrides to a config.
        choices: the option of each config group where a point names none.

    Raises:
        UserError: the first point that is not valid, with its overrides.
    """
    found: dict[tuple[tuple[str, str], ...], Point] = {}
    for own, values in combinations(axes):
        overrides = [f"{key}={value}" for key, value in values.items()]
        settings = config.checked(compose(overrides))
        telling = {key: _shown(key, values, settings, choices or {}) for key in _telling(axes, own)}
        name = config.run_name(settings, telling)
        name = config.quotable(f"{own} {name}" if own in axes.also else name)
        identity = tuple(config.parameters(settings).items())
        made = found.get(identity) or Point(name, [*overrides, f"tracking.run_name='{name}'"], settings)
        found[identity] = made._replace(names=(*made.names, own)) if own in axes.also else made
    return list(found.values())


def _telling(axes: Axes, own: str) -> list[str]:
    """The varied keys in a point's name: of many that vary one at a time, only the one that left the base."""
    if own in axes.also:
        return list(axes.cross)
    alone = [key for key in axes.one_at_a_time if key not in SHOWN_IN_EVERY_NAME]
    return [*axes.cross, *(alone if len(alone) == 1 else [key for key in alone if key == own])]


def _shown(key: str, values: Mapping[str, str], settings: DictConfig, choices: Mapping[str, Any]) -> str:
    """A varied key's value as names show it: a group by its option, anything else as it was composed."""
    value = OmegaConf.select(settings, key)
    if OmegaConf.is_dict(value) or value is None:
        return values.get(key, str(choices.get(key)))
    return f"{value:g}" if isinstance(value, float) else str(value).replace(" ", "")
