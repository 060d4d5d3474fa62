"""What the runs say to one claim: values paired by replicate, effects, and p for and against."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vae_lab.errors import UserError, choices
from vae_lab.studies import statistics
from vae_lab.studies.claims.declared import Claim
from vae_lab.studies.claims.wording import Words
from vae_lab.studies.comparison import POINT, is_number
from vae_lab.studies.statistics import Directions

Array = NDArray[np.float64]
Test = Callable[[Array], Directions]


@dataclass(frozen=True)
class Layout:
    """How the runs of a study lie: what repeats them, what varies, and from which base."""

    replicate: str = "seed"
    axes: Mapping[str, Sequence[str]] | None = None  # every varied key and its values; None: those found
    base: Mapping[str, str] | None = None  # where the keys that a claim does not name stay


class Evidence(NamedTuple):
    """A claim's contrast; everything positive speaks for it. Shapes: n replicates."""

    supports: float  # p on the two-sided scale
    refutes: float
    effects: Array  # (n,), in the metric's unit
    holds: Array  # (n,): 1 where this replicate alone agrees, 0 where not, 0.5 for a tie
    weakest: Array  # (n,): the contrast that support waits for
    against: Array  # (n,): the contrast that speaks most against the claim, positive if it does
    words: Words
    share: int = 1  # contrasts among which the claim's own level is shared out


class Missing(NamedTuple):
    """Why there is nothing to judge."""

    reason: str


def gather(claim: Claim, frame: pd.DataFrame, layout: Layout, test: Test) -> Evidence | Missing:
    """The evidence for a claim in a frame of finished runs.

    Raises:
        UserError: the claim names a parameter that no run has, or orders an axis that has no order.
    """
    if frame.empty:
        return Missing("No run has finished.")
    keys = {*claim.of, *claim.than, *claim.within, *([claim.along] if claim.along else []), layout.replicate}
    for key in sorted(keys):
        if key not in frame:
            known = [str(each) for each in frame if "/" not in str(each)]
            raise UserError(f"claim {claim.id}: {key}: the runs have no such parameter{choices(key, known)}")
    if claim.metric not in frame:
        how = (
            " `vae-lab evaluate` adds it without training again." if claim.metric.startswith("eval/") else ""
        )
        return Missing(f"No finished run has {claim.metric}.{how}")
    groups = [claim.of, claim.than] if claim.of else [{}]
    tables = [_table(claim, frame, layout, group) for group in groups]
    axis = _axis(claim, tables, layout)
    words = Words(claim, axis)
    if claim.along:
        needed = 3 if claim.expect == "best_inside" else 2
        if len(axis) < needed:
            return Missing(f"{words.axis_name.capitalize()} has {len(axis)} of the {needed} values needed.")
        tables = [table.reindex(columns=axis) for table in tables]
    for group, table in zip(groups, tables, strict=True):
        for value in table.columns[table.notna().sum() == 0] if len(table) else table.columns:
            return Missing(f"No finished run gives {claim.metric} for {words.place(group, value)}.")
    paired = pd.concat(tables, axis=1, join="inner", keys=range(len(tables))).dropna()
    if paired.index.nlevels > 1:  # a replicate counts where it has every combination of what is crossed
        replicates = paired.index.get_level_values(0)
        has = replicates.value_counts()
        paired = paired[has[replicates].to_numpy() == has.max()]
    if paired.empty:
        return Missing(f"No {layout.replicate} has a finished run at every value that is compared.")
    means = paired.groupby(level=0).mean()
    means = means.loc[sorted(means.index, key=lambda each: (_number(each), str(each)))]
    x = means.to_numpy(np.float64).reshape(len(means), len(tables), -1).swapaxes(0, 1)
    return CONTRASTS[claim.expect](claim, x, words, test)


def _table(claim: Claim, frame: pd.DataFrame, layout: Layout, group: Mapping[str, str]) -> pd.DataFrame:
    """Finite values of the metric; rows are replicates and what else is crossed, columns the axis."""
    named = {*claim.of, *claim.than, *claim.within, claim.along, layout.replicate}
    # A named point says where all the keys stand that could leave the base.
    stays = {} if POINT in named else (layout.base or {})
    fixed = {key: value for key, value in stays.items() if key not in named and key in frame}
    chosen = np.ones(len(frame), dtype=bool)
    for key, value in {**fixed, **claim.within, **group}.items():
        chosen &= (
            frame[key].map(lambda found, value=value: canonical(found) == canonical(value)).to_numpy(bool)
        )
    rows = frame[chosen]
    y = pd.to_numeric(rows[claim.metric], errors="coerce")
    rows, y = rows[np.isfinite(y)], y[np.isfinite(y)]
    free = [key for key in layout.axes or {} if key not in named and key not in fixed and key in frame]
    crossed = [key for key in free if not (POINT in named and key in (layout.base or {}))]
    index = [rows[key].map(canonical) for key in (layout.replicate, *crossed)]
    axis = rows[claim.along].map(canonical) if claim.along else pd.Series("", index=rows.index)
    if rows.empty:
        return pd.DataFrame(columns=[] if claim.along else [""])
    flat = pd.DataFrame({"y": y.to_numpy(np.float64), "axis": axis.to_numpy(object)})
    levels = [f"level {i}" for i in range(len(index))]
    for name, column in zip(levels, index, strict=True):
        flat[name] = column.to_numpy(object)
    return flat.groupby([*levels, "axis"])["y"].mean().unstack("axis")


