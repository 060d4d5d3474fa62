"""The rounds of a multirun (one, or with seeds=auto until its claims are settled), its plan and its name."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
from omegaconf import DictConfig, OmegaConf

from vae_lab import config
from vae_lab.errors import UserError
from vae_lab.jobs import progress
from vae_lab.jobs.grammar import without_quotes
from vae_lab.jobs.job import Job
from vae_lab.jobs.lines.grid import REPLICATED, Axes
from vae_lab.jobs.parts.own_metrics import own_metrics
from vae_lab.metrics import Metric
from vae_lab.studies import claims
from vae_lab.studies.claims import Claim, Verdict, unmeasured
from vae_lab.studies.claims.scope import compared
from vae_lab.studies.plan import Oracle, Plan
from vae_lab.studies.planned import unplanned

Key = tuple[str, str]  # fingerprint and name of a run
Grid = Callable[[int | None], tuple[Axes, list[Job]]]  # from a number of seeds
Known = Callable[[Plan, Mapping[Key, Job]], Plan]


class Round(NamedTuple):
    """What a multirun wants to have run: its axes, and its jobs by their runs' fingerprint and name."""

    axes: Axes
    jobs: dict[Key, Job]


def rounds(
    master: DictConfig, grid: Grid, judge: Callable[[], list[Verdict]], known: Known
) -> Iterator[Round]:
    """Yields what a multirun wants to have run: at once, or with `seeds=auto` a round after the other.

    The first round has every point, so that all tables have it; each later one more seeds of the points that
    a claim compares which is open: not settled, and not given up as more than `max_seeds` would settle. Each
    round judges anew, so that a claim that was given up can come back.

    Args:
        master: The composed config of the multirun.
        grid: Returns axes and checked jobs for a number of seeds; None where the axes say which there are.
        judge: Returns the verdicts on the runs of the rounds so far.
        known: Returns a plan of these jobs with all claims that were ever declared of it.

    Raises:
        UserError: `seeds=auto` of a study without claims, or with one on what is not measured.
    """
    declared = claims.parse(study_of(master)["claims"], _metrics(master))
    if master.seeds != "auto":
        yield _prepared(grid, master.seeds)
        return
    if not declared:
        raise UserError("seeds=auto: is for a study that declares claims, such as experiments=reference.")
    claims.check_measured(declared, master.evaluation)
    yield from _until_settled(master, grid, judge, known)


def _until_settled(
    master: DictConfig, grid: Grid, judge: Callable[[], list[Verdict]], known: Known
) -> Iterator[Round]:
    most = master.max_seeds
    seeds = claims.round_target(_untrained(master, _prepared(grid, 1), known), 0, most)
    assert seeds is not None, "nothing is settled before it has run"
    current = _prepared(grid, seeds)
    plan = plan_of(master, current, "", sequential=True)
    unplanned_ids = unplanned(plan, [_params(job) for job in current.jobs.values()]).values()
    never = set(itertools.chain.from_iterable(unplanned_ids))
    given_up: set[str] = set()
    while True:
        yield current
        unsettled = [verdict for verdict in judge() if not verdict.settled]
        planned = [verdict for verdict in unsettled if verdict.claim.id not in never]
        given_up = _given_up(planned, given_up, most)
        still_open = [verdict for verdict in planned if verdict.claim.id not in given_up]
        going_on = [verdict for verdict in still_open if _has_a_look_left(verdict, most)]
        # A claim that came back may have fewer seeds than others have: then it gets as many first.
        seeds = claims.round_target(going_on, seeds, most) or seeds
        wanted = [verdict.claim for verdict in going_on]
        further = _prepared(grid, seeds, partial(_compared, wanted, plan)) if wanted else current
        wider = Round(further.axes, {**current.jobs, **further.jobs})
        ends = len(wider.jobs) == len(current.jobs)
        _say_what_follows(unsettled, still_open, None if ends else seeds, most)
        if ends:
            return
        current = wider


