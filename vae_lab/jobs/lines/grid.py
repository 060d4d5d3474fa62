"""The points of a multirun: what varies, and every combination of it as a checked and named job."""

from __future__ import annotations

import gc
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf

from vae_lab import config
from vae_lab.config import SHOWN_IN_EVERY_NAME
from vae_lab.errors import UserError, quoted
from vae_lab.jobs import grammar
from vae_lab.jobs.job import Job
from vae_lab.jobs.lines.model_names import check_model_names

REPLICATED = "seed"  # a list of seeds given on the command line repeats every point
MOST_RUNS = 10_000  # of a multirun; to compose, check and prepare so many takes a minute

Identity = tuple[tuple[str, str], ...]  # the parameters of a point


class Axes(NamedTuple):
    """What varies: key to values, as texts of Hydra's override grammar, and what is set for all points."""

    fixed: dict[str, str]
    cross: dict[str, list[str]]
    one_at_a_time: dict[str, list[str]]
    replicate: dict[str, list[str]]
    also: dict[str, dict[str, str]] = {}  # noqa: RUF012  further points by name, each with what it sets
    prefixes: dict[str, str] = {}  # noqa: RUF012  of keys that are added, + or ++, or deleted, ~

    def overrides(self, values: Mapping[str, str]) -> list[str]:
        """Returns the values of a point as Hydra's overrides."""
        return [_override(self.prefixes.get(key, ""), key, value) for key, value in values.items()]


def axes(
    sweep: DictConfig, overrides: Sequence[Override], parser: OverridesParser, seeds: Any = None
) -> Axes:
    """Returns the axes of a config's `sweep`, as the command line's overrides leave them.

    A key given once on the command line is fixed for all points and leaves its axis; a key given as a list
    replaces the values of its axis, or is crossed if it is in none (`seed` replicates). `seeds` replicates
    every point with that many seeds. A key is the same key with and without a plus before it.

    Raises:
        UserError: An axis has no values, or is of a key that is of the multirun as a whole.
    """
    prefixes: dict[str, str] = {}
    cross, one_at_a_time, replicate = (
        {
            _plain(key, prefixes): _option_names(key, _values(key, value, parser))
            for key, value in sweep[kind].items()
        }
        for kind in ("cross", "one_at_a_time", "replicate")
    )
    also = {
        name: {
            _plain(key, prefixes): _option_names(key, [value])[0]
            for key, value in _settings(name, settings).items()
        }
        for name, settings in (sweep.get("also") or {}).items()
    }
    declared = Axes({}, cross, one_at_a_time, replicate, also, prefixes)
    for key in (*cross, *one_at_a_time, *replicate, *(key for settings in also.values() for key in settings)):
        _check_varies(key, f"sweep: {key}")
    if seeds is not None:
        declared.replicate[REPLICATED] = [str(seed) for seed in range(seeds)]
    for override in overrides:
        _override_axes(declared, _plain(override.get_key_element(), prefixes), override)
    return declared


def _override_axes(axes: Axes, key: str, override: Override) -> None:
    """Gives a key of the command line its place among the axes, or among what is fixed."""
    several = (axes.cross, axes.one_at_a_time, axes.replicate)
    home = next((axis for axis in several if key in axis), None)
    if override.is_sweep_override():
        _check_varies(key, quoted(override.input_line))
        target = home if home is not None else axes.replicate if key == REPLICATED else axes.cross
        target[key] = listed(override)
        return
    if home is not None:
        del home[key]
    for settings in axes.also.values():
        settings.pop(key, None)
    value = _joined(axes.fixed.pop(key, None), override)
    axes.fixed[key] = value  # as the last, so that it goes before what was set above or below it


def _check_varies(key: str, blamed: str) -> None:
    if config.is_of_all_runs(key):
        raise UserError(f"{blamed}: is of the multirun as a whole; give one value, and a command for each.")


