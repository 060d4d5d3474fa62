"""Runs of a multirun side by side: what was varied, and what each configuration came to."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from vae_lab.config import BASE
from vae_lab.errors import UserError, choices
from vae_lab.metrics import Metric, metric_named
from vae_lab.studies.plan import Plan
from vae_lab.studies.statistics import Test, anytime, chosen_test, is_of_architecture
from vae_lab.studies.study import POINT, Study, has_params, is_stopped
from vae_lab.studies.values import has_values, is_number
from vae_lab.tracking import (
    FINGERPRINT,
    StoredRun,
)

TOPICS = {"model.layers": "depth"}  # what a key is about, where its own name does not say so


@dataclass(frozen=True)
class Group:
    """The runs of one row: the replicates of a configuration, or of several that are averaged."""

    keys: dict[str, str]  # what tells this row from the others
    finished: list[StoredRun]
    failed: list[StoredRun]
    replicate: tuple[str, ...] = ("seed",)  # parameters that name a replicate
    pooled: tuple[str, ...] = ()  # varied parameters that rows of its table average over
    interrupted: Sequence[StoredRun] = ()
    stopped: Sequence[StoredRun] = ()  # early, by a search

    @property
    def runs(self) -> list[StoredRun]:
        """Those that have ended, however they did."""
        return [*self.finished, *self.failed, *self.interrupted, *self.stopped]

    def by_replicate(self, metric: str) -> dict[tuple[str, ...], float]:
        """The metric, or the parameter that is a number, of every finished replicate that has it.

        Where a row averages over configurations, a replicate counts if it has all that the row has. They are
        in order, as tests that look while seeds are added want them.
        """
        values: dict[tuple[str, ...], dict[tuple[str, ...], list[float]]] = {}
        for replicate, configuration, value in self._measured(metric):
            values.setdefault(replicate, {}).setdefault(configuration, []).append(value)
        averaged = set[tuple[str, ...]]().union(*values.values())
        return {
            replicate: _mean([_mean(repeated) for repeated in values[replicate].values()])
            for replicate in in_order(values)
            if values[replicate].keys() == averaged
        }

    def averaged(self, metric: str) -> frozenset[tuple[str, ...]]:
        """The values of `pooled` of every configuration that has the metric in some replicate."""
        return frozenset(configuration for _, configuration, _ in self._measured(metric))

    def _measured(self, metric: str) -> Iterator[tuple[tuple[str, ...], tuple[str, ...], float]]:
        for replicate, configuration, run in self._places:
            value = run.metrics.get(metric, run.params.get(metric, ""))
            if is_number(value):
                yield replicate, configuration, float(value)

    def values(self, metric: str) -> list[float]:
        """The values of `by_replicate`."""
        return list(self.by_replicate(metric).values())

    @cached_property
    def n(self) -> int:
        """How many replicates have a finished run."""
        return len({replicate for replicate, _, _ in self._places})

    @cached_property
    def _places(self) -> list[tuple[tuple[str, ...], tuple[str, ...], StoredRun]]:
        """Each finished run with its replicate and with which of the row's configurations it is of."""
        return [
            (param_values(run, self.replicate), param_values(run, self.pooled), run) for run in self.finished
        ]


class Comparison(NamedTuple):
    """Rows that differ in `by`; the best is sought among rows that share the keys of `within`."""

    title: str
    by: tuple[str, ...]
    within: tuple[str, ...]
    groups: list[Group]
    sequential: bool = False  # whether replicates were added while looking at the study

    def family(self, group: Group) -> tuple[str, ...]:
        """The values of the keys of `within`: rows that share them are compared with each other."""
        return tuple(group.keys.get(key, "") for key in self.within)

    def test(self, level: float) -> Test:
        """Returns the test of the difference between two rows: by the parameters in which rows differ.

        Args:
            level: Of all differences from one row together.
        """
        families: dict[tuple[str, ...], list[Group]] = {}
        for group in self.groups:
            if group.finished:
                families.setdefault(self.family(group), []).append(group)
        rows = max(families.values(), key=len, default=[])
        keys = [key for group in rows for key in group.finished[0].params if is_of_architecture(key)]
        test = chosen_test(
            key
            for key in dict.fromkeys(keys)
            if len({frozenset(run.params.get(key) for run in group.finished) for group in rows}) > 1
        )
        return anytime(test, level, max(1, len(rows) - 1)) if self.sequential else test

    def lines(self) -> list[list[Group]]:
        """The rows line by line, as a chart draws them: rows of one line differ in the last key only."""
        lines: dict[tuple[str, ...], list[Group]] = {}
        for group in self.groups:
            lines.setdefault(tuple(group.keys[key] for key in self.by[:-1]), []).append(group)
        return list(lines.values())


