"""What each expectation compares: its tests for, against and within the margin, and the sizes to report.

Shapes: n replicates, A values of the axis. Everything positive speaks for the claim.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from vae_lab.studies.claims.declared import Claim
from vae_lab.studies.claims.difference import (
    Evidence,
    Way,
    agreement,
    beside_margin,
    evidence_of_pair,
    size,
    towards_margin,
)
from vae_lab.studies.claims.spreads import smaller_spread
from vae_lab.studies.claims.wording import Wording
from vae_lab.studies.statistics import Array, Interval, Pair, Test


def contrast(claim: Claim, x: Array, wording: Wording, test: Test) -> Evidence:
    """Returns the evidence in values x, shape (groups, n, A), for and against a claim."""
    return CONTRASTS[claim.expect](claim, x, wording, test)


def contrasts_for(claim: Claim, values: int) -> int:
    """Returns among how many contrasts a claim along so many values shares out its level for support."""
    return max(1, values - 2) if claim.expect == "best_inside" else 1


def _monotone(claim: Claim, x: Array, wording: Wording, test: Test) -> Evidence:
    """Every step goes the claimed way (intersection-union), or some step another (Bonferroni)."""
    values = np.moveaxis(x[0], -1, 0) * (1 if claim.expect == "increasing" else -1)  # (A, n)
    steps = Pair(values[1:], values[:-1])
    p, margins = test.directions(steps), beside_margin(claim, steps, test)
    inside = margins.inside
    means = steps.differences.mean(-1)
    worst = int(np.argmin(p.down + 1e-12 * means))  # the clearest step the other way
    slowest = int(np.argmax(p.up - 1e-12 * means))
    flattest = int(np.argmin(inside + 1e-12 * np.abs(means)))
    largest = int(np.abs(means).argmax())
    count = len(means)
    single = [Pair(steps.first[index], steps.second[index]) for index in range(count)]
    return Evidence(
        p_for=float(p.up.max()),
        p_against=min(1.0, count * float(p.down.min())),
        p_small=min(1.0, count * float(inside.min())),
        p_negligible=float(inside.max()),
        p_beyond=min(
            float(margins.above.max()),
            count * float(margins.below.min()),
        ),
        effect=size(Pair(values[-1] / count, values[0] / count), test),
        weakest=size(single[slowest], test),
        opposed=size(single[worst].swapped, test),
        small=size(single[flattest], test),
        agreement=agreement(steps.differences.min(0)),
        opposing=agreement(-steps.differences[worst]),
        ways=[
            Way(single[slowest]),
            Way(single[worst].swapped, count),
            *towards_margin(claim, single[flattest], count),
            *towards_margin(claim, single[largest]),
        ],
        compared=single,
        wording=replace(wording, step=worst, weakest=slowest, flattest=flattest),
    )


def _better(claim: Claim, x: Array, wording: Wording, test: Test) -> Evidence:
    pair = Pair(x[0, :, 0], x[1, :, 0])
    return evidence_of_pair(claim, pair.swapped if claim.lower_is_better else pair, wording, test)


def _equal(claim: Claim, x: Array, wording: Wording, test: Test) -> Evidence:
    """Supported if the difference is within the margin, refuted if it is beyond, on either side."""
    pair, margin = Pair(x[0, :, 0], x[1, :, 0]), claim.margin or 0.0
    difference, margins = pair.differences, beside_margin(claim, pair, test)
    further = pair if difference.mean() > 0 else pair.swapped
    return Evidence(
        p_for=float(margins.inside),
        p_against=float(margins.beyond),
        p_small=1.0,
        p_negligible=1.0,
        p_beyond=0.0,  # within and beyond exclude each other
        effect=size(pair, test),
        weakest=size(pair, test),
        opposed=size(further, test),
        small=size(pair, test),
        agreement=agreement(margin - np.abs(difference)),
        opposing=agreement(further.differences - margin),
        ways=[Way(further.swapped.less(-margin)), Way(further.less(margin))],
        compared=[pair],
        wording=wording,
    )


def _best_inside(claim: Claim, x: Array, wording: Wording, test: Test) -> Evidence:
    """Some inner value beats both ends (a union over inner values of intersections), or none beats either.

    Refuted if for every inner value some end is shown to beat it, or to be behind by less than the margin.
    """
    y = np.moveaxis(x[0], -1, 0) * (-1 if claim.lower_is_better else 1)  # (A, n), more is better
    inner, ends = y[1:-1], y[[0, -1]]
    leads = Pair(inner[:, None], ends[None])  # (inner, 2, n)
    p, margins = test.directions(leads), beside_margin(claim, leads, test)
    small = np.ones((1, 1)) if claim.margin is None else test.directions(leads.less(claim.margin)).down
    best, end = int(inner.mean(-1).argmax()), int(ends.mean(-1).argmax())
    largest = np.unravel_index(np.abs(leads.differences.mean(-1)).argmax(), leads.differences.shape[:2])
    single = [[Pair(one, other) for other in ends] for one in inner]
    lead = single[best][end]
    lead_size = partial(_largest_lead, single, test, float(lead.differences.mean()))
    behind = [] if claim.margin is None else [Way(lead.swapped.less(-claim.margin), len(ends))]
    return Evidence(
        p_for=min(1.0, len(inner) * float(p.up.max(-1).min())),
        p_against=min(1.0, len(ends) * float(p.down.min(-1).max())),
        p_small=min(1.0, len(ends) * float(small.min(-1).max())),
        p_negligible=float(margins.inside.max()),
        p_beyond=min(
            len(inner) * float(margins.above.max(-1).min()),
            len(ends) * float(margins.below.min(-1).max()),
        ),
        effect=lead_size,
        weakest=lead_size,
        opposed=partial(lead_size, sign=-1),
        small=lead_size,
        agreement=agreement(inner[best] - ends.max(0)),
        opposing=agreement(-lead.differences),
        ways=[
            Way(lead, contrasts_for(claim, len(y))),
            Way(lead.swapped, len(ends)),
            *behind,
            *towards_margin(claim, single[largest[0]][largest[1]]),
        ],
        compared=single[best],
        wording=replace(wording, step=best + 1, end=end),
    )


def _largest_lead(
    leads: list[list[Pair]], test: Test, estimate: float, confidence: float, sign: int = 1
) -> Interval:
    """Returns the interval of the largest lead over the better end, as the two tests of it reject.

    The lower bound may be that of any inner value, which share what the interval may err; the upper one is
    wrong only if that of the truly best value over either end is.
    """

    def intervals(count: int) -> list[list[Interval]]:
        shared = 1 - (1 - confidence) / count
        return [[test.interval(pair, shared) for pair in row] for row in leads]

    lower, upper = intervals(len(leads)), intervals(len(leads[0]))
    low = max(min(interval.low for interval in row) for row in lower)
    high = max(min(interval.high for interval in row) for row in upper)
    bounds = sorted((sign * low, sign * high))
    methods = [lower[0][0].method, upper[0][0].method]  # one for all intervals at a confidence
    return Interval(sign * estimate, bounds[0], bounds[1], "t" if "t" in methods else methods[0])


def _same_trend(claim: Claim, x: Array, wording: Wording, test: Test) -> Evidence:
    """Mean steps of both groups are shown to have one sign, or opposite signs, or both to be small.

    Where one trend is nothing, either sign of it that is shown makes a wrong verdict, at half the level each;
    where the other is the margin itself, negligible is a third one, and each has a third of the level.
    """
    steps = x.shape[-1] - 1
    trends = Pair(x[..., -1] / steps, x[..., 0] / steps)  # (2, n)
    share = 1.0 if claim.margin is None else 1.5
    up, down = (np.minimum(1.0, share * p) for p in test.directions(trends))
    margins = beside_margin(claim, trends, test)
    inside = np.minimum(1.0, share * margins.inside)
    means = trends.differences.mean(-1)
    single = [Pair(trends.first[index], trends.second[index]) for index in (0, 1)]
    weaker = int(np.abs(means).argmin())
    pair = single[weaker] if means[1 - weaker] >= 0 else single[weaker].swapped
    return Evidence(
        p_for=float(min(up.max(), down.max())),
        p_against=float(min(max(up[0], down[1]), max(down[0], up[1]))),
        p_small=1.0,
        p_negligible=float(inside.max()),
        p_beyond=share * float(margins.beyond.max()),
        effect=size(pair, test),
        weakest=size(pair, test),
        opposed=size(pair.swapped, test),
        small=size(pair, test),
        agreement=agreement(trends.differences[0] * trends.differences[1]),
        opposing=agreement(-pair.differences),
        ways=[
            Way(pair, share),
            Way(pair.swapped, share),
            *towards_margin(claim, single[1 - weaker], share),
        ],
        compared=single,
        wording=replace(wording, signs=(float(means[0]), float(means[1]))),
    )


CONTRASTS: dict[str, Callable[[Claim, Array, Wording, Test], Evidence]] = {
    "increasing": _monotone,
    "decreasing": _monotone,
    "better": _better,
    "equal": _equal,
    "smaller_spread": smaller_spread,
    "best_inside": _best_inside,
    "same_trend": _same_trend,
}
