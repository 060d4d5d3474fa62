"""How many replicates an undecided claim will probably take, and the sentence that says so."""

from __future__ import annotations

import math

from vae_lab.studies import statistics
from vae_lab.studies.claims.contrasts import Evidence
from vae_lab.studies.claims.wording import counted
from vae_lab.studies.statistics import Needed, Test

MOST_REPLICATES = 1_000  # what is beyond is as good as out of reach


def needed_replicates(evidence: Evidence, level: float, claims: int, test: Test) -> Needed:
    """Returns how many replicates would settle a claim if its effects stayed as they are.

    Args:
        evidence: The claim's.
        level: Of all claims together.
        claims: Among which the level is shared out.
        test: Of the evidence.
    """
    least, contrasts, n = _least(evidence, level, claims, test), claims * evidence.contrasts, evidence.n
    if n < least:
        return Needed(least, least, math.inf)
    likely = [
        statistics.replicates_for_power(way, level, contrasts, test=test)
        for way in evidence.ways
        if way.differences.mean() > 0
    ]
    if not likely:  # not a difference yet, which says nothing of those to come
        return Needed(math.inf, n + 1, math.inf)
    soonest = map(min, zip(*likely, strict=True))  # whichever way settles it first
    return Needed(*(max(evidence.seeds_a_value * number, n + 1) for number in soonest))


def outlook(needed: Needed, evidence: Evidence, level: float, claims: int, test: Test, replicate: str) -> str:
    """Returns the clause that says how many replicates would settle a claim; see `needed_replicates`."""
    n, least = evidence.n, _least(evidence, level, claims, test)
    if math.isinf(least):
        return f"its {evidence.contrasts:,} contrasts are more than any number of {replicate}s can settle"
    if n < least:
        among = counted(claims, "claim")
        few = f"{counted(n, replicate)} can never reach the level of {level:g} over {among}"
        return f"{few}, which needs at least {least}"
    if needed.estimate > MOST_REPLICATES:
        return f"an effect of this size would need more than {MOST_REPLICATES:,} {replicate}s"
    high = f"to {needed.high:.0f}" if needed.high <= MOST_REPLICATES else "or more"
    about = f"about {needed.estimate:.0f} {replicate}s ({needed.low:.0f} {high})"
    return f"{about} would settle an effect of this size"


def _least(evidence: Evidence, level: float, claims: int, test: Test) -> float:
    """The fewest replicates that can settle the claim."""
    least = statistics.least_replicates(level, claims * evidence.contrasts, test)
    return least * evidence.seeds_a_value
