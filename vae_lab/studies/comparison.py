"""Runs of a multirun side by side: what was varied, and what each configuration came to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from vae_lab.config import BASE
from vae_lab.errors import LabError, UserError, choices, quoted
from vae_lab.metrics import Metric, metric_named
from vae_lab.studies.plan import PLAN_FILE, Plan
from vae_lab.tracking import FINGERPRINT, KIND, STUDY, SWEEP, Reader, StoredRun

POINT = "point"  # a parameter that runs have within a study only: which of its named points they are


TOPICS = {"model.layers": "depth"}  # what a key is about, where its own name does not say so
KEY_NAMES = {
    "model.latent_size": "latent size",
    "model.hidden_size": "hidden size",
    "train.batch_size": "batch size",
}


class Group(NamedTuple):
    """The runs of one row: the replicates of a configuration, or of several that are averaged."""

    keys: dict[str, str]  # what tells this row from the others
    finished: list[StoredRun]
    lost: list[StoredRun]  # that failed or were killed
    replicate: tuple[str, ...] = ("seed",)  # parameters that name a replicate
    pooled: tuple[str, ...] = ()  # varied parameters that do not tell rows apart

    def by_replicate(self, metric: str) -> dict[tuple[str, ...], float]:
        """The metric, or the parameter that is a number, of every finished replicate that has it.

        Where a row averages over configurations, a replicate counts if it has all that the row has.
        """
        found: dict[tuple[str, ...], dict[tuple[str, ...], list[float]]] = {}
        for run in self.finished:
            value = run.metrics.get(metric, run.params.get(metric, ""))
            if is_number(value):
                name = tuple([run.params.get(key, "") for key in self.replicate])
                part = tuple([run.params.get(key, "") for key in self.pooled])
                found.setdefault(name, {}).setdefault(part, []).append(float(value))
        whole = {part for parts in found.values() for part in parts}
        return {
            name: _mean([_mean(values) for values in parts.values()])
            for name, parts in found.items()
            if parts.keys() == whole
        }

    def values(self, metric: str) -> list[float]:
        """The values of `by_replicate`."""
        return list(self.by_replicate(metric).values())

    @property
    def replicates(self) -> int:
        """How many there are with a finished run."""
        return len({tuple(run.params.get(key, "") for key in self.replicate) for run in self.finished})


class Comparison(NamedTuple):
    """Rows that differ in `by`; the best is sought among rows that share the keys of `within`."""

    title: str
    by: tuple[str, ...]
    within: tuple[str, ...]
    groups: list[Group]


class Study(NamedTuple):
    """A multirun as it was read back: its parent, its plan and its runs."""

    parent: StoredRun
    plan: Plan
    runs: list[StoredRun]


def load_study(store: Reader, name: str) -> Study:
    """The newest multirun of a study, or the one whose parent run has this id (or its first letters).

    Of its runs those whose process is gone are closed as interrupted.

    Raises:
        UserError: the store has neither.
    """
    parents = store.tagged(KIND, SWEEP)
    chosen = next((each for each in parents if each.tags.get(STUDY) == name), None)
    if chosen is None and len(name) >= 6:
        chosen = next((each for each in parents if each.run_id.startswith(name)), None)
    if chosen is None:
        known = {each.tags.get(STUDY, "") for each in parents}
        raise UserError(f"{quoted(name)}: no such study or parent run in {store.uri}{choices(name, known)}")
    try:
        plan = Plan.from_json(store.download(chosen.run_id, PLAN_FILE).read_text())
    except (OSError, ValueError) as error:
        raise LabError(f"{chosen.run_id}: its {PLAN_FILE} cannot be read: {error}") from error
    runs = store.members(chosen.run_id)
    if store.close_gone([chosen, *runs]):
        return load_study(store, chosen.run_id)
    # In the plan's order: that in which they began is another each time, where runs share the machine.
    places = {(fingerprint, name): place for place, (fingerprint, name) in enumerate(plan.runs)}
    runs.sort(key=lambda run: places.get((run.tags.get(FINGERPRINT, ""), run.name), len(places)))
    return Study(chosen, plan, [placed(run, plan) for run in runs])


def placed(run: StoredRun, plan: Plan) -> StoredRun:
    """The run with the parameter POINT, if it is the base or a point of `also` in a study that has such."""
    named: dict[str, dict[str, str]] = {BASE: {}, **plan.also} if plan.also else {}
    for name, settings in named.items():
        if all(run.params.get(key) == value for key, value in {**plan.base, **settings}.items()):
            return replace(run, params={**run.params, POINT: name})
    return run


def comparisons(study: Study, by: Sequence[str] = ()) -> list[Comparison]:
    """The tables of a study: one for each key varied one at a time, else one over the crossed keys.

    Points that stand in `also` have a table of their own, beside the base.

    Args:
        study: the runs and their plan.
        by: keys to group by instead.

    Raises:
        UserError: a key in `by` is no parameter of the runs.
    """
    plan, runs = study.plan, study.runs
    cross = tuple(plan.cross)
    if by:
        known = sorted({key for run in runs for key in run.params})
        for key in by:
            if key not in known:
                raise UserError(f"--by {key}: the runs have no such parameter{choices(key, known)}")
        return [_compare(", ".join(map(key_name, by)), tuple(by), tuple(by[:-1]), runs, plan)]
    if not plan.one_at_a_time and not plan.also:
        keys = cross or tuple(plan.replicate) or ("model",)
        within = ("model",) if "model" in cross else ()
        return [_compare(", ".join(map(key_name, keys)), keys, within, runs, plan)]
    tables = []
    for key in plan.one_at_a_time:
        others = {other: value for other, value in plan.base.items() if other != key}
        chosen = [
            run for run in runs if all(run.params.get(other) == value for other, value in others.items())
        ]
        tables.append(_compare(f"{topic(key).capitalize()} ({key})", (*cross, key), cross, chosen, plan))
    if plan.also:
        named = [run for run in runs if POINT in run.params]
        tables.append(_compare("Named points", (*cross, POINT), cross, named, plan))
    return tables


def over_replicates(study: Study) -> Comparison | None:
    """The runs of a study that varies nothing but what repeats them as one row; None of any other study."""
    plan = study.plan
    if varied_keys(plan) or not plan.replicate or len(study.runs) < 2:
        return None
    repeats = " and ".join(f"{key_name(key)}s" for key in plan.replicate)
    return _compare(f"Over {repeats}", ("model",), (), study.runs, plan)


def _compare(
    title: str, by: tuple[str, ...], within: tuple[str, ...], runs: Iterable[StoredRun], plan: Plan
) -> Comparison:
    rows: dict[tuple[str, ...], list[StoredRun]] = {}
    for run in runs:
        rows.setdefault(tuple(run.params.get(key, "") for key in by), []).append(run)
    replicate = tuple(key for key in plan.replicate or ("seed",) if key not in by)
    varied = [key for key in varied_keys(plan) if key not in by]
    groups = []
    for values in _order(by, rows, plan):
        members = rows[values]
        pooled = tuple(key for key in varied if len({run.params.get(key, "") for run in members}) > 1)
        finished = [run for run in members if run.status == "FINISHED"]
        lost = [run for run in members if run.status in ("FAILED", "KILLED")]
        groups.append(Group(dict(zip(by, values, strict=True)), finished, lost, replicate, pooled))
    return Comparison(title, by, within, groups)


def varied_keys(plan: Plan) -> list[str]:
    """Every key that tells configurations of a study apart."""
    further = (key for settings in plan.also.values() for key in settings)
    return list(dict.fromkeys((*plan.cross, *plan.one_at_a_time, *further)))


def _order(by: tuple[str, ...], rows: Iterable[tuple[str, ...]], plan: Plan) -> list[tuple[str, ...]]:
    """Numbers by size, names as the study planned them; runs side by side end in any order."""
    seen = list(rows)
    planned = {**plan.cross, **plan.one_at_a_time, **plan.replicate, POINT: [BASE, *plan.also]}
    first = [
        list(dict.fromkeys([*planned.get(key, ()), *(row[i] for row in seen)])) for i, key in enumerate(by)
    ]

    def rank(row: tuple[str, ...]) -> list[tuple[float, int]]:
        return [
            (float(value) if is_number(value) else 0.0, first[i].index(value)) for i, value in enumerate(row)
        ]

    return sorted(seen, key=rank)


def is_number(text: str | float) -> bool:
    """Whether a value is a finite number, or the text of one."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def key_name(key: str) -> str:
    """A key as a column heading: `latent size` for model.latent_size."""
    return KEY_NAMES.get(key, key.rpartition(".")[2].replace("_", " "))