def check_threads(jobs: Iterable[Job]) -> None:
    """Checks that the runs of a multirun or a search are asked to have one number of CPU threads.

    They share the cores, and a run is no other by it: with several, one would be taken for another.

    Raises:
        UserError: They are asked to have several.
    """
    threads = {job.settings.train.threads: None for job in jobs}
    if len(threads) > 1:
        values = ",".join("null" if number is None else str(number) for number in threads)
        raise UserError(
            f"train.threads={values}: is of all runs together, which share the cores; give one value, and "
            "with reuse=never a command for each."
        )


def _joined(before: str | None, override: Override) -> str:
    """Returns the value of an override; mappings given one after the other are one, as in a single run."""
    earlier = None if before is None else grammar.read(before).value()
    value = override.value()
    if isinstance(earlier, dict) and isinstance(value, dict):
        return grammar.written(OmegaConf.to_container(OmegaConf.merge(earlier, value)))
    return str(override.get_value_element_as_str())


def _plain(key: str, prefixes: dict[str, str]) -> str:
    """Returns a key without its plus or tilde, which is noted in `prefixes`."""
    plain = key.lstrip("+~")
    if prefix := key.removesuffix(plain):
        prefixes[plain] = prefix
    else:
        prefixes.pop(plain, None)
    return plain


def _option_names(key: str, values: list[str]) -> list[str]:
    """Returns the values of a key as Hydra takes them, of a config group null by the option's name."""
    plain = key.lstrip("+~")
    if plain in config.STUDY_GROUPS:
        raise UserError(
            f"sweep: {plain}: is no axis, as each of its options is a study; give several on the command "
            f"line, as in {plain}=A,B."
        )
    optional = plain in config.OPTIONAL_GROUPS
    return [config.NOTHING if optional and value == "null" else value for value in values]


def _override(prefix: str, key: str, value: str) -> str:
    return f"~{key}" if prefix == "~" else f"{prefix}{key}={value}"


def listed(override: Override) -> list[str]:
    """Returns the values that an override of several stands for."""
    line = quoted(override.input_line)
    if not override.is_discrete_sweep():
        raise UserError(f"{line}: this sweep takes lists, choice(...) and range(...) only.")
    try:
        sweep = override.value()
        if isinstance(sweep, RangeSweep):  # counted first, as a shuffled one is made whole
            count = sum(1 for _ in itertools.islice(sweep.range(), MOST_RUNS + 1))
            if count > MOST_RUNS:
                raise UserError(f"{line}: must be at most {MOST_RUNS} values.")
        values = list(override.sweep_string_iterator())
    except (HydraException, ArithmeticError, ValueError, TypeError) as error:
        raise UserError(f"{line}: {quoted(error, 300)}") from None
    if not values:
        raise UserError(f"{line}: must be one value at least.")
    return values


def _settings(name: str, settings: Any) -> dict[str, str]:
    """Returns what a point of `sweep.also` sets."""
    if not re.fullmatch(config.POINT_NAME, str(name)) or name == config.BASE:
        raise UserError(
            f"sweep.also: {quoted(name)}: a point's name must be letters, digits, spaces and _ + - "
            f"(40 at most, not {config.BASE}), since it begins the names of its runs."
        )
    if not OmegaConf.is_dict(settings) or not settings:
        raise UserError(
            f"sweep.also.{name}: must map keys to one value each, as in {{model.latent_size: 100}}."
        )
    return {str(key): _written(str(key), _plain_value(value)) for key, value in settings.items()}


def _values(key: str, value: Any, parser: OverridesParser) -> list[str]:
    """Returns the values of an axis in a YAML file: a list, or a text such as `2,3,4` or `range(2,5)`."""
    if isinstance(value, str):
        with suppress(OverrideParseException):  # then it is one text, such as größe
            (override,) = parser.parse_overrides([f"{key}={value}"])
            if override.is_sweep_override():
                return listed(override)
    items = _plain_value(value)
    if items == []:
        raise UserError(f"sweep: {key} has an empty list of values.")
    return [_written(key, item) for item in (items if isinstance(items, list) else [items])]


