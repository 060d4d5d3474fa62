"""The evidence for and against a claim, and how one difference becomes evidence.

Shapes: n replicates. Everything positive speaks for the claim. Every p is on the two-sided scale: it is at or
below the level where the interval at 1 - level leaves out what is rejected.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from vae_lab.studies.claims.declared import Claim
from vae_lab.studies.claims.wording import Wording
from vae_lab.studies.statistics import Array, Interval, Margins, Pair, Test, beside

Size = Callable[[float], Interval]  # the interval at a confidence


class Way(NamedTuple):
    """A way in which more replicates could settle a claim."""

    pair: Pair  # settles it if its difference stays positive
    contrasts: float = 1  # among which the claim's own level is shared out


class Evidence(NamedTuple):
    """A claim's contrasts. p is 1 for a question that the claim does not raise, such as that of no margin."""

    p_for: float
    p_against: float
    p_small: float  # that some part of the claimed difference is within the margin
    p_negligible: float  # that all of it is
    p_beyond: float  # that it is so far beyond the margin that nothing else could be said; 0 without a margin
    effect: Size  # in the metric's unit
    weakest: Size  # of the contrast that support waits for
    opposed: Size  # of the contrast that speaks most against the claim, positive if it does
    small: Size  # of the part that is most clearly within the margin
    agreement: Array  # (n,): 1 where this replicate alone agrees, 0 where not, 0.5 for a tie
    opposing: Array  # (n,): where this replicate alone agrees with `opposed`
    ways: Sequence[Way]
    compared: Sequence[Pair]  # every difference that the verdict rests on
    wording: Wording
    seeds_a_value: int = 1  # replicates that make one value of `ways`

    @property
    def n(self) -> int:
        """Replicates that have every run compared."""
        return len(self.agreement)


def evidence_of_pair(claim: Claim, pair: Pair, wording: Wording, test: Test) -> Evidence:
    """Returns the evidence of a claim that one difference is above zero."""
    p, margins = test.directions(pair), beside_margin(claim, pair, test)
    return Evidence(
        p_for=float(p.up),
        p_against=float(p.down),
        p_small=1.0,  # of one difference, the whole is within the margin or nothing
        p_negligible=float(margins.inside),
        p_beyond=float(margins.beyond),
        effect=size(pair, test),
        weakest=size(pair, test),
        opposed=size(pair.swapped, test),
        small=size(pair, test),
        agreement=agreement(pair.differences),
        opposing=agreement(-pair.differences),
        ways=[Way(pair), Way(pair.swapped), *towards_margin(claim, pair)],
        compared=[pair],
        wording=wording,
    )


def agreement(differences: Array) -> Array:
    """Returns 1 where a replicate's difference is above zero, 0 where it is below, 0.5 for a tie."""
    return (np.sign(differences) + 1) / 2


def size(pair: Pair, test: Test) -> Size:
    """Returns the interval of a difference by its confidence."""
    return partial(test.interval, pair)


def beside_margin(claim: Claim, pair: Pair, test: Test) -> Margins:
    """Returns p, each (*,), of where differences (*, n) lie beside a claim's margin.

    Without one nothing is within it, and everything is as good as beyond.
    """
    if claim.margin is None:
        shape = np.shape(pair.differences)[:-1]
        return Margins(np.ones(shape), np.zeros(shape), np.zeros(shape))
    return beside(pair, claim.margin, test)


def towards_margin(claim: Claim, pair: Pair, contrasts: float = 1) -> list[Way]:
    """Returns the way to show a difference within the margin, from the side that it is nearer to."""
    if claim.margin is None:
        return []
    return [Way((pair if pair.differences.mean() < 0 else pair.swapped).less(-claim.margin), contrasts)]
