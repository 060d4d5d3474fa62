"""The rounds of a multirun (one, or with seeds=auto until its claims are settled), its plan and its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from omegaconf import DictConfig, OmegaConf

from vae_lab import config
from vae_lab.errors import UserError
from vae_lab.runs import progress
from vae_lab.runs.grammar import without_quotes
from vae_lab.runs.grid import REPLICATED, Axes
from vae_lab.runs.job import Job
from vae_lab.studies import claims
from vae_lab.studies.claims import Verdict, unmeasured
from vae_lab.studies.plan import Oracle, Plan
from vae_lab.studies.planned import unplanned

Key = tuple[str, str]  # fingerprint and name of a run


class Round(NamedTuple):
    """What a multirun wants to have run: its axes, and its jobs by their runs' fingerprint and name."""

    axes: Axes
    jobs: dict[Key, Job]


def seed_counts(master: DictConfig, judge: Callable[[], list[Verdict]]) -> Iterator[int | None]:
    """Yields the number of seeds of each round; None where the axes say which seeds there are.

    With `seeds=auto` rounds follow each other, each with more seeds, until the study's claims are settled.

    Args:
        master: The composed config of the multirun.
        judge: Returns the verdicts on the runs of the rounds so far.

    Raises:
        UserError: `seeds=auto` of a study without claims, or with one on what is not measured.
    """
    declared = claims.parse(study_of(master)["claims"])
    if master.seeds != "auto":
        yield master.seeds
        return
    if not declared:
        raise UserError("seeds=auto: is for a study that declares claims, such as experiments=reference.")
    claims.check_measured(declared, master.evaluation)
    verdicts = claims.judge(declared, pd.DataFrame(), sequential=True)
    seeds = claims.round_target(verdicts, 0, master.max_seeds)
    while seeds is not None:
        yield seeds
        verdicts = judge()
        seeds = claims.round_target(verdicts, seeds, master.max_seeds)
        if seeds is not None:
            unsettled = ", ".join(verdict.claim.id for verdict in verdicts if not verdict.settled)
            progress.console.print(f"Not settled yet: {unsettled}. Going on to {seeds} seeds.")


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
    )


def _texts(axis: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Returns the values of an axis as its runs record them, without the quotes of Hydra's grammar."""
    return {key: [without_quotes(value) for value in values] for key, values in axis.items()}


def announced(plan: Plan, current: Round) -> Plan:
    """Returns the plan, once it has been said which of its claims these runs cannot settle, and why."""
    if not plan.claims:
        return plan
    settings = [job.settings for job in current.jobs.values()]
    absent = unplanned(plan, [config.parameters(point) for point in settings])
    if absent:
        progress.console.print(
            f"{_claims_in_words(absent)} undecided: no run is planned for what is compared."
        )
    left_out = unmeasured(claims.parse(plan.claims), settings[0].evaluation)
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
        params = config.parameters(job.settings)
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
