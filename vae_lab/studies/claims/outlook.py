"""How many replicates an undecided claim will probably take, and the sentence that says so."""

from __future__ import annotations

import math

from vae_lab.studies import statistics
from vae_lab.studies.claims.difference import Evidence
from vae_lab.studies.claims.wording import counted
from vae_lab.studies.statistics import Needed, Test

MOST_REPLICATES = 1_000  # what is beyond is as good as out of reach


def needed_replicates(
    evidence: Evidence, level: float, claims: int, test: Test, power: float = 0.8
) -> Needed:
    """Returns how many replicates would settle a claim if its effects stayed as they are.

    Args:
        evidence: The claim's.
        level: Of all claims together.
        claims: Those that share the level out, see `sharing`.
        test: Of the evidence.
        power: Probability of a verdict.
    """
    least, n, share = _least(evidence, level, claims, test), evidence.n, evidence.seeds_a_value
    if n < least:
        return Needed(least, least, math.inf)
    likely = [
        statistics.replicates_for_power(way.pair, level, claims * way.contrasts, power, test=test)
        for way in evidence.ways
        if way.pair.differences.mean() > 0
    ]
    following = share * statistics.next_replicates(n // share, test)
    if not likely:  # not a difference yet, which says nothing of those to come
        return Needed(math.inf, following, math.inf)
    soonest = map(min, zip(*likely, strict=True))  # whichever way settles it first
    return Needed(*(max(share * number, following) for number in soonest))


def outlook(needed: Needed, evidence: Evidence, level: float, claims: int, test: Test, replicate: str) -> str:
    """Returns the clause that says how many replicates would settle a claim; see `needed_replicates`."""
    n, least = evidence.n, _least(evidence, level, claims, test)
    among = counted(claims, "claim")
    if math.isinf(least):
        return f"its share of the level among {among} is less than any number of {replicate}s can reach"
    if n < least:
        few = f"{counted(n, replicate)} can never reach the level of {level:g} over {among}"
        return f"{few}, which needs at least {least}"
    if test.looks and math.isinf(needed.estimate):
        last = f"the last look, at {evidence.seeds_a_value * test.looks[-1]} {replicate}s"
        return f"{last}, would probably not show an effect of this size"
    if needed.estimate > MOST_REPLICATES:
        return f"an effect of this size would need more than {MOST_REPLICATES:,} {replicate}s"
    high = f"to {needed.high:.0f}" if needed.high <= MOST_REPLICATES else "or more"
    about = f"about {needed.estimate:.0f} {replicate}s ({needed.low:.0f} {high})"
    return f"{about} would settle an effect of this size"


def _least(evidence: Evidence, level: float, claims: int, test: Test) -> float:
    """The fewest replicates that can settle the claim in some way."""
    shared = min(way.contrasts for way in evidence.ways)
    return statistics.least_replicates(level, claims * shared, test) * evidence.seeds_a_value