def _untrained(master: DictConfig, outline: Round, known: Known) -> list[Verdict]:
    """Returns the verdicts before anything is trained: by which tests, of how many seeds at least.

    Claims that the study has dropped share the level with those of today, as they will in every round.
    """
    plan = plan_of(master, outline, study_name(master, outline.axes), sequential=True)
    planned = pd.DataFrame([_params(job) for job in outline.jobs.values()])
    verdicts = claims.judge_plan(known(plan, outline.jobs), planned)
    return [verdict for verdict in verdicts if not verdict.dropped]


def _prepared(
    grid: Grid, seeds: int | None, chosen: Callable[[list[Job]], Iterable[Job]] = list[Job]
) -> Round:
    """Returns a round whose jobs have all been tried on this machine."""
    with progress.busy("Checking every run's settings and the data"):
        varied, jobs = grid(seeds)
        return Round(varied, {job.key: job for job in chosen(jobs)})


def _compared(still_open: Sequence[Claim], plan: Plan, jobs: Sequence[Job]) -> Iterator[Job]:
    """Returns the jobs that an open claim of the plan compares."""
    return itertools.compress(jobs, compared(still_open, [_params(job) for job in jobs], plan))


def _params(job: Job) -> dict[str, str]:
    return config.parameters(job.settings)


def _given_up(unsettled: Iterable[Verdict], before: Collection[str], most: int) -> set[str]:
    """Returns the claims that have no fair chance to be settled, were their effects as large as may be.

    One of which a whole round gave no value of something that it compares is given up until one appears: its
    metric is not defined there, or every seed failed.

    Neither giving up nor coming back raises the chance of a wrong verdict: the tests hold at all numbers of
    seeds at once, whatever says which of them is reached.
    """
    ids = set()
    for verdict in unsettled:
        name, was, soonest = verdict.claim.id, verdict.claim.id in before, verdict.soonest
        if verdict.no_value:
            ids.add(name)
            said = f"{name} is given up: {verdict.no_value[0].lower()}{verdict.no_value[1:]}."
        elif soonest > most and (was or _has_a_look_left(verdict, most)):
            ids.add(name)
            least = f"{soonest:,.0f} seeds at least" if math.isfinite(soonest) else "more than a test can use"
            said = f"{name} is given up: it would take {least}, and max_seeds={most}."
        else:
            said = f"{name} comes back: {soonest:,.0f} seeds may settle it, and max_seeds={most}."
        if was != (name in ids):
            progress.console.print(said, soft_wrap=True)
    return ids


def _has_a_look_left(verdict: Verdict, most: int) -> bool:
    return claims.round_target([verdict], verdict.n, most) is not None


def _say_what_follows(
    unsettled: Sequence[Verdict], still_open: Sequence[Verdict], seeds: int | None, most: int
) -> None:
    """Says what the next round is for and how long it may go on, or why there is none."""
    if not unsettled:
        return
    if not still_open:
        progress.console.print("The rounds end: no claim is left that more seeds would settle.")
        return
    expected = ", ".join(f"{verdict.claim.id} {_expected(verdict)}" for verdict in still_open)
    head = f"max_seeds={most} ends the rounds" if seeds is None else f"Going on to {seeds} seeds"
    progress.console.print(f"{head}. Not settled yet: {expected}.", soft_wrap=True)


def _expected(verdict: Verdict) -> str:
    """`(about 14 seeds, 9 to 40)`: what a claim probably takes."""
    assert verdict.needed is not None, "it is undecided"
    estimate, low, high = verdict.needed
    if not math.isfinite(low):
        return "(no look is left)"
    if not math.isfinite(estimate):  # the number that giving up goes by, for a fair chance
        return f"({verdict.soonest:.0f} seeds at least)"
    upper = f"to {high:,.0f}" if math.isfinite(high) else "or more"
    return f"(about {estimate:,.0f} seeds, {low:,.0f} {upper})"


