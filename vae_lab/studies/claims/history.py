"""The verdicts of a study: on the claims that it declares, then on those that it has dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from vae_lab.errors import UserError
from vae_lab.metrics import Metric
from vae_lab.studies.claims.declared import Claim, parse
from vae_lab.studies.claims.scope import design
from vae_lab.studies.claims.verdicts import Verdict, judge, runs_frame
from vae_lab.studies.claims.wording import counted
from vae_lab.studies.plan import Plan, digest
from vae_lab.studies.study import POINT, Study


def verdicts_of(study: Study) -> list[Verdict]:
    """Returns the verdicts of `judge_study`; none on a study that has never declared a claim."""
    return judge_study(study) if study.plan.claims or study.plan.former else []


def judge_study(study: Study, *, sequential: bool = False) -> list[Verdict]:
    """Returns verdicts on the claims that a study's plan declares, then on those that it has dropped.

    They are sequential if the plan says that seeds were added while looking, or if `sequential` does. The
    level is shared with dropped claims too: who tries several has as many chances to err.

    Raises:
        UserError: it declares none and has dropped none, or one that it declares is not valid.
    """
    plan = study.plan
    declared = [*plan.claims, *(entry.claim for entry in plan.former)]
    runs = runs_frame(study.runs, {str(claim.get("metric")) for claim in declared})
    planned = (*plan.cross, *plan.one_at_a_time, *([POINT] if plan.also else []))
    # A planned key that no finished run has yet leaves claims open, and is no mistake of theirs.
    return judge_plan(plan, runs.assign(**{key: None for key in planned if key not in runs}), sequential)


def judge_plan(plan: Plan, runs: pd.DataFrame, sequential: bool = False) -> list[Verdict]:
    """Returns what `judge_study` does, of these runs, one a row, in the place of a study's."""
    claims, dropped = parse(plan.claims, plan.own_metrics), plan.former
    if not claims and not dropped:
        raise UserError(
            f"{plan.name}: the study declares no claims; see `claims` in experiments/reference.yaml."
        )
    chosen: dict[str, Any] = {**design(plan), "sequential": sequential or plan.sequential}
    former = [_former_claim(entry.claim, plan.own_metrics) for entry in dropped]
    values = [entry.values for entry in dropped]
    verdicts = judge(claims, runs, former=_told_apart(former), former_values=values, **chosen)
    seen = {entry.digest: entry.seen for entry in plan.declared if entry.dropped is None}
    late = [seen.get(digest(claim), 0) for claim in plan.claims]
    of_today = [_declared_late(verdict, count) for verdict, count in zip(verdicts, late, strict=False)]
    return of_today + [
        _no_longer_declared(verdict, entry.dropped or 0)
        for verdict, entry in zip(verdicts[len(claims) :], dropped, strict=True)
    ]


def _former_claim(declared: Mapping[str, Any], own: Iterable[Metric]) -> Claim:
    """A claim that a study has dropped, as far as it can be read today."""
    try:
        (claim,) = parse([declared], own)
    except UserError:
        words = (str(declared.get(key, "")) for key in ("id", "text", "metric", "expect"))
        name, text, metric, expect = words
        return Claim(name, text, metric, expect)
    return claim


def _told_apart(former: Sequence[Claim]) -> list[Claim]:
    """Claims that were dropped, by names that none of today's has: `C1 before`, `C1 before 2`."""
    count: Counter[str] = Counter()
    renamed = []
    for claim in former:
        count[claim.id] += 1
        number = f" {count[claim.id]}" if count[claim.id] > 1 else ""
        renamed.append(replace(claim, id=f"{claim.id} before{number}"))
    return renamed


def _declared_late(verdict: Verdict, seen: int) -> Verdict:
    if not seen:
        return verdict
    standing = f"declared after {counted(seen, 'run')} had been seen"
    return replace(verdict, standing=standing, sentence=f"{verdict.sentence} The claim was {standing}.")


def _no_longer_declared(verdict: Verdict, seen: int) -> Verdict:
    standing = f"dropped or changed after {counted(seen, 'run')} had been seen"
    sentence = f"{verdict.sentence} The claim was {standing}."
    return replace(verdict, standing=standing, sentence=sentence, dropped=True)
