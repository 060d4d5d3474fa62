"""How a study's claims share its level, so that a wrong verdict among all of them is as rare as it says.

Holm's procedure hands on the share of a claim that is settled. With margins a claim can be settled and still
err: one that is rightly supported can be called negligible at the larger share of a later step, and the claim
whose lead happens to be smallest comes last. So a share is handed on only by a claim that is *closed*: shown
to be negligible, which no later step takes back, or shown to differ by more than its margin, which
contradicts all that it could wrongly be called. Without a margin each settled claim is closed, and this is
Holm's procedure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from vae_lab.studies.claims.difference import Evidence

SUPPORTED, REFUTED, NEGLIGIBLE, UNDECIDED = "supported", "refuted", "negligible", "undecided"


class Settled(NamedTuple):
    """What the claims' shares of the level leave of one claim's evidence."""

    verdict: str  # SUPPORTED, REFUTED, NEGLIGIBLE or UNDECIDED
    p: float  # of the verdict, on the two-sided scale; of the likeliest one if undecided
    adjusted_p: float  # the lowest level at which the claims together would give this verdict
    among: int  # claims that the level is shared out among, itself and those that are not closed


def settled(evidence: Sequence[Evidence | None], levels: Sequence[float]) -> list[Settled]:
    """Returns the verdict on each claim of a study.

    What lies within the margin does not matter, even where it is shown not to be zero: negligible comes
    before refuted, and refuted before supported.

    Args:
        evidence: Of all claims; None where the runs say nothing to one.
        levels: Of each, for all of them together.

    References:
        Holm, A simple sequentially rejective multiple test procedure, 1979.
        Goeman & Solari, The sequential rejection principle of familywise error control, 2010.
    """
    closing = [_p_closed(one) for one in evidence]
    return [
        _settled(one, closing[:i] + closing[i + 1 :], level)
        for i, (one, level) in enumerate(zip(evidence, levels, strict=True))
    ]


def _p_closed(evidence: Evidence | None) -> float:
    """Returns the share of the level at which a claim is closed."""
    if evidence is None:
        return 1.0
    shown = min(evidence.p_for, evidence.p_against, evidence.p_small)
    return min(evidence.p_negligible, max(shown, evidence.p_beyond))


def _settled(evidence: Evidence | None, others: Sequence[float], level: float) -> Settled:
    """Returns the verdict on one claim, beside others that are closed at these shares of the level."""
    steps = _steps(others)
    among = min(claims for claims, least in steps if least <= level)
    if evidence is None:
        return Settled(UNDECIDED, 1.0, 1.0, among)
    questions = {
        NEGLIGIBLE: evidence.p_negligible,
        REFUTED: min(evidence.p_against, evidence.p_small),
        SUPPORTED: evidence.p_for,
    }
    for verdict, p in questions.items():
        if (adjusted := _adjusted(p, steps)) <= level:
            return Settled(verdict, p, adjusted, among)
    likeliest = min(questions.values())
    return Settled(UNDECIDED, likeliest, _adjusted(likeliest, steps), among)


def _steps(others: Sequence[float]) -> list[tuple[int, float]]:
    """Returns among how many claims the level can be shared out, and the lowest level at which it is."""
    steps, least = [(len(others) + 1, 0.0)], 0.0
    for closed, share in enumerate(sorted(others)):
        claims = len(others) + 1 - closed
        least = max(least, claims * share)
        steps.append((claims - 1, least))
    return steps


def _adjusted(p: float, steps: Sequence[tuple[int, float]]) -> float:
    return min(1.0, *(max(least, claims * p) for claims, least in steps))
