"""Which hyperparameter explains how much of a metric's variance, alone and together with others."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from vae_lab.errors import UserError
from vae_lab.metrics import CATALOGUE, Metric
from vae_lab.report.tables.content import Cell, Column, Table
from vae_lab.studies import statistics
from vae_lab.studies.comparison import key_name, param_values, varied_keys
from vae_lab.studies.study import Study
from vae_lab.tracking import StoredRun

DEFAULT = ("test/loss", "test/negative_log_marginal", "eval/recognizable_share", "eval/frechet_distance")
MOST = 15  # terms a table names; the others stand together
RESIDUAL = "residual"  # as `statistics.importance` names it
SEEDS, SEEDS_OR_ALL = RESTS = ("the rest: seeds", "the rest and the interaction of all keys")
NOTE = (
    "η²: the share of the variance that a key explains, or that keys explain only together (×). ANOVA, in "
    "which every combination of values counts alike, however many runs it has; one with a single run has no "
    "variance within. The shares are of the values tried, and grow with their range."
)


def importance_tables(study: Study, metrics: Sequence[Metric] = (), *, needed: bool = False) -> list[Table]:
    """Shares of variance of the `metrics`, else of those of `DEFAULT` that were measured; one table or none.

    Unless it is `needed`, none is made where fewer than two keys vary among runs whose numbers may be
    compared, or the grid of their values is not full.

    Raises:
        UserError: a table is `needed` and there is none to make, or not of one of the `metrics`.
    """
    columns: list[tuple[Column, dict[str, float]]] = []
    reasons: list[UserError] = []
    for metric in metrics or [CATALOGUE[key] for key in DEFAULT]:
        runs = [run for run in study.runs if run.status == "FINISHED" and metric.key in run.metrics]
        for kind, part in _kinds(study, runs, metric):
            try:
                shares = _shares(study, part, metric, fewest=1 if needed else 2)
            except UserError as error:
                reasons.append(error)
                continue
            if shares:
                columns.append((Column(", ".join(filter(None, [metric.heading, kind])), "%", 1), shares))
    if needed and reasons and (metrics or not columns):
        raise reasons[0]
    if needed and not columns:
        raise UserError(
            f"--importance: nothing varies among the finished runs of {study.plan.name} whose numbers can be "
            "compared."
        )
    return [_importance_table(columns)] if columns else []


def _varied(study: Study, runs: Sequence[StoredRun]) -> list[str]:
    return [key for key in varied_keys(study.plan) if len({run.params.get(key, "") for run in runs}) > 1]


def _kinds(study: Study, runs: Sequence[StoredRun], metric: Metric) -> list[tuple[str, list[StoredRun]]]:
    """Runs whose values of a metric may be compared, under what tells them from the others."""
    kinds: dict[tuple[str, ...], list[StoredRun]] = {}
    for run in runs:
        kind = param_values(run, (*metric.column_keys, *metric.comparison_keys))
        kinds.setdefault(kind, []).append(run)
    varied = _varied(study, runs)
    parts = []
    for part in kinds.values():
        fixed = [key for key in varied if len({run.params.get(key, "") for run in part}) == 1]
        parts.append((", ".join(_value(key, part[0].params.get(key, "")) for key in fixed), part))
    return parts


def _value(key: str, value: str) -> str:
    return value.upper() if key == "model" else f"{key_name(key)} {value}"


def _shares(study: Study, runs: Sequence[StoredRun], metric: Metric, fewest: int) -> dict[str, float]:
    """Shares of variance by term and by one of `RESTS`; nothing where fewer than `fewest` keys vary."""
    factors = _varied(study, runs)
    if len(factors) < fewest:
        return {}
    import pandas as pd

    frame = pd.DataFrame([{**run.params, metric.key: run.metrics[metric.key]} for run in runs])
    shares = statistics.importance(frame, metric.key, factors)
    named = {str(term): float(share) for term, share in shares.items()}
    # Where every combination ran once, noise and the interaction of all keys are one.
    named[SEEDS if " x ".join(factors) in named else SEEDS_OR_ALL] = named.pop(RESIDUAL)
    return named


def _importance_table(columns: Sequence[tuple[Column, dict[str, float]]]) -> Table:
    terms = dict.fromkeys(itertools.chain.from_iterable(shares for _, shares in columns))
    ordered = sorted(
        (term for term in terms if term not in RESTS),
        key=lambda term: -max(shares.get(term, 0.0) for _, shares in columns),
    )
    named, others = ordered[:MOST], ordered[MOST:]
    rests = [rest for rest in RESTS if rest in terms]
    names = [" × ".join(map(key_name, term.split(" x "))) for term in named]
    names += [f"{len(others)} other terms"] if others else []

    def cells(shares: dict[str, float]) -> list[Cell]:
        values = [shares.get(term) for term in named]
        values += [sum(shares.get(term, 0.0) for term in others)] if others else []
        values += [shares.get(rest) for rest in rests]
        return [Cell(None if share is None else 100 * share) for share in values]

    return Table.of(
        "Importance of hyperparameters",
        [
            (Column("key", numeric=False), [*names, *rests]),
            *((column, cells(shares)) for column, shares in columns),
        ],
        NOTE,
        breaks=frozenset({len(names) - 1}),
    )
