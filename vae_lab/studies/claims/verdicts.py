"""Verdicts on the claims of a study: supported, refuted or undecided."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from vae_lab.errors import UserError
from vae_lab.studies import statistics
from vae_lab.studies.claims.declared import Claim, parse
from vae_lab.studies.claims.evidence import PAIRED_TESTS, Evidence, Layout, Missing, gather
from vae_lab.studies.claims.wording import decimals, sentence
from vae_lab.studies.comparison import Study
from vae_lab.studies.statistics import Interval
from vae_lab.tracking import StoredRun

SUPPORTED, REFUTED, UNDECIDED = "supported", "refuted", "undecided"
MOST_REPLICATES = 1_000  # what is beyond is as good as out of reach


@dataclass(frozen=True)
class Verdict:
    """What the runs say to one claim.

    The effect is the mean over replicates in the metric's unit, positive in the claimed direction: per step
    of the axis (increasing, decreasing, same_trend: the weaker group's), the lead of A over B (better), B's
    standard deviation over the axis minus A's (smaller_spread), the lead of the best inner value over the
    better end (best_inside).
    """

    claim: Claim
    verdict: str  # SUPPORTED, REFUTED or UNDECIDED
    effect: float  # nan without data
    low: float  # of the effect's interval at 1 - level, infinite where there is none
    high: float
    n: int  # replicates that have every run compared
    p: float  # of the verdict, on the two-sided scale
    adjusted_p: float  # after Holm over the study's claims
    better: float  # share of replicates that agree with the claim by themselves, ties half
    needed: float | None  # replicates that would settle it, if undecided; inf if no effect is seen
    sentence: str

    @property
    def settled(self) -> bool:
        """Whether more runs are not needed."""
        return self.verdict != UNDECIDED


def frame(runs: Iterable[StoredRun]) -> pd.DataFrame:
    """One row a finished run: its parameters as texts and its metrics as numbers."""
    return pd.DataFrame([{**run.params, **run.metrics} for run in runs if run.status == "FINISHED"])


def judge(
    claims: Sequence[Claim],
    runs: pd.DataFrame,
    replicate: str = "seed",
    *,
    axes: Mapping[str, Sequence[str]] | None = None,
    base: Mapping[str, str] | None = None,
    sequential: bool = False,
) -> list[Verdict]:
    """A verdict on each claim; a wrong one among them has at most the claims' level of probability.

    Args:
        claims: all that the study declares; Holm's adjustment is over them.
        runs: one row a finished run, as `frame` makes it.
        replicate: the parameter by which runs are paired.
        axes: every varied key with its planned values; one without runs leaves a claim undecided.
        base: where keys stay that a claim does not name, in a study that varies one key at a time.
        sequential: the number of replicates was chosen after looking at them.

    Raises:
        UserError: a claim names a parameter that no run has, or orders what has no order.
    """
    layout = Layout(replicate, axes, base)
    found = [gather(claim, runs, layout, PAIRED_TESTS[sequential]) for claim in claims]
    p = [1.0 if isinstance(each, Missing) else min(each.supports, each.refutes) for each in found]
    adjusted = statistics.holm(p)
    return [
        _missing(claim, each, len(claims))
        if isinstance(each, Missing)
        else _verdict(claim, each, raw, held, len(claims), layout.replicate, sequential)
        for claim, each, raw, held in zip(claims, found, p, adjusted, strict=True)
    ]


def judge_study(study: Study, *, sequential: bool = False) -> list[Verdict]:
    """Verdicts on the claims that a study's plan declares.

    They are sequential if the plan says that seeds were added while looking, or if `sequential` does.

    Raises:
        UserError: it declares none, or one that is not valid.
    """
    plan = study.plan
    claims = parse(plan.claims)
    if not claims:
        raise UserError(
            f"{plan.name}: the study declares no claims; see `claims` in experiments/reference.yaml."
        )
    axes = {**plan.cross, **plan.one_at_a_time}
    replicate = next(iter(plan.replicate), "seed")
    return judge(
        claims,
        frame(study.runs),
        replicate,
        axes=axes,
        base=plan.base,
        sequential=sequential or plan.sequential,
    )


def round_target(verdicts: Sequence[Verdict], done: int, most: int) -> int | None:
    """How many replicates to have after the next round of a sequential study; None once it is over.

    It is over when every claim is settled or `most` replicates are done. The verdicts must be sequential
    ones; those of fixed tests, looked at again and again, err far above their level.
    """
    if done >= most or all(verdict.settled for verdict in verdicts):
        return None
    level = min(verdict.claim.level for verdict in verdicts)
    return statistics.next_round(done, most, level, len(verdicts))


def _missing(claim: Claim, missing: Missing, contrasts: int) -> Verdict:
    needed = statistics.least_replicates(claim.level, contrasts)
    nothing = (math.nan, -math.inf, math.inf)
    return Verdict(claim, UNDECIDED, *nothing, 0, 1.0, 1.0, math.nan, needed, missing.reason)


def _verdict(
    claim: Claim, found: Evidence, p: float, adjusted: float, contrasts: int, replicate: str, sequential: bool
) -> Verdict:
    n = len(found.effects)
    estimate = statistics.confidence_sequence if sequential else statistics.paired_interval
    effect = estimate(found.effects, 1 - claim.level)
    agree = float(found.holds.mean())
    unit = found.words.unit

    def size(found: Interval, sign: str = "") -> str:
        mean, low, high, _ = found
        form = f"{sign}.{decimals(mean, low, high)}f"
        bounds = f"no interval from {_count(n, replicate)}"
        if math.isfinite(low):
            bounds = f"{100 * (1 - claim.level):.4g} % interval {low:{form}} to {high:{form}}"
        return f"{mean:{form}}{unit} ({bounds})"

    if adjusted > claim.level:
        verdict, needed = UNDECIDED, _needed(found, claim.level, contrasts)
        sense = -1 if claim.expect == "decreasing" else 1
        change, least = (estimate(sense * each, 1 - claim.level) for each in (found.effects, found.weakest))
        clause = found.words.undecided(size(change, "+"), size(least, "+"))
        clause += f", as claimed in {agree * n:.4g} of {_count(n, replicate)}; "
        clause += _outlook(needed, n, claim.level, contrasts, replicate, found.share)
    elif found.supports <= found.refutes:
        verdict, needed = SUPPORTED, None
        clause = f"{found.words.supported(size(effect))} in {agree * n:.4g} of {_count(n, replicate)}"
    else:
        verdict, needed = REFUTED, None
        opposite = estimate(found.against, 1 - claim.level)
        opposed = f"in {(found.against > 0).sum()} of {_count(n, replicate)}"
        clause = f"{found.words.refuted(size(opposite))} {opposed}"
    text = sentence(found.words, clause)
    return Verdict(claim, verdict, *effect[:3], n, p, adjusted, agree, needed, text)


def _needed(found: Evidence, level: float, contrasts: int) -> float:
    """Replicates that would settle the claim if the effects stayed as they are."""
    least = statistics.least_replicates(level, contrasts * found.share)
    n = len(found.weakest)
    if n < least:
        return least
    ways = [series for series in (found.weakest, found.against) if series.mean() > 0]
    likely = (statistics.replicates_for_power(series, level, contrasts * found.share) for series in ways)
    return max(min(likely, default=math.inf), n + 1)


def _outlook(needed: float, n: int, level: float, contrasts: int, replicate: str, share: int) -> str:
    least = statistics.least_replicates(level, contrasts * share)
    if n < least:
        claims = "1 claim" if contrasts == 1 else f"{contrasts} claims"
        return (
            f"{_count(n, replicate)} can never reach the level of {level:g} over {claims}, "
            f"which needs at least {least}"
        )
    if needed > MOST_REPLICATES:
        return f"an effect of this size would need more than {MOST_REPLICATES:,} {replicate}s"
    return f"about {needed:.0f} {replicate}s would settle an effect of this size"


def _count(n: int, replicate: str) -> str:
    return f"{n} {replicate}{'' if n == 1 else 's'}"
