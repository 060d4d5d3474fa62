"""What a study declares, held against the runs that it plans, before the first of them trains."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from vae_lab.config import BASE
from vae_lab.config.references import parse_reference
from vae_lab.errors import UserError, choices, quoted
from vae_lab.metrics import MEASURES, OWN, Metric, is_metric
from vae_lab.studies.claims import judge_study, parse
from vae_lab.studies.claims.evidence import TWO_NEEDED, check_ordered
from vae_lab.studies.plan import Plan
from vae_lab.studies.study import POINT, Study, with_point
from vae_lab.studies.values import canonical, recorded
from vae_lab.tracking import StoredRun

MOST_LISTED = 20  # values that a message lists
NOTHING_PLANNED = "No run is planned for what is compared."


class PlannedRuns:
    """The parameters of the runs that a multirun plans.

    Args:
        params: Of each run.
        points: The names in `sweep.also`.
        overridden: Keys and groups that the command line sets, of which a study may name other values.
        metrics: What the runs measure by functions of the user's own.
    """

    def __init__(
        self,
        params: Sequence[Mapping[str, str]],
        points: Iterable[str],
        overridden: Collection[str],
        metrics: Iterable[Metric] = (),
    ) -> None:
        self.overridden, self.metrics = overridden, list(metrics)
        self.values: dict[str, set[str]] = {}
        for run in params:
            for key, value in run.items():
                self.values.setdefault(key, set()).add(canonical(value))
        if named := list(points):
            self.values[POINT] = {BASE, *named}

    def check_key(self, where: str, key: str) -> None:
        """Raises a UserError for a parameter that no run has."""
        if key not in self.values and not self._is_overridden(key):
            varied = sorted(key for key, values in self.values.items() if len(values) > 1)
            reason = choices(key, self.values, varied[:MOST_LISTED])
            raise UserError(f"{where}: {quoted(key)}: no run has such a parameter{reason}")

    def check_metric(self, where: str, metric: str) -> None:
        """Raises a UserError for a metric that no run can have."""
        known = MEASURES | {own.key: own for own in self.metrics}
        if not metric or metric in known or is_metric(metric):
            return
        if metric.startswith(OWN):
            own = [key for key in known if key.startswith(OWN)]
            raise UserError(
                f"{where}={quoted(metric)}: is none of what evaluation.metrics measures"
                f"{choices(metric, own) if own else ': it is empty.'}"
            )
        kind = [key for key in known if key.startswith(f"{metric.partition('/')[0]}/")]
        raise UserError(f"{where}={quoted(metric)}: no such metric{choices(metric, known, kind or known)}")

    def check_group(self, where: str, group: Mapping[str, Any]) -> None:
        """Raises a UserError for a value of a parameter that no run has."""
        for key, value in group.items():
            self.check_key(where, key)
            valid = sorted(self.values.get(key, ()))
            if canonical(recorded(value)) not in valid and not self._is_overridden(key):
                reason = choices(value, valid, valid[:MOST_LISTED])
                raise UserError(f"{where}: {key}={quoted(value)}: no run of that value is planned{reason}")

    def _is_overridden(self, key: str) -> bool:
        whole_sweep = any(name.partition(".")[0] in ("sweep", "sweeps") for name in self.overridden)
        return whole_sweep or any(key == name or key.startswith(f"{name}.") for name in self.overridden)


def check_declared(study: Mapping[str, Any], runs: PlannedRuns) -> None:
    """Checks that claims and published values are about metrics and parameters that there are.

    Args:
        study: The config group of that name.
        runs: What the study plans.

    Raises:
        UserError: The first that is not, with the nearest name.
    """
    for claim, entry in zip(parse(study["claims"], runs.metrics), study["claims"], strict=True):
        name = f"claim {claim.id}"
        runs.check_metric(f"{name}: metric", claim.metric)
        if claim.along:
            runs.check_key(f"{name}: along", claim.along)
            check_ordered(claim, runs.values.get(claim.along, ()))
        for part in ("within", "of", "than", "as"):
            runs.check_group(f"{name}: {part}", entry.get(part) or {})
    if study["reference"] is not None:
        reference, where = parse_reference(study["reference"]), "study.reference"
        runs.check_metric(f"{where}.metric", reference.metric)
        for landmark in reference.landmarks:
            runs.check_metric(f"{where}.landmarks.metric", landmark.metric)
        for part, keys in (("conditions", reference.conditions), *_values(reference.values)):
            for key in keys:
                runs.check_key(f"{where}.{part}", key)
    if study["oracle"] is not None:
        runs.check_metric("study.oracle.metric", study["oracle"]["metric"])


def _values(entries: Iterable[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    return [("values", [key for key in entry if key != "epochs"]) for entry in entries]


def imagined_runs(params: Iterable[Mapping[str, str]], metrics: Collection[str]) -> list[StoredRun]:
    """Returns finished runs with values that nobody measured: for what verdicts say whatever was measured.

    The values differ from run to run, since equal ones would be ties, and rise and fall along the runs, since
    values in order would be an effect: 37 i modulo 97, of which the first 97 are distinct.

    Args:
        params: Of each run.
        metrics: What each has.
    """
    return [
        StoredRun(str(i), "", "", "FINISHED", dict(run), dict.fromkeys(metrics, 37.0 * i % 97), {}, i)
        for i, run in enumerate(params)
    ]


def unplanned(plan: Plan, params: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """Returns the claims that the planned runs will leave undecided whatever they measure: reason and ids.

    Args:
        plan: The study's.
        params: Of each run.

    Raises:
        UserError: A claim orders what has no order.
    """
    metrics = [claim.metric for claim in parse(plan.claims, plan.own_metrics)]
    runs = imagined_runs(params, metrics)
    study = Study(runs[0], plan, [with_point(run, plan) for run in runs])
    too_few = TWO_NEEDED.format(replicate=plan.pairs_by)
    reasons: dict[str, list[str]] = {}
    for verdict in judge_study(study):
        if not verdict.n:
            reason = too_few if verdict.sentence == too_few else NOTHING_PLANNED
            reasons.setdefault(reason, []).append(verdict.claim.id)
    return reasons