def _axis(claim: Claim, tables: Sequence[pd.DataFrame], layout: Layout) -> list[str]:
    """The values of the claim's axis in order: those that the study set out to try, else those found."""
    if not claim.along:
        return []
    planned = [canonical(value) for value in (layout.axes or {}).get(claim.along, ())]
    values = set(planned) or {str(value) for table in tables for value in table.columns}
    texts = [value for value in values if not is_number(value)]
    if texts and claim.expect != "smaller_spread":
        raise UserError(
            f"claim {claim.id}: along={claim.along}: its value {min(texts)} is no number and has no order."
        )
    return sorted(values, key=lambda each: (_number(each), each))


def canonical(value: object) -> str:
    """A value as text by which equal numbers are equal: 4, 4.0 and "4" alike."""
    text = str(value)
    return f"{float(text):.12g}" if is_number(text) else text


def _number(text: object) -> float:
    return float(str(text)) if is_number(str(text)) else math.inf


def _agreement(differences: Array) -> Array:
    return (np.sign(differences) + 1) / 2


def _monotone(claim: Claim, x: Array, words: Words, test: Test) -> Evidence:
    """Every step goes the claimed way (intersection-union), or some step the other (Bonferroni)."""
    steps = np.diff(x[0], axis=-1).T * (1 if claim.expect == "increasing" else -1)  # (steps, n)
    p = test(steps)
    worst = int(np.argmin(p.down + 1e-12 * steps.mean(-1)))  # the clearest step the other way
    slowest = int(np.argmax(p.up - 1e-12 * steps.mean(-1)))
    return Evidence(
        supports=float(p.up.max()),
        refutes=min(1.0, len(steps) * float(p.down.min())),
        effects=steps.mean(0),
        holds=_agreement(steps.min(0)),
        weakest=steps[slowest],
        against=-steps[worst],
        words=words.at(step=worst, weakest=slowest),
    )


def _better(claim: Claim, x: Array, words: Words, test: Test) -> Evidence:
    lead = (x[0, :, 0] - x[1, :, 0]) * (-1 if claim.lower_is_better else 1)
    return _one(lead, words, test)


def _smaller_spread(claim: Claim, x: Array, words: Words, test: Test) -> Evidence:
    """Spread over the axis within each replicate, the other group's minus this one's.

    Of two values that is the gap between them, of more the standard deviation.
    """
    own, other = np.abs(np.diff(x, axis=-1))[..., 0] if x.shape[-1] == 2 else x.std(-1, ddof=1)
    return _one(other - own, words, test)


def _one(d: Array, words: Words, test: Test) -> Evidence:
    p = test(d)
    return Evidence(float(p.up), float(p.down), d, _agreement(d), d, -d, words)


def _best_inside(claim: Claim, x: Array, words: Words, test: Test) -> Evidence:
    """Some inner value beats both ends (a union over inner values of intersections), or none beats either.

    Refuted if for every inner value some end is shown to beat it.
    """
    y = (x[0] * (-1 if claim.lower_is_better else 1)).T  # (values, n), more is better
    inner, ends = y[1:-1], y[[0, -1]]
    p = test(inner[:, None] - ends[None])  # (inner, 2)
    best, end = int(inner.mean(-1).argmax()), int(ends.mean(-1).argmax())
    lead = inner[best] - ends[end]
    return Evidence(
        supports=min(1.0, len(inner) * float(p.up.max(-1).min())),
        refutes=min(1.0, 2 * float(p.down.min(-1).max())),
        effects=lead,
        holds=_agreement(inner.max(0) - ends.max(0)),
        weakest=lead,
        against=-lead,
        words=words.at(step=best + 1, end=end),
        share=len(inner),
    )


def _same_trend(claim: Claim, x: Array, words: Words, test: Test) -> Evidence:
    """Mean steps of both groups are shown to have one sign, or opposite signs.

    A wrong verdict takes a wrong sign of one of them, so that no further adjustment is needed.
    """
    trends = (x[..., -1] - x[..., 0]) / (x.shape[-1] - 1)  # (2, n)
    up, down = test(trends)
    means = trends.mean(-1)
    weaker = int(np.abs(means).argmin())
    effects = trends[weaker] * (np.sign(means[1 - weaker]) or 1.0)
    return Evidence(
        supports=float(min(up.max(), down.max())),
        refutes=float(min(max(up[0], down[1]), max(down[0], up[1]))),
        effects=effects,
        holds=_agreement(trends[0] * trends[1]),
        weakest=effects,
        against=-effects,
        words=words.at(signs=(float(means[0]), float(means[1]))),
    )


CONTRASTS: dict[str, Callable[[Claim, Array, Words, Test], Evidence]] = {
    "increasing": _monotone,
    "decreasing": _monotone,
    "better": _better,
    "smaller_spread": _smaller_spread,
    "best_inside": _best_inside,
    "same_trend": _same_trend,
}

PAIRED_TESTS: dict[bool, Test] = {False: statistics.sign_flip, True: statistics.anytime_sign_flip}
