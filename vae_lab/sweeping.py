"""A multirun from its axes to its parent run: every point checked first, every result kept."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

from vae_lab import claims, config, progress, report, tables, tracking
from vae_lab.comparison import PLAN_FILE, Plan
from vae_lab.errors import LabError, UserError
from vae_lab.evaluating import add, wants_measures
from vae_lab.run import prepare
from vae_lab.tracking import Record, Recorder, Store

REPLICATED = "seed"  # a list of seeds given on the command line repeats every point


class Axes(NamedTuple):
    """What varies: key to values, as texts of Hydra's override grammar, and what is set for all points."""

    fixed: dict[str, str]
    cross: dict[str, list[str]]
    one_at_a_time: dict[str, list[str]]
    replicate: dict[str, list[str]]


class Point(NamedTuple):
    """One run to be or to be reused: its name, its overrides and its checked config."""

    name: str
    overrides: list[str]
    settings: DictConfig


class SweepError(LabError):
    """Some runs of a multirun failed; the others are kept."""


def axes(
    sweep: DictConfig, overrides: Sequence[Override], parser: OverridesParser, seeds: int | None = None
) -> Axes:
    """The axes of a config's `sweep`, as the command line's overrides leave them.

    A key given once on the command line is fixed for all points and leaves its axis; a key given as a list
    replaces the values of its axis, or is crossed if it is in none (`seed` replicates). `seeds` replicates
    every point with that many seeds.
    """
    found = Axes(
        {},
        *(
            {key: _values(key, value, parser) for key, value in sweep[kind].items()}
            for kind in ("cross", "one_at_a_time", "replicate")
        ),
    )
    if seeds is not None:
        found.replicate[REPLICATED] = [str(seed) for seed in range(seeds)]
    declared = (found.cross, found.one_at_a_time, found.replicate)
    for override in overrides:
        key = override.get_key_element()
        home = next((axis for axis in declared if key in axis), None)
        if override.is_sweep_override():
            if not override.is_discrete_sweep():
                raise UserError(
                    f"{override.input_line}: this sweep takes lists, choice(...) and range(...) only."
                )
            target = home if home is not None else found.replicate if key == REPLICATED else found.cross
            target[key] = list(override.sweep_string_iterator())
        else:
            if home is not None:
                del home[key]
            found.fixed[key] = override.get_value_element_as_str()
    return found


def _values(key: str, value: Any, parser: OverridesParser) -> list[str]:
    """The values of an axis in a YAML file: a list, or a text such as `2,3,4` or `range(2,5)`."""
    if OmegaConf.is_list(value):
        if len(value) == 0:
            raise UserError(f"sweep: {key} has an empty list of values.")
        return [_element(item) for item in OmegaConf.to_container(value)]  # type: ignore[union-attr]
    (override,) = parser.parse_overrides([f"{key}={value}"])
    if override.is_discrete_sweep():
        return list(override.sweep_string_iterator())
    return [override.get_value_element_as_str()]


def _element(item: object) -> str:
    if item is None:
        return "null"
    if isinstance(item, bool):
        return str(item).lower()
    if isinstance(item, list):
        return f"[{','.join(map(_element, item))}]"
    return str(item)