def in_order(replicates: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Returns replicates in the order in which seeds are added: numbers by size, then names.

    Examples:
        >>> in_order([("10",), ("base",), ("9",)])
        [('9',), ('10',), ('base',)]
    """
    return sorted(replicates, key=lambda values: [_rank(value) for value in values])


def _rank(value: str) -> tuple[float, str]:
    return (float(value) if is_number(value) else math.inf, value)


def param_values(run: StoredRun, keys: Iterable[str]) -> tuple[str, ...]:
    """A run's values of some parameters; empty texts where it has none."""
    return tuple([run.params.get(key, "") for key in keys])


def comparisons(study: Study, by: Sequence[str] = ()) -> list[Comparison]:
    """Returns the tables of a study: one for each key varied one at a time, else one over the crossed keys.

    Points that stand in `also` have a table of their own, beside the base.

    Args:
        study: the runs and their plan.
        by: keys to group by instead.

    Raises:
        UserError: a key in `by` is no parameter of the runs.

    Examples:
        >>> def run(layers, seed, loss):
        ...     params, metrics = {"model.layers": layers, "seed": seed}, {"test/loss": loss}
        ...     return StoredRun(f"{layers} {seed}", "1", "", "FINISHED", params, metrics, {}, 0)
        >>> plan = Plan("depth", cross={"model.layers": ["2", "3"]}, replicate={"seed": ["0", "1"]})
        >>> runs = [run("2", "0", 101.0), run("2", "1", 102.0), run("3", "0", 98.0)]
        >>> (depth,) = comparisons(Study(runs[0], plan, runs))
        >>> [(row.keys, row.values("test/loss")) for row in depth.groups]
        [({'model.layers': '2'}, [101.0, 102.0]), ({'model.layers': '3'}, [98.0])]
    """
    plan = study.plan
    # A table of hundreds of rows without numbers would say less than that of the search's own.
    runs = [run for run in study.runs if not (plan.search and is_stopped(run))]
    if by:
        known = sorted({key for run in runs for key in run.params})
        for key in by:
            if key not in known:
                raise UserError(f"--by {key}: the runs have no such parameter{choices(key, known)}")
        return [_comparison(_title(by), tuple(by), tuple(by[:-1]), runs, plan)]
    if plan.one_at_a_time or plan.also:
        return _around_the_base(study)
    keys = tuple(plan.cross) or tuple(plan.replicate) or ("model",)
    within = ("model",) if "model" in plan.cross else ()
    return [_comparison(_title(keys), keys, within, runs, plan)]


def _around_the_base(study: Study) -> list[Comparison]:
    """A table for each key that is varied one at a time, and one for the named points."""
    plan, runs = study.plan, study.runs
    cross, tables = tuple(plan.cross), []
    for key in plan.one_at_a_time:
        fixed = {name: value for name, value in plan.base.items() if name != key}
        varied = [run for run in runs if has_params(run, fixed)]
        tables.append(_comparison(f"{topic(key).capitalize()} ({key})", (*cross, key), cross, varied, plan))
    if plan.also:
        points = [run for run in runs if POINT in run.params]
        tables.append(_comparison("Named points", (*cross, POINT), cross, points, plan))
    return tables


def single_configuration(study: Study) -> Comparison | None:
    """Returns a study that varies nothing but what repeats its runs as one row; None of any other study."""
    plan = study.plan
    if varied_keys(plan) or not plan.replicate or len(study.runs) < 2:
        return None
    repeats = " and ".join(f"{key_name(key)}s" for key in plan.replicate)
    return _comparison(f"Over {repeats}", ("model",), (), study.runs, plan)


def groups_by_family(tables: Iterable[Comparison]) -> dict[tuple[str, ...], list[Group]]:
    """Returns the rows of all tables by their family, in the order of the tables."""
    rows: dict[tuple[str, ...], list[Group]] = {}
    for table in tables:
        for group in table.groups:
            rows.setdefault(table.family(group), []).append(group)
    return rows


def _title(keys: Iterable[str]) -> str:
    return ", ".join(map(key_name, keys))


def _comparison(
    title: str, by: tuple[str, ...], within: tuple[str, ...], runs: Iterable[StoredRun], plan: Plan
) -> Comparison:
    rows: dict[tuple[str, ...], list[StoredRun]] = {}
    for run in runs:
        rows.setdefault(param_values(run, by), []).append(run)
    replicate = tuple(key for key in plan.replicate or ("seed",) if key not in by)
    pooled = _pooled(by, rows.values(), plan)
    groups = []
    for values in _ordered(by, rows, plan):
        members = rows[values]
        finished = [run for run in members if run.status == "FINISHED"]
        done = {_attempted(run, replicate) for run in finished}  # some of them at a second attempt
        unfinished = [run for run in members if _attempted(run, replicate) not in done]
        failed = [run for run in unfinished if run.status == "FAILED"]
        stopped = [run for run in unfinished if is_stopped(run)]
        interrupted = [run for run in unfinished if run.status == "KILLED" and run not in stopped]
        keys = dict(zip(by, values, strict=True))
        groups.append(Group(keys, finished, failed, replicate, pooled, interrupted, stopped))
    return Comparison(title, by, within, groups, plan.sequential)


def _pooled(by: Sequence[str], rows: Collection[Sequence[StoredRun]], plan: Plan) -> tuple[str, ...]:
    """The varied parameters that rows average over: of which one has several values, or should have had.

    A row with one value of a crossed key, of which another row has other values, lacks those.
    """
    pooled = []
    for key in varied_keys(plan):
        values = [{run.params.get(key, "") for run in members} for members in rows]
        everywhere = len(set().union(*values))
        if key not in by and max((everywhere if key in plan.cross else 0, *map(len, values))) > 1:
            pooled.append(key)
    return tuple(pooled)


def _attempted(run: StoredRun, replicate: Sequence[str]) -> tuple[str, ...]:
    """What several attempts at one run share."""
    return run.tags.get(FINGERPRINT, run.run_id), *param_values(run, replicate)


def varied_keys(plan: Plan) -> list[str]:
    """Every key that tells configurations of a study apart."""
    further = (key for settings in plan.also.values() for key in settings)
    return list(dict.fromkeys((*plan.cross, *plan.one_at_a_time, *further)))


def _ordered(by: tuple[str, ...], rows: Collection[tuple[str, ...]], plan: Plan) -> list[tuple[str, ...]]:
    """Numbers by size, names as the study planned them; runs side by side end in any order."""
    planned = {**plan.cross, **plan.one_at_a_time, **plan.replicate, POINT: [BASE, *plan.also]}
    order = [
        list(dict.fromkeys([*planned.get(key, ()), *(row[i] for row in rows)])) for i, key in enumerate(by)
    ]

    def rank(row: tuple[str, ...]) -> list[tuple[float, int]]:
        return [
            (float(value) if is_number(value) else 0.0, order[i].index(value)) for i, value in enumerate(row)
        ]

    return sorted(rows, key=rank)


def key_name(key: str) -> str:
    """A key as a column heading.

    Examples:
        >>> key_name("model.latent_size"), key_name("optimizer.weight_decay")
        ('latent size', 'weight decay')
    """
    return key.rpartition(".")[2].replace("_", " ")


def topic(key: str) -> str:
    """What a key is about: `depth` for model.layers, else its column heading."""
    return TOPICS.get(key, key_name(key))


def requested_metrics(
    keys: Sequence[str], runs: Iterable[StoredRun], own: Iterable[Metric] = ()
) -> list[Metric]:
    """Returns the metrics with these names, of which `own` are the user's.

    Raises:
        UserError: no run has such a metric.
    """
    logged = {key for run in runs for key in run.metrics}
    for key in keys:
        if key not in logged:
            raise UserError(f"--metric {key}: no run has it{choices(key, logged)}")
    defined = list(own)
    return [metric_named(key, defined) for key in keys]


def reference_values(plan: Plan, group: Group) -> list[float] | None:
    """Returns the published values of the same configuration, one an epoch, if the study names any.

    They apply only to runs that meet the reference's `conditions`, such as data: mnist, and to a row that
    averages over configurations only where they are of all of them.
    """
    if plan.reference is None or not group.finished:
        return None
    for params, values in plan.reference.curves():
        wanted = {**plan.reference.conditions, **params}
        if all(has_values(run.params, wanted) for run in group.finished):
            return values
    return None


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
