"""What each expectation compares: its tests for, against and within the margin, and the sizes to report.

Shapes: n replicates, A values of the axis. Everything positive speaks for the claim.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from vae_lab.studies.claims.declared import Claim
from vae_lab.studies.claims.wording import Wording
from vae_lab.studies.statistics import Array, Interval, Pair, Test, within

Size = Callable[[float], Interval]  # the interval at a confidence


class Evidence(NamedTuple):
    """A claim's contrasts. p is 1 for what the claim does not ask, as of a margin that it has none of."""

    p_for: float  # on the two-sided scale, as the next
    p_against: float
    p_small: float  # that some part of the claimed difference is within the margin: one-sided, as the next
    p_negligible: float  # that all of it is
    effect: Size  # in the metric's unit
    weakest: Size  # of the contrast that support waits for
    opposed: Size  # of the contrast that speaks most against the claim, positive if it does
    small: Size  # of the part that is most clearly within the margin
    agreement: Array  # (n,): 1 where this replicate alone agrees, 0 where not, 0.5 for a tie
    opposing: Array  # (n,): where this replicate alone agrees with `opposed`
    ways: Sequence[Pair]  # differences that would settle the claim if they stayed positive
    wording: Wording
    contrasts: int = 1  # among which the claim's own level is shared out
    seeds_a_value: int = 1  # replicates that make one value of `ways`

    @property
    def n(self) -> int:
        """Replicates that have every run compared."""
        return len(self.agreement)


def contrast(claim: Claim, x: Array, wording: Wording, test: Test) -> Evidence:
    """Returns the evidence in values x, shape (groups, n, A), for and against a claim."""
    return CONTRASTS[claim.expect](claim, x, wording, test)


def _agreement(differences: Array) -> Array:
    return (np.sign(differences) + 1) / 2


def _size(pair: Pair, test: Test) -> Size:
    return partial(test.interval, pair)


def _p_within(claim: Claim, pair: Pair, test: Test) -> Array:
    if claim.margin is None:
        return np.ones(np.shape(pair.differences)[:-1])
    return within(pair, claim.margin, test)


def _towards_margin(claim: Claim, pair: Pair) -> list[Pair]:
    """The difference that would show one to lie within the margin, on the side that it is nearer to."""
    if claim.margin is None:
        return []
    return [(pair if pair.differences.mean() < 0 else pair.swapped).less(-claim.margin)]


def _monotone(claim: Claim, x: Array, wording: Wording, test: Test) -> Evidence:
    """Every step goes the claimed way (intersection-union), or some step another (Bonferroni)."""
    values = np.moveaxis(x[0], -1, 0) * (1 if claim.expect == "increasing" else -1)  # (A, n)
    steps = Pair(values[1:], values[:-1])
    p, inside = test.directions(steps), _p_within(claim, steps, test)
    means = steps.differences.mean(-1)
    worst = int(np.argmin(p.down + 1e-12 * means))  # the clearest step the other way
    slowest = int(np.argmax(p.up - 1e-12 * means))
    flattest = int(np.argmin(inside + 1e-12 * np.abs(means)))
    largest = int(np.abs(means).argmax())

    def step(index: int) -> Pair:
        return Pair(steps.first[index], steps.second[index])

    count = len(means)
    return Evidence(
        p_for=float(p.up.max()),
        p_against=min(1.0, count * float(p.down.min())),
        p_small=min(1.0, count * float(inside.min())),
        p_negligible=float(inside.max()),
        effect=_size(Pair(values[-1] / count, values[0] / count), test),
        weakest=_size(step(slowest), test),
        opposed=_size(step(worst).swapped, test),
        small=_size(step(flattest), test),
        agreement=_agreement(steps.differences.min(0)),
        opposing=_agreement(-steps.differences[worst]),
        ways=[step(slowest), step(worst).swapped, *_towards_margin(claim, step(largest))],
        wording=replace(wording, step=worst, weakest=slowest, flattest=flattest),
    )


def _better(claim: Claim, x: Array, wording: Wording, test: Test) -> Evidence:
    pair = Pair(x[0, :, 0], x[1, :, 0])
    return _of_pair(claim, pair.swapped if claim.lower_is_better else pair, wording, test)


def _of_pair(claim: Claim, pair: Pair, wording: Wording, test: Test) -> Evidence:
    p, inside = test.directions(pair), float(_p_within(claim, pair, test))
    return Evidence(
        p_for=float(p.up),
        p_against=float(p.down),
        p_small=1.0,  # of one difference, the whole is within the margin or nothing
        p_negligible=inside,
        effect=_size(pair, test),
        weakest=_size(pair, test),
        opposed=_size(pair.swapped, test),
        small=_size(pair, test),
        agreement=_agreement(pair.differences),
        opposing=_agreement(-pair.differences),
        ways=[pair, pair.swapped, *_towards_margin(claim, pair)],
        wording=wording,
    )