def topic(key: str) -> str:
    """What a key is about: `depth` for model.layers, else its column heading."""
    return TOPICS.get(key, key_name(key))


def requested_metrics(keys: Sequence[str], runs: Iterable[StoredRun]) -> list[Metric]:
    """The measures of these metric names.

    Raises:
        UserError: no run has such a metric.
    """
    logged = {key for run in runs for key in run.metrics}
    for key in keys:
        if key not in logged:
            raise UserError(f"--metric {key}: no run has it{choices(key, logged)}")
    return [metric_named(key) for key in keys]


def reference_values(plan: Plan, group: Group) -> list[float] | None:
    """The published values of the same configuration, one an epoch, if the study names any.

    They apply only to runs that meet the reference's `conditions`, such as data: mnist.
    """
    if plan.reference is None or not group.finished:
        return None
    params: Mapping[str, str] = group.finished[0].params
    if not _matches(plan.reference.get("conditions", {}), params):
        return None
    for entry in plan.reference.get("values", []):
        if _matches({key: value for key, value in entry.items() if key != "epochs"}, params):
            return [float(value) for value in entry["epochs"]]
    return None


def _matches(wanted: Mapping[str, Any], params: Mapping[str, str]) -> bool:
    return all(params.get(key) == str(value) for key, value in wanted.items())


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
