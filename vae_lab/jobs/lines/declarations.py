"""A study beside what the store has of it: claims and seeds of earlier multiruns, and runs of other code."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from typing import NamedTuple

import msgspec

from vae_lab import tracking
from vae_lab.errors import LabError
from vae_lab.jobs import progress
from vae_lab.studies.plan import PLAN_FILE, Declared, Plan, digest
from vae_lab.studies.study import is_superseded
from vae_lab.tracking import Store, StoredRun, member_tag
from vae_lab.tracking.abandoned import close_abandoned


class Earlier(NamedTuple):
    """A multirun that had some of the runs, as it was planned."""

    plan: Plan
    at: int  # when it began, milliseconds since 1970


def with_declarations(plan: Plan, store: Store, finished: Collection[StoredRun]) -> Plan:
    """Returns a plan that says when its claims were declared, and whether its seeds may follow from values.

    Args:
        plan: What is planned now; sequential, if it adds seeds itself.
        store: Where earlier multiruns are looked for.
        finished: Its runs that are there already.
    """
    earlier = earlier_multiruns(store, finished)
    sequential = plan.sequential or any(multirun.plan.sequential for multirun in earlier)
    if sequential and not plan.sequential:
        # Their number follows from their values, and only a sequential test allows for that.
        text = f"{plan.name}: seeds=auto chose runs of it, so its claims are judged sequentially."
        progress.console.print(text)
    claims = declared(plan, earlier, len(finished))
    return msgspec.structs.replace(plan, sequential=sequential, declared=claims)


def earlier_multiruns(store: Store, runs: Iterable[StoredRun]) -> list[Earlier]:
    """Returns the multiruns that finished runs belong to, the oldest first, whatever they are called."""
    prefix, ids = member_tag(""), set[str]()
    for run in runs:
        ids |= {key.removeprefix(prefix) for key in run.tags if key.startswith(prefix)}
    multiruns = []
    for run_id in ids:
        try:
            parent = store.record(run_id)
            plan = Plan.from_json(store.download(run_id, PLAN_FILE).read_text(encoding="utf-8"))
        except (LabError, OSError, ValueError):  # it was deleted, or ended before it had a plan
            continue
        multiruns.append(Earlier(plan, parent.started))
    return sorted(multiruns, key=lambda multirun: multirun.at)


def declared(plan: Plan, earlier: Iterable[Earlier], seen: int) -> list[Declared]:
    """Returns every claim that a study ever declared of its runs, and how many of these were known then.

    Of other studies that share some runs only the claims of today count, which they may have declared before.

    Args:
        plan: What is planned now.
        earlier: Multiruns of its runs.
        seen: How many of its runs have finished.
    """
    known: dict[str, Declared] = {}
    today = {digest(claim): claim for claim in plan.claims}
    for before, at in earlier:
        # What an older lab planned does not say when its claims were declared.
        first = [Declared(digest(claim), at, 0, claim) for claim in before.claims]
        entries = before.declared or first
        if not _is_same_study(before, plan):  # its other claims are its own, whether it has them still or not
            entries = [claim for claim in entries if claim.digest in today]
        for claim in entries:
            if claim.digest not in known or claim.at < known[claim.digest].at:
                known[claim.digest] = claim
    now = int(time.time() * 1000)
    for key, said in today.items():
        known.setdefault(key, Declared(key, now, seen, said))
    claims = []
    for key, claim in known.items():
        dropped = None if key in today else seen if claim.dropped is None else claim.dropped
        claims.append(msgspec.structs.replace(claim, dropped=dropped))
    return claims


def _is_same_study(before: Plan, plan: Plan) -> bool:
    """Returns whether a multirun planned what is planned now: by its name, or by most of its runs.

    Studies of one base share some; one that is only called otherwise shares nearly all of the smaller one.
    """
    shared = len(before.fingerprints & plan.fingerprints)
    smaller = min(len(before.fingerprints), len(plan.fingerprints))
    return before.name == plan.name or 2 * shared > smaller


def let_go_of_superseded(store: Store, parent_run_id: str, plan: Plan) -> None:
    """Takes runs whose points are now trained by other code, data or settings out of a multirun."""
    names = {name for _, name in plan.runs}  # a further round of seeds may want the others
    members, wanted = store.members(parent_run_id), plan.fingerprints
    runs = [run for run in members if run.name in names and is_superseded(run, wanted)]
    close_abandoned(store, runs)
    for run in runs:
        store.recorder(run).tag({member_tag(parent_run_id): None, tracking.SUPERSEDED: parent_run_id})
    if runs:
        progress.console.print(
            f"{plan.name}: code, data or settings have changed since {len(runs)} of its runs were made: "
            "they leave the study and are trained anew.",
            soft_wrap=True,
        )