def _equal(claim: Claim, x: Array, wording: Wording, test: Test) -> Evidence:
    """Supported if the difference is within the margin, refuted if it is beyond, on either side."""
    pair, margin = Pair(x[0, :, 0], x[1, :, 0]), claim.margin or 0.0
    difference = pair.differences
    further = pair if difference.mean() > 0 else pair.swapped
    beyond = [float(test.directions(side.less(margin)).up) for side in (pair, pair.swapped)]
    return Evidence(
        p_for=float(within(pair, margin, test)),
        p_against=min(beyond),
        p_small=1.0,
        p_negligible=1.0,
        effect=_size(pair, test),
        weakest=_size(pair, test),
        opposed=_size(further, test),
        small=_size(pair, test),
        agreement=_agreement(margin - np.abs(difference)),
        opposing=_agreement(further.differences - margin),
        ways=[further.swapped.less(-margin), further.less(margin)],
        wording=wording,
    )


def _smaller_spread(claim: Claim, x: Array, wording: Wording, test: Test) -> Evidence:
    """The spread over the axis of the means over seeds, without what seeds add to it."""
    gaps = np.diff(x, axis=-1)[..., 0] if x.shape[-1] == 2 else None
    return _spread(claim, x, wording, test) if gaps is None else _gap(claim, gaps, wording, test)


def _gap(claim: Claim, gaps: Array, wording: Wording, test: Test) -> Evidence:
    """The smaller of two mean gaps, each of either sign, from gaps (2, n).

    |b| > |a| where b - a and b + a have one sign. Tests of the two are linear, so noise cancels; the means of
    |a| and |b| within seeds would measure it.
    """
    of, than = gaps
    apart, together = Pair(than, of), Pair(than, -of)
    a, b = test.directions(apart), test.directions(together)
    rising = together.differences.mean() >= 0
    lead = Pair(than, of) if rising else Pair(-than, -of)
    nearer = np.asarray(min(_p_within(claim, apart, test), _p_within(claim, together, test)))
    seedwise = np.abs(than) - np.abs(of)

    def size(confidence: float, sign: int = 1) -> Interval:
        difference, total = test.interval(apart, confidence), test.interval(together, confidence)
        corners = [_less(a, b) for a in difference[1:3] for b in total[1:3]]
        bounds = sorted(sign * corner for corner in (min(corners), max(corners)))
        return Interval(
            sign * _less(difference.estimate, total.estimate), bounds[0], bounds[1], difference.method
        )

    return Evidence(
        p_for=float(min(max(a.up, b.up), max(a.down, b.down))),
        p_against=float(min(max(a.down, b.up), max(a.up, b.down))),
        p_small=1.0,
        p_negligible=min(1.0, 2 * float(nearer)),
        effect=size,
        weakest=size,
        opposed=partial(size, sign=-1),
        small=size,
        agreement=_agreement(seedwise),
        opposing=_agreement(-seedwise),
        ways=[lead, lead.swapped, *_towards_margin(claim, lead)],
        wording=wording,
    )


def _less(difference: float, total: float) -> float:
    """Returns |b| - |a| from b - a and b + a.

    >>> _less(5.0 - 2.0, 5.0 + 2.0), _less(-5.0 + 2.0, -5.0 - 2.0), _less(-3.0, 3.0)
    (3.0, 3.0, -3.0)
    """
    sign = math.copysign(1.0, difference) * math.copysign(1.0, total)
    return sign * min(abs(difference), abs(total))


def _spread(claim: Claim, x: Array, wording: Wording, test: Test) -> Evidence:
    """The smaller variance over the axis, from products of two seeds' values that share no noise.

    With r_i the values of seed i less their mean over the axis, r_i . r_j / (A - 1) is on average the
    variance of the axis's own means: seeds are independent. A variance within one seed would add the noise's.
    Pairs of seeds are disjoint, (1, 2), (3, 4), ..., so that their products are independent, too. Sizes are
    signed roots, the standard deviation that one group has beyond the other's in quadrature.
    """
    centred = x - x.mean(-1, keepdims=True)
    n = x.shape[1] // 2
    products = (centred[:, 0 : 2 * n : 2] * centred[:, 1 : 2 * n : 2]).sum(-1) / (x.shape[-1] - 1)
    pair = Pair(products[1], products[0])
    squared = replace(claim, margin=None if claim.margin is None else claim.margin**2)
    evidence = _of_pair(squared, pair, wording, test)
    of, than = x.std(-1)
    return evidence._replace(
        effect=_rooted(evidence.effect),
        weakest=_rooted(evidence.weakest),
        opposed=_rooted(evidence.opposed),
        small=_rooted(evidence.small),
        agreement=_agreement(than - of),
        opposing=_agreement(of - than),
        seeds_a_value=2,
    )


