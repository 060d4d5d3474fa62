"""Verdicts on the claims of a study: supported, refuted, negligible or undecided."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from vae_lab.errors import UserError
from vae_lab.studies import statistics
from vae_lab.studies.claims.compared import Design
from vae_lab.studies.claims.declared import Claim
from vae_lab.studies.claims.difference import Evidence, Size
from vae_lab.studies.claims.evidence import NoEvidence, evidence_for
from vae_lab.studies.claims.outlook import needed_replicates, outlook
from vae_lab.studies.claims.sharing import NEGLIGIBLE, REFUTED, SUPPORTED, UNDECIDED, Settled, settled
from vae_lab.studies.claims.wording import counted, decimals, in_so_many, sentence
from vae_lab.studies.statistics import Interval, Needed, Test
from vae_lab.studies.study import POINT
from vae_lab.tracking import StoredRun

if TYPE_CHECKING:
    import pandas as pd

SKEWNESS_LEVEL = 0.05
SKEWED = "The differences between seeds are skewed, and then the test can err more often than its level says."


Judged = tuple[Evidence, Test] | NoEvidence


@dataclass(frozen=True)
class Verdict:
    """What the runs say to one claim: it is supported, refuted, negligible or undecided.

    The effect is the mean over replicates in the metric's unit, positive in the claimed direction: per step
    of the axis (increasing, decreasing, same_trend: the weaker group's), the lead of `of` over `than`
    (better), the gap or standard deviation of `than` over the axis beyond that of `of` (smaller_spread), the
    lead of the best inner value over the better end (best_inside), the difference of `of` from `than`
    (equal).
    """

    claim: Claim
    verdict: str  # SUPPORTED, REFUTED, NEGLIGIBLE or UNDECIDED
    effect: float  # nan without data
    low: float  # of the effect's interval at 1 - level, infinite where there is none
    high: float
    n: int  # replicates that have every run compared
    p: float  # of the verdict, on the two-sided scale; of the likeliest one if undecided
    adjusted_p: float  # with the level shared out among the study's claims
    agreement: float  # share of replicates that agree with the claim by themselves, ties half
    needed: Needed | None  # replicates that would probably settle it, if undecided; inf if no effect is seen
    sentence: str
    sequential: bool = False  # whether the test allows for seeds that were added while looking
    standing: str = ""  # of a claim that was declared or dropped after runs had been seen: that it was
    dropped: bool = False  # whether the study no longer has the claim
    paired: bool = True  # whether the test is of differences within seeds
    soonest: float = 0.0  # the fewest replicates that have a fair chance to settle it, if undecided
    looks: tuple[int, ...] = ()  # the numbers of replicates at which the test looks; empty: at any
    caution: str = ""  # why p may be too small
    no_value: str = ""  # what is compared and has no value in any finished run, in words

    @property
    def settled(self) -> bool:
        """Whether more runs are not needed."""
        return self.verdict != UNDECIDED


def runs_frame(runs: Iterable[StoredRun], metrics: Collection[str]) -> pd.DataFrame:
    """Returns one row a finished run: its parameters as texts, and of some metrics those that it has."""
    import pandas as pd  # late, as in `evidence`

    finished = [run for run in runs if run.status == "FINISHED"]
    # Column by column: rows as dictionaries would take twice the memory.
    params = {key: [run.params.get(key) for run in finished] for key in _keys(run.params for run in finished)}
    logged = _keys(run.metrics for run in finished)
    numbers = {key: [run.metrics.get(key) for run in finished] for key in metrics if key in logged}
    return pd.DataFrame({**params, **numbers})


def _keys(mappings: Iterable[Mapping[str, object]]) -> dict[str, None]:
    return dict.fromkeys(key for mapping in mappings for key in mapping)


def judge(
    claims: Sequence[Claim],
    runs: pd.DataFrame,
    replicate: str = "seed",
    *,
    former: Sequence[Claim] = (),
    former_values: Sequence[Mapping[str, list[str]] | None] = (),
    axes: Mapping[str, Sequence[str]] | None = None,
    base: Mapping[str, str] | None = None,
    sequential: bool = False,
    points: Mapping[str, Mapping[str, str]] | None = None,
    repeats: Collection[str] = (),
) -> list[Verdict]:
    """Returns a verdict on each claim; a wrong one among them has at most the claims' level of probability.

    Args:
        claims: all that the study declares; they share the level.
        runs: one row a finished run, as `runs_frame` makes it.
        replicate: the parameter that numbers the repeats of a configuration.
        former: those that it has dropped; they count, and one that is not valid any more stays undecided.
        former_values: the values that each of those was declared of, if known; see `scope.declared_values`.
        axes: every varied key with its planned values; one without runs leaves a claim undecided.
        base: where keys stay that a claim does not name, in a study that varies one key at a time.
        sequential: the number of replicates was chosen after looking at them.
        points: what each named point sets.
        repeats: keys of `axes` that repeat runs within a replicate, which has runs of all their values.

    Raises:
        UserError: a claim names a parameter that no run has, or orders what has no order.

    Examples:
        >>> import pandas as pd
        >>> claim = Claim("C1", "Depth raises the loss.", "test/loss", "increasing", along="model.layers")
        >>> grid = [(layers, seed, 10.0 * layers + seed) for layers in (2, 3) for seed in range(6)]
        >>> runs = pd.DataFrame(grid, columns=["model.layers", "seed", "test/loss"])
        >>> [(verdict.verdict, verdict.effect, verdict.n) for verdict in judge([claim], runs)]
        [('supported', 10.0, 6)]
    """
    design = Design(replicate, axes, base, sequential, len(claims) + len(former), points or {}, repeats)
    return _verdicts(claims, [*zip_longest(former, former_values)], runs, design)


def _verdicts(
    claims: Sequence[Claim],
    former: Sequence[tuple[Claim, Mapping[str, list[str]] | None]],
    runs: pd.DataFrame,
    design: Design,
) -> list[Verdict]:
    """The verdicts on claims, and on those that were dropped with the values of then."""
    evidence: list[Judged] = [evidence_for(claim, runs, design) for claim in claims]
    evidence += [_evidence_for_former(claim, values, runs, design) for claim, values in former]
    sharing = [*claims, *(claim for claim, _ in former)]
    shown = [None if isinstance(one, NoEvidence) else one[0] for one in evidence]
    results = settled(shown, [claim.level for claim in sharing])
    return [_verdict(*case, design) for case in zip(sharing, evidence, results, strict=True)]


def _evidence_for_former(
    claim: Claim, values: Mapping[str, list[str]] | None, runs: pd.DataFrame, design: Design
) -> Judged:
    """The evidence for a claim that a study has dropped, also where its runs cannot say anything any more."""
    if point := design.changed_point(claim, values or {}):
        reason = f"It cannot be judged any more: the {POINT} {point} has other settings now."
        return NoEvidence(reason, statistics.UNPAIRED)
    try:
        return evidence_for(claim, runs, design.of_values(claim, values or {}))
    except UserError as error:
        return NoEvidence(f"It cannot be judged any more: {error}", statistics.UNPAIRED)


def round_target(verdicts: Sequence[Verdict], done: int, most: int) -> int | None:
    """Returns how many replicates a sequential study has after its next round; None once it is over.

    First as many as could settle anything, then those of the next look. It is over when every claim is
    settled or has no look left up to `most`. The verdicts must be sequential ones; those of fixed tests,
    looked at again and again, err far above their level.
    """
    still_open = [verdict for verdict in verdicts if not verdict.settled]
    if not still_open:
        return None
    if not done:
        least = min(verdict.needed.estimate for verdict in still_open if verdict.needed)
        return min(most, math.ceil(least))
    return statistics.next_look(done, most, [verdict.looks for verdict in still_open])


def _verdict(claim: Claim, judged: Judged, result: Settled, design: Design) -> Verdict:
    """The verdict on a claim with its sizes and words."""
    sequential, (verdict, p, adjusted_p, among) = design.sequential, result
    if isinstance(judged, NoEvidence):
        least = statistics.least_replicates(claim.level, among, judged.test) * judged.seeds_a_value
        nothing = (math.nan, -math.inf, math.inf, 0, p, adjusted_p, math.nan)
        open_end = Needed(least, least, math.inf)
        return Verdict(
            *(claim, UNDECIDED, *nothing, open_end, judged.reason, sequential),
            paired=judged.test.paired,
            soonest=least,
            looks=_looks(judged.test, judged.seeds_a_value),
            no_value=judged.no_value,
        )
    evidence, test = judged
    asked = evidence, claim.level, among, test
    needed = needed_replicates(*asked) if verdict == UNDECIDED else None
    effect = evidence.effect(1 - claim.level)
    clause = _clause(verdict, evidence, effect, design.replicate)
    if needed is not None:
        clause += f"; {outlook(needed, *asked, design.replicate)}"
    caution = SKEWED if _is_skewed(evidence) else ""
    agreement = float(evidence.agreement.mean())
    text = " ".join(filter(None, (sentence(claim, clause), caution)))
    return Verdict(
        *(claim, verdict, *effect[:3], evidence.n, p, adjusted_p, agreement, needed, text, sequential),
        paired=test.paired,
        soonest=0.0 if needed is None else needed_replicates(*asked, statistics.FAIR_CHANCE).low,
        looks=_looks(test, evidence.seeds_a_value),
        caution=caution,
    )


def _looks(test: Test, seeds_a_value: int) -> tuple[int, ...]:
    return tuple(look * seeds_a_value for look in test.looks)


def _is_skewed(evidence: Evidence) -> bool:
    """Whether one of the differences that a verdict rests on is skewed; one in 20 says so by chance."""
    level = SKEWNESS_LEVEL / len(evidence.compared)
    return any(statistics.is_skewed(pair.differences, level) for pair in evidence.compared)


def _clause(verdict: str, evidence: Evidence, effect: Interval, replicate: str) -> str:
    wording, n = evidence.wording, evidence.n
    confidence, replicates = 1 - wording.claim.level, counted(n, replicate)
    agreeing = in_so_many(evidence.agreement, replicates)

    def size(interval: Interval, sign: str = "") -> str:
        return _interval_text(interval, wording.unit, confidence, replicates, sign)

    def change(of: Size) -> str:
        """A size with its sign: of steps and trends that of the metric's change, not of what is claimed."""
        interval = of(confidence)
        if wording.falls_as_claimed:
            interval = Interval(-interval.estimate, -interval.high, -interval.low, interval.method)
        return size(interval, "+")

    if verdict == SUPPORTED:
        return f"{wording.supported(size(effect))} {agreeing}"
    if verdict == NEGLIGIBLE:
        return wording.negligible(change(evidence.effect))
    if verdict == REFUTED and evidence.p_small < evidence.p_against:
        return wording.refuted_as_small(change(evidence.small))
    if verdict == REFUTED:
        against = size(evidence.opposed(confidence))
        return f"{wording.refuted(against)} {in_so_many(evidence.opposing, replicates)}"
    return f"{wording.undecided(change(evidence.effect), change(evidence.weakest))}, as claimed {agreeing}"


def _interval_text(interval: Interval, unit: str, confidence: float, replicates: str, sign: str) -> str:
    """`11.9 nats/image (95 % interval 11.0 to 13.5)`; with `sign` "+", positive numbers have a plus."""
    mean, low, high, method = interval
    form = f"{sign}.{decimals(mean, low, high)}f"
    bounds = f"no interval from {replicates}"
    if math.isfinite(low):
        normal = ", if normal" if method == "t" else ""
        bounds = f"{100 * confidence:.4g} % interval {low:{form}} to {high:{form}}{normal}"
    return f"{mean:{form}}{unit} ({bounds})"