def _plain_value(value: Any) -> Any:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def _written(key: str, item: object) -> str:
    return grammar.written(item, of_text=key.lstrip("+") in config.TEXT_KEYS)


def combinations(axes: Axes) -> list[tuple[str, dict[str, str]]]:
    """Returns every point's values, seeds outermost: after the first round each configuration has run once.

    The base of the axes that vary one at a time comes first in each of its families; values equal to the
    base's come again here and are dropped once the configs are composed. A point of `also` comes once in
    each family too, but what it sets goes before what is crossed. Before the values stands what makes the
    point: the key that leaves the base, or its name in `also`.
    """
    sizes = {key: len(values) for axis in (axes.replicate, axes.cross) for key, values in axis.items()}
    singles = 1 + sum(map(len, axes.one_at_a_time.values())) + len(axes.also)
    if (count := math.prod(sizes.values()) * singles) > MOST_RUNS:
        counts = ", ".join(f"{key} with {size} values" for key, size in sizes.items() if size > 1)
        raise UserError(
            f"{quoted(counts or 'sweep', 300)}: {count} runs; must be at most {MOST_RUNS} in a multirun."
        )
    alone = [
        ("", {}),
        *((key, {key: value}) for key, values in axes.one_at_a_time.items() for value in values),
        *axes.also.items(),
    ]
    return [
        (departure, {**axes.fixed, **crossed, **replica, **single})
        for replica in _product(axes.replicate)
        for crossed in _product(axes.cross)
        for departure, single in alone
    ]


def _product(values: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]


@contextmanager
def _without_collection() -> Iterator[None]:
    """Looks for no garbage in the block: among thousands of configs it takes a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_without_collection()
def jobs(
    axes: Axes,
    compose: Callable[[list[str]], DictConfig],
    choices: Mapping[str, Any] | None = None,
    known: dict[Identity, Job] | None = None,
    hydra_words: tuple[str, ...] = (),
) -> list[Job]:
    """Returns the distinct points, composed and checked, each named by what tells it apart.

    Args:
        axes: What varies.
        compose: Overrides to a config.
        choices: The option of each config group where a point names none.
        known: Jobs of earlier calls with other seeds, taken as they are; those of this call are added.
        hydra_words: What the line said to Hydra itself.

    Raises:
        UserError: The first point that is not valid, with its overrides; models that share a name; several
            numbers of threads.
    """
    distinct: dict[Identity, Job] = {}
    known = {} if known is None else known
    for departure, values in combinations(axes):
        overrides = axes.overrides(values)
        settings = config.checked(compose(overrides))
        identity = tuple(config.parameters(settings).items())
        job = distinct.get(identity) or known.get(identity)
        if job is None:
            in_name = {
                key: _value(key, values, settings, choices or {}) for key in _keys_in_name(axes, departure)
            }
            name = config.run_name(settings, in_name)
            name = config.quotable(f"{departure} {name}" if departure in axes.also else name)
            job = Job(settings, name, tuple(overrides), hydra_words=hydra_words)
        if departure in axes.also and departure not in job.points:
            job = replace(job, points=(*job.points, departure))
        distinct[identity] = known[identity] = job
    check_model_names(distinct.values())
    check_threads(distinct.values())
    return list(distinct.values())


def _keys_in_name(axes: Axes, departure: str) -> list[str]:
    """Returns the varied keys in a point's name: of many varied one at a time, the one that left the base."""
    if departure in axes.also:
        return list(axes.cross)
    alone = [key for key in axes.one_at_a_time if key not in SHOWN_IN_EVERY_NAME]
    return [*axes.cross, *(alone if len(alone) == 1 else [key for key in alone if key == departure])]


def _value(key: str, values: Mapping[str, str], settings: DictConfig, choices: Mapping[str, Any]) -> str:
    """Returns a varied key's value as names show it: a group by its option, anything else as composed."""
    value = OmegaConf.select(settings, key)
    if OmegaConf.is_dict(value) or value is None:
        return values.get(key, str(choices.get(key)))
    return f"{value:g}" if isinstance(value, float) else str(value).replace(" ", "")