def combinations(axes: Axes) -> list[dict[str, str]]:
    """Every point's values, seeds outermost: after the first round each configuration has run once.

    The base of the axes that vary one at a time comes first in each of its families; values equal to the
    base's come again here and are dropped once the configs are composed.
    """
    alone = [{}, *({key: value} for key, values in axes.one_at_a_time.items() for value in values)]
    return [
        {**axes.fixed, **crossed, **replica, **single}
        for replica in _grid(axes.replicate)
        for crossed in _grid(axes.cross)
        for single in alone
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
    varied = [*axes.cross, *axes.one_at_a_time]
    found: dict[tuple[tuple[str, str], ...], Point] = {}
    for values in combinations(axes):
        overrides = [f"{key}={value}" for key, value in values.items()]
        settings = config.checked(compose(overrides))
        shown = {key: _shown(key, values, settings, choices or {}) for key in varied}
        name = config.run_name(settings, shown).replace("'", "")
        identity = tuple(config.parameters(settings).items())
        found.setdefault(identity, Point(name, [*overrides, f"tracking.run_name='{name}'"], settings))
    return list(found.values())


def _shown(key: str, values: Mapping[str, str], settings: DictConfig, choices: Mapping[str, Any]) -> str:
    """A varied key's value as names show it: a group by its option, anything else as it was composed."""
    value = OmegaConf.select(settings, key)
    if OmegaConf.is_dict(value) or value is None:
        return values.get(key, str(choices.get(key)))
    return f"{value:g}" if isinstance(value, float) else str(value).replace(" ", "")


def plan(master: DictConfig, axes: Axes, made: Sequence[Point], name: str) -> Plan:
    """What the multirun sets out to do, as its parent run keeps it."""
    base = config.parameters(made[0].settings)
    study = OmegaConf.to_container(master.study, resolve=True)
    assert isinstance(study, dict)
    return Plan(
        name=name,
        question=study["question"],
        cross=axes.cross,
        one_at_a_time=axes.one_at_a_time,
        replicate=axes.replicate or {REPLICATED: [str(made[0].settings.seed)]},
        base={key: base[key] for key in axes.one_at_a_time if key in base},
        reference=study["reference"],
        claims=study["claims"],
    )


def study_name(master: DictConfig, axes: Axes) -> str:
    """The study's name, else the sweep's file name, else the keys that vary."""
    chosen = OmegaConf.select(master, "hydra.runtime.choices.sweeps")
    keys = [*axes.cross, *axes.one_at_a_time, *axes.replicate]
    return str(
        master.study.name or chosen or " x ".join(key.rpartition(".")[2] for key in keys) or "multirun"
    )


def sweep(
    master: DictConfig,
    arguments: Sequence[str],
    parser: OverridesParser,
    compose: Callable[[list[str]], DictConfig],
    launch: Callable[[list[list[str]]], Sequence[JobReturn]],
) -> Sequence[JobReturn]:
    """Runs a multirun and gives its parent run the tables and pictures, whatever failed.

    Args:
        master: the composed config of the multirun, with its `hydra` node.
        arguments: the command line's overrides.
        parser: for those, and for the values in `master.sweep`.
        compose: overrides of a point to its config.
        launch: overrides of all points to their results.

    Raises:
        UserError: a point is not valid; nothing has been trained or written.
        SweepError: some runs failed.
    """
    found = axes(master.sweep, parser.parse_overrides(list(arguments)), parser, master.seeds)
    claims.parse(OmegaConf.to_container(master.study, resolve=True)["claims"])  # type: ignore[index, call-overload]
    with progress.busy("Checking every run's settings and the data"):
        made = points(found, compose, OmegaConf.select(master, "hydra.runtime.choices"))
        fingerprints = [prepare(point.settings).fingerprint for point in made]
    tracked = made[0].settings.tracking
    store = Store.open(tracked.uri, create=True)
    there = {} if master.reuse == "never" else _finished(store, fingerprints)
    missing = [
        point for point, fingerprint in zip(made, fingerprints, strict=True) if fingerprint not in there
    ]
    name = study_name(master, found)
    recorder = store.start(tracked.experiment, name, kind=tracking.SWEEP, tags={tracking.STUDY: name})
    with recorder.artifacts() as folder:
        (folder / PLAN_FILE).write_text(plan(master, found, made, name).to_json())
    for record in there.values():
        store.client.set_tag(record.run_id, tracking.member_tag(recorder.run_id), "1")
    if there:
        rest = f"training {len(missing)}" if missing else "nothing is left to train"
        progress.console.print(
            f"{len(there)} of {len(made)} runs are there already, {rest} (reuse=never trains all)."
        )
    for point, fingerprint in zip(made, fingerprints, strict=True):
        if fingerprint in there and wants_measures(point.settings):
            add(store, there[fingerprint], point.name, point.settings)
    belongs = [f"tracking.parent_run_id={recorder.run_id}", f"tracking.study='{name}'"]
    status = "KILLED"
    results: Sequence[JobReturn] = []
    try:
        if missing:
            with progress.shown(len(missing), sum(point.settings.train.epochs for point in missing)):
                results = launch([[*point.overrides, *belongs] for point in missing])
        failures = [
            (point, result)
            for point, result in zip(missing, results, strict=True)
            if result.status != JobStatus.COMPLETED
        ]
        status = "FAILED" if failures else "FINISHED"
    finally:
        _conclude(store, recorder, name, status)
    if failures:
        lines = [f"  {point.name}: {_error(result)}" for point, result in failures]
        raise SweepError("\n".join([f"{len(failures)} of {len(missing)} runs failed:", *lines]))
    return results


def _finished(store: Store, fingerprints: Sequence[str]) -> dict[str, Record]:
    found = {fingerprint: store.finished(fingerprint) for fingerprint in fingerprints}
    return {fingerprint: record for fingerprint, record in found.items() if record is not None}


def _error(result: JobReturn) -> str:
    error = result._return_value  # the property would raise it
    return (str(error) or type(error).__name__).splitlines()[0]


def _conclude(store: Store, recorder: Recorder, name: str, status: str) -> None:
    """The end of every multirun: tables and pictures on the parent run and in the terminal."""
    try:
        made = report.conclude(store, recorder)
    finally:
        recorder.finish(status)
    terminal = tables.console()
    for table in made:
        terminal.print()
        tables.show(table, terminal)
    sheet = store.place(recorder.run_id, "figures/contact_sheet.png")
    terminal.print(f"\nContact sheet  {sheet}", soft_wrap=True, highlight=False)
    terminal.print(
        f"Tables again   vae-lab compare {name if ' ' not in name else recorder.run_id}", highlight=False
    )
    terminal.print("In the browser vae-lab ui", highlight=False)
