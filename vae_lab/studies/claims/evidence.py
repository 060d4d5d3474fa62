"""What the runs hold for and against one claim: values paired by replicate, effects, and p."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae_lab.errors import UserError, choices
from vae_lab.studies import statistics
from vae_lab.studies.claims.declared import Claim
from vae_lab.studies.claims.scope import canonical, groups, scope
from vae_lab.studies.claims.wording import Wording
from vae_lab.studies.comparison import is_number
from vae_lab.studies.statistics import Directions

if TYPE_CHECKING:  # whoever only names metrics or prints tables goes without its half second of imports
    import pandas as pd

Array = NDArray[np.float64]
Test = Callable[[Array], Directions]

PAIRED_TESTS: dict[bool, Test] = {False: statistics.sign_flip, True: statistics.anytime_sign_flip}


@dataclass(frozen=True)
class Design:
    """The design of a study: what repeats its runs, what varies, and from which base."""

    replicate: str = "seed"
    axes: Mapping[str, Sequence[str]] | None = None  # every varied key and its values; None: those that ran
    base: Mapping[str, str] | None = None  # where the keys that a claim does not name stay


class Evidence(NamedTuple):
    """A claim's contrast; everything positive speaks for it. Shapes: n replicates."""

    p_for: float  # on the two-sided scale
    p_against: float
    effects: Array  # (n,), in the metric's unit
    agreement: Array  # (n,): 1 where this replicate alone agrees, 0 where not, 0.5 for a tie
    weakest: Array  # (n,): the contrast that support waits for
    opposed: Array  # (n,): the contrast that speaks most against the claim, positive if it does
    wording: Wording
    contrasts: int = 1  # among which the claim's own level is shared out


class NoEvidence(NamedTuple):
    """Why there is nothing to judge."""

    reason: str


def evidence_for(claim: Claim, runs: pd.DataFrame, design: Design, test: Test) -> Evidence | NoEvidence:
    """Returns the evidence for and against a claim.

    Args:
        claim: which contrast of which metric.
        runs: one row a finished run.
        design: what repeats the runs and what varies.
        test: of paired differences; one of `PAIRED_TESTS`.

    Raises:
        UserError: the claim names a parameter that no run has, or orders an axis that has no order.
    """
    if runs.empty:
        return NoEvidence("No run has finished.")
    _check_parameters(claim, runs, design)
    if claim.metric not in runs:
        adding = " `vae-lab evaluate` adds it without training again."
        return NoEvidence(f"No finished run has {claim.metric}.{adding * claim.metric.startswith('eval/')}")
    tables = [_metric_table(claim, runs, design, group) for group in groups(claim)]
    wording = Wording(claim, _axis_values(claim, tables, design))
    if claim.along:
        needed = 3 if claim.expect == "best_inside" else 2
        if len(wording.axis) < needed:
            name = wording.axis_name.capitalize()
            return NoEvidence(f"{name} has {len(wording.axis)} of the {needed} values needed.")
        tables = [table.reindex(columns=list(wording.axis)) for table in tables]
    for group, table in zip(groups(claim), tables, strict=True):
        for value in table.columns[table.notna().sum() == 0] if len(table) else table.columns:
            where = wording.configuration(group, value)
            return NoEvidence(f"No finished run gives {claim.metric} for {where}.")
    x = _paired(tables)
    if not x.shape[1]:
        return NoEvidence(f"No {design.replicate} has a finished run at every value that is compared.")
    return CONTRASTS[claim.expect](claim, x, wording, test)


def _check_parameters(claim: Claim, runs: pd.DataFrame, design: Design) -> None:
    axis = [claim.along] if claim.along else []
    for key in sorted({*claim.of, *claim.than, *claim.within, *axis, design.replicate}):
        if key not in runs:
            known = [str(column) for column in runs if "/" not in str(column)]
            raise UserError(f"claim {claim.id}: {key}: the runs have no such parameter{choices(key, known)}")


def _metric_table(claim: Claim, runs: pd.DataFrame, design: Design, group: Mapping[str, str]) -> pd.DataFrame:
    """Finite values of the metric; rows are replicates and what else is crossed, columns the axis."""
    import pandas as pd

    compared = scope(
        claim, group, runs.columns, replicate=design.replicate, axes=design.axes, base=design.base
    )
    chosen = np.ones(len(runs), dtype=bool)
    for key, values in compared.values.items():
        chosen &= runs[key].map(canonical).isin(values).to_numpy(bool)
    rows = runs[chosen]
    y = pd.to_numeric(rows[claim.metric], errors="coerce")
    rows, y = rows[np.isfinite(y)], y[np.isfinite(y)]
    if rows.empty:
        return pd.DataFrame(columns=[] if claim.along else [""])
    axis = rows[claim.along].map(canonical) if claim.along else pd.Series("", index=rows.index)
    flat = pd.DataFrame({"y": y.to_numpy(np.float64), "axis": axis.to_numpy(object)})
    levels = {f"level {i}": key for i, key in enumerate((design.replicate, *compared.crossed))}
    for level, key in levels.items():
        flat[level] = rows[key].map(canonical).to_numpy(object)
    return flat.groupby([*levels, "axis"])["y"].mean().unstack("axis")


def _axis_values(claim: Claim, tables: Sequence[pd.DataFrame], design: Design) -> list[str]:
    """The values of the claim's axis in order: those that the study set out to try, else those that ran."""
    if not claim.along:
        return []
    planned = [canonical(value) for value in (design.axes or {}).get(claim.along, ())]
    values = set(planned) or {str(value) for table in tables for value in table.columns}
    check_ordered(claim, values)
    return sorted(values, key=lambda value: (_number(value), value))


