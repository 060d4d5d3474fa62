"""Which of two groups is less sensitive: the spread of a metric's means over an axis.

Shapes: n replicates, A values of the axis. Everything positive speaks for the claim.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np

from vae_lab.studies.claims.declared import Claim
from vae_lab.studies.claims.difference import (
    Evidence,
    Size,
    Way,
    agreement,
    beside_margin,
    evidence_of_pair,
    towards_margin,
)
from vae_lab.studies.claims.wording import Wording
from vae_lab.studies.statistics import Array, Interval, Pair, Test


def smaller_spread(claim: Claim, x: Array, wording: Wording, test: Test) -> Evidence:
    """Returns the evidence that the means over seeds of x (2, n, A) spread less in the first group."""
    gaps = np.diff(x, axis=-1)[..., 0] if x.shape[-1] == 2 else None
    return _spread(claim, x, wording, test) if gaps is None else _gap(claim, gaps, wording, test)


def _gap(claim: Claim, gaps: Array, wording: Wording, test: Test) -> Evidence:
    """The smaller of two mean gaps, each of either sign, from gaps (2, n).

    |b| > |a| where b - a and b + a have one sign. Tests of the two are linear, so noise cancels; the means of
    |a| and |b| within seeds would measure it. Whichever is nearer to zero is the harder to show.
    """
    of, than = gaps
    apart, together = Pair(than, of), Pair(than, -of)
    a, b = test.directions(apart), test.directions(together)
    harder, other = sorted((apart, together), key=lambda pair: abs(float(pair.differences.mean())))
    lead = harder if other.differences.mean() >= 0 else harder.swapped
    beside = [beside_margin(claim, pair, test) for pair in (apart, together)]
    nearer = min(float(margins.inside) for margins in beside)
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
        p_negligible=min(1.0, 2 * nearer),
        # b - a and b + a are shown to lie beyond the margin, each on a side: in one of four quarters.
        p_beyond=min(float(max(sides)) for sides in product(*(margins[1:] for margins in beside))),
        effect=size,
        weakest=size,
        opposed=partial(size, sign=-1),
        small=size,
        agreement=agreement(seedwise),
        opposing=agreement(-seedwise),
        ways=[Way(lead), Way(lead.swapped), *towards_margin(claim, lead, contrasts=2)],
        compared=[apart, together],
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
    Pairs of seeds are disjoint, (0, 1), (2, 3), ..., so that their products are independent, too. Sizes are
    signed roots, the standard deviation that one group has beyond the other's in quadrature.
    """
    centred = x - x.mean(-1, keepdims=True)
    n = x.shape[1] // 2
    products = (centred[:, 0 : 2 * n : 2] * centred[:, 1 : 2 * n : 2]).sum(-1) / (x.shape[-1] - 1)
    pair = Pair(products[1], products[0])
    squared = replace(claim, margin=None if claim.margin is None else claim.margin**2)
    evidence = evidence_of_pair(squared, pair, wording, test)
    of, than = x.std(-1)
    return evidence._replace(
        effect=_rooted(evidence.effect),
        weakest=_rooted(evidence.weakest),
        opposed=_rooted(evidence.opposed),
        small=_rooted(evidence.small),
        agreement=agreement(than - of),
        opposing=agreement(of - than),
        seeds_a_value=2,
    )


def _rooted(size: Size) -> Size:
    def root(square: float) -> float:
        return math.copysign(math.sqrt(abs(square)), square)

    def rooted(confidence: float) -> Interval:
        estimate, low, high, method = size(confidence)
        return Interval(root(estimate), root(low), root(high), method)

    return rooted