def _rooted(size: Size) -> Size:
    def root(square: float) -> float:
        return math.copysign(math.sqrt(abs(square)), square)

    def rooted(confidence: float) -> Interval:
        estimate, low, high, method = size(confidence)
        return Interval(root(estimate), root(low), root(high), method)

    return rooted


def _best_inside(claim: Claim, x: Array, wording: Wording, test: Test) -> Evidence:
    """Some inner value beats both ends (a union over inner values of intersections), or none beats either.

    Refuted if for every inner value some end is shown to beat it, or to be behind by less than the margin.
    """
    y = np.moveaxis(x[0], -1, 0) * (-1 if claim.lower_is_better else 1)  # (A, n), more is better
    inner, ends = y[1:-1], y[[0, -1]]
    leads = Pair(inner[:, None], ends[None])  # (inner, 2, n)
    p, inside = test.directions(leads), _p_within(claim, leads, test)
    small = np.ones(1) if claim.margin is None else test.directions(leads.less(claim.margin)).down / 2
    best, end = int(inner.mean(-1).argmax()), int(ends.mean(-1).argmax())
    lead = Pair(inner[best], ends[end])

    def size(confidence: float, sign: int = 1) -> Interval:
        shared = 1 - (1 - confidence) / len(inner)
        all_leads = [[test.interval(Pair(one, other), shared) for other in ends] for one in inner]
        bounds = sorted(
            (
                sign * max(min(interval.low for interval in row) for row in all_leads),
                sign * max(min(interval.high for interval in row) for row in all_leads),
            )
        )
        estimate = sign * float(lead.differences.mean())
        return Interval(estimate, bounds[0], bounds[1], all_leads[best][end].method)

    return Evidence(
        p_for=min(1.0, len(inner) * float(p.up.max(-1).min())),
        p_against=min(1.0, 2 * float(p.down.min(-1).max())),
        p_small=min(1.0, 2 * float(small.min(-1).max())),
        p_negligible=float(inside.max()),
        effect=size,
        weakest=size,
        opposed=partial(size, sign=-1),
        small=size,
        agreement=_agreement(inner.max(0) - ends.max(0)),
        opposing=_agreement(-lead.differences),
        ways=[lead, lead.swapped, *_towards_margin(claim, lead)],
        wording=replace(wording, step=best + 1, end=end),
        contrasts=len(inner),
    )


def _same_trend(claim: Claim, x: Array, wording: Wording, test: Test) -> Evidence:
    """Mean steps of both groups are shown to have one sign, or opposite signs.

    A wrong verdict takes a wrong sign of one of them, so that no further adjustment is needed.
    """
    steps = x.shape[-1] - 1
    trends = Pair(x[..., -1] / steps, x[..., 0] / steps)  # (2, n)
    (up, down), inside = test.directions(trends), _p_within(claim, trends, test)
    means = trends.differences.mean(-1)
    weaker = int(np.abs(means).argmin())
    pair = Pair(trends.first[weaker], trends.second[weaker])
    pair = pair if means[1 - weaker] >= 0 else pair.swapped
    return Evidence(
        p_for=float(min(up.max(), down.max())),
        p_against=float(min(max(up[0], down[1]), max(down[0], up[1]))),
        p_small=1.0,
        p_negligible=float(inside.max()),
        effect=_size(pair, test),
        weakest=_size(pair, test),
        opposed=_size(pair.swapped, test),
        small=_size(pair, test),
        agreement=_agreement(trends.differences[0] * trends.differences[1]),
        opposing=_agreement(-pair.differences),
        ways=[pair, pair.swapped],
        wording=replace(wording, signs=(float(means[0]), float(means[1]))),
    )


CONTRASTS: dict[str, Callable[[Claim, Array, Wording, Test], Evidence]] = {
    "increasing": _monotone,
    "decreasing": _monotone,
    "better": _better,
    "equal": _equal,
    "smaller_spread": _smaller_spread,
    "best_inside": _best_inside,
    "same_trend": _same_trend,
}