def check_ordered(claim: Claim, values: Iterable[str]) -> None:
    """Raises a UserError for a claim that orders values of its axis that have no order."""
    texts = [value for value in values if not is_number(value)]
    if texts and claim.expect != "smaller_spread":
        raise UserError(
            f"claim {claim.id}: along={claim.along}: its value {min(texts)} is no number and has no order."
        )


def _paired(tables: Sequence[pd.DataFrame]) -> Array:
    """The values (groups, n, axis) of the n replicates that have them all, in the replicates' order."""
    import pandas as pd

    paired = pd.concat(tables, axis=1, join="inner", keys=range(len(tables))).dropna()
    if paired.index.nlevels > 1:  # a replicate counts where it has every combination of what is crossed
        replicates = paired.index.get_level_values(0)
        has = replicates.value_counts()
        paired = paired[has[replicates].to_numpy() == has.max()]
    if paired.empty:
        return np.empty((len(tables), 0, 0))
    means = paired.groupby(level=0).mean()
    means = means.loc[sorted(means.index, key=lambda replicate: (_number(replicate), str(replicate)))]
    return means.to_numpy(np.float64).reshape(len(means), len(tables), -1).swapaxes(0, 1)


def _number(text: object) -> float:
    return float(str(text)) if is_number(str(text)) else math.inf


def _agreement(differences: Array) -> Array:
    return (np.sign(differences) + 1) / 2


def _monotone(claim: Claim, x: Array, wording: Wording, test: Test) -> Evidence:
    """Every step goes the claimed way (intersection-union), or some step the other (Bonferroni)."""
    steps = np.diff(x[0], axis=-1).T * (1 if claim.expect == "increasing" else -1)  # (steps, n)
    p = test(steps)
    worst = int(np.argmin(p.down + 1e-12 * steps.mean(-1)))  # the clearest step the other way
    slowest = int(np.argmax(p.up - 1e-12 * steps.mean(-1)))
    return Evidence(
        p_for=float(p.up.max()),
        p_against=min(1.0, len(steps) * float(p.down.min())),
        effects=steps.mean(0),
        agreement=_agreement(steps.min(0)),
        weakest=steps[slowest],
        opposed=-steps[worst],
        wording=replace(wording, step=worst, weakest=slowest),
    )


def _better(claim: Claim, x: Array, wording: Wording, test: Test) -> Evidence:
    lead = (x[0, :, 0] - x[1, :, 0]) * (-1 if claim.lower_is_better else 1)
    return _evidence_of(lead, wording, test)


def _smaller_spread(claim: Claim, x: Array, wording: Wording, test: Test) -> Evidence:
    """Spread over the axis within each replicate, the other group's minus this one's.

    Of two values that is the gap between them, of more the standard deviation.
    """
    of, than = np.abs(np.diff(x, axis=-1))[..., 0] if x.shape[-1] == 2 else x.std(-1, ddof=1)
    return _evidence_of(than - of, wording, test)


def _evidence_of(d: Array, wording: Wording, test: Test) -> Evidence:
    p = test(d)
    return Evidence(float(p.up), float(p.down), d, _agreement(d), d, -d, wording)


def _best_inside(claim: Claim, x: Array, wording: Wording, test: Test) -> Evidence:
    """Some inner value beats both ends (a union over inner values of intersections), or none beats either.

    Refuted if for every inner value some end is shown to beat it.
    """
    y = (x[0] * (-1 if claim.lower_is_better else 1)).T  # (values, n), more is better
    inner, ends = y[1:-1], y[[0, -1]]
    p = test(inner[:, None] - ends[None])  # (inner, 2)
    best, end = int(inner.mean(-1).argmax()), int(ends.mean(-1).argmax())
    lead = inner[best] - ends[end]
    return Evidence(
        p_for=min(1.0, len(inner) * float(p.up.max(-1).min())),
        p_against=min(1.0, 2 * float(p.down.min(-1).max())),
        effects=lead,
        agreement=_agreement(inner.max(0) - ends.max(0)),
        weakest=lead,
        opposed=-lead,
        wording=replace(wording, step=best + 1, end=end),
        contrasts=len(inner),
    )


def _same_trend(claim: Claim, x: Array, wording: Wording, test: Test) -> Evidence:
    """Mean steps of both groups are shown to have one sign, or opposite signs.

    A wrong verdict takes a wrong sign of one of them, so that no further adjustment is needed.
    """
    trends = (x[..., -1] - x[..., 0]) / (x.shape[-1] - 1)  # (2, n)
    up, down = test(trends)
    means = trends.mean(-1)
    weaker = int(np.abs(means).argmin())
    effects = trends[weaker] * (np.sign(means[1 - weaker]) or 1.0)
    return Evidence(
        p_for=float(min(up.max(), down.max())),
        p_against=float(min(max(up[0], down[1]), max(down[0], up[1]))),
        effects=effects,
        agreement=_agreement(trends[0] * trends[1]),
        weakest=effects,
        opposed=-effects,
        wording=replace(wording, signs=(float(means[0]), float(means[1]))),
    )


CONTRASTS: dict[str, Callable[[Claim, Array, Wording, Test], Evidence]] = {
    "increasing": _monotone,
    "decreasing": _monotone,
    "better": _better,
    "smaller_spread": _smaller_spread,
    "best_inside": _best_inside,
    "same_trend": _same_trend,
}