def plan_of(master: DictConfig, current: Round, name: str, sequential: bool) -> Plan:
    """Returns what the multirun sets out to do, as its parent run records it."""
    first = next(iter(current.jobs.values())).settings
    base, study, varied = config.parameters(first), study_of(master), current.axes
    also = _named_points(current)
    alone = dict.fromkeys([*varied.one_at_a_time, *(key for point in also.values() for key in point)])
    return Plan(
        name=name,
        question=study["question"],
        cross=_texts(varied.cross),
        one_at_a_time=_texts(varied.one_at_a_time),
        replicate=_texts(varied.replicate) or {REPLICATED: [str(first.seed)]},
        also=also,
        base={key: base[key] for key in alone if key in base and key not in varied.cross},
        reference=study["reference"],
        claims=study["claims"],
        sequential=sequential,
        oracle=None if first.study.oracle is None else Oracle(**_plain(first.study.oracle)),
        runs=list(current.jobs),
    ).with_metrics(_metrics(first))


def _metrics(settings: DictConfig) -> list[Metric]:
    """Returns what functions of the user's own measure of a multirun's runs."""
    return [own.metric for own in own_metrics(settings.evaluation.metrics)]


def _texts(axis: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Returns the values of an axis as its runs record them, without the quotes of Hydra's grammar."""
    return {key: [without_quotes(value) for value in values] for key, values in axis.items()}


def announced(plan: Plan, current: Round) -> Plan:
    """Returns the plan, once it has been said which of its claims these runs cannot settle, and why."""
    if not plan.claims:
        return plan
    settings = [job.settings for job in current.jobs.values()]
    for reason, ids in unplanned(plan, [config.parameters(point) for point in settings]).items():
        progress.console.print(f"{_claims_in_words(ids)} undecided: {reason[0].lower()}{reason[1:]}")
    left_out = unmeasured(claims.parse(plan.claims, plan.own_metrics), settings[0].evaluation)
    if left_out:
        keys = ", ".join(dict.fromkeys(f"{key}=0" for _, key in left_out))
        progress.console.print(
            f"{_claims_in_words(claim.id for claim, _ in left_out)} undecided: {keys} leaves out what is "
            f"measured for that; evaluation=full adds it, also later by vae-lab evaluate.",
            soft_wrap=True,
        )
    return plan


def _claims_in_words(ids: Iterable[str]) -> str:
    names = list(ids)
    return f"Claim {names[0]} stays" if len(names) == 1 else f"Claims {', '.join(names)} stay"


def _named_points(current: Round) -> dict[str, dict[str, str]]:
    """Returns each point of `sweep.also` with the parameters that it sets, as its runs record them."""
    points: dict[str, dict[str, str]] = {}
    for job in current.jobs.values():
        params = config.parameters(job.settings) if job.points else {}
        for name in job.points:
            settings = {key: params[key] for key in current.axes.also[name] if key in params}
            points.setdefault(name, settings)
    return {name: points[name] for name in current.axes.also if name in points}


def study_of(master: DictConfig) -> dict[str, Any]:
    """Returns the study of a multirun's config, as plain values."""
    return _plain(master.study)


def _plain(node: DictConfig) -> dict[str, Any]:
    values = OmegaConf.to_container(node, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def study_name(master: DictConfig, axes: Axes) -> str:
    """Returns the study's name, else the sweep's file name, else the keys that vary."""
    sweep = OmegaConf.select(master, "hydra.runtime.choices.sweeps")
    sweep = None if sweep == config.NOTHING else sweep
    keys = [*axes.cross, *axes.one_at_a_time, *axes.also, *axes.replicate]
    varied = " x ".join(key.rpartition(".")[2] for key in keys)
    return config.quotable(str(master.study.name or sweep or varied)) or "multirun"
