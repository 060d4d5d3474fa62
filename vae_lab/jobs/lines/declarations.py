"""A study beside what the store has of it: claims and seeds of earlier multiruns, and runs of other code."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from vae_lab import tracking
from vae_lab.errors import LabError
from vae_lab.jobs import progress
from vae_lab.jobs.job import Job
from vae_lab.studies.claims.scope import declared_values, same_values
from vae_lab.studies.names import owner_of
from vae_lab.studies.plan import PLAN_FILE, Declared, Plan, digest
from vae_lab.studies.study import is_superseded
from vae_lab.tracking import Store, StoredRun, member_tag, resolve_address, sqlite_file
from vae_lab.tracking.abandoned import close_abandoned, finished_runs
from vae_lab.tracking.database import is_empty
from vae_lab.tracking.environment import experiment_name


class Earlier(NamedTuple):
    """A multirun of the same study, or of some of its runs, as it was planned."""

    plan: Plan
    at: int  # when it began, milliseconds since 1970
    run_id: str = ""  # of its parent


def known_claims(plan: Plan, jobs: Mapping[tuple[str, str], Job]) -> Plan:
    """Returns a plan as `with_declarations` does, by its store, if there is one yet.

    Args:
        plan: What is planned.
        jobs: Its jobs by their runs' fingerprint and name.
    """
    tracked = next(iter(jobs.values())).settings.tracking
    file = sqlite_file(resolve_address(tracked.uri))
    if file is not None and is_empty(file):
        return plan
    store = Store.open(tracked.uri)
    finished = finished_runs(store, {fingerprint for fingerprint, _ in jobs})
    return with_declarations(plan, store, finished.values(), experiment_name(store, tracked.experiment))


def with_declarations(plan: Plan, store: Store, finished: Collection[StoredRun], experiment: str) -> Plan:
    """Returns a plan that says when its claims were declared, and whether its seeds may follow from values.

    Args:
        plan: What is planned now; sequential, if it adds seeds itself.
        store: Where earlier multiruns are looked for.
        finished: Its runs that are there already.
        experiment: The name of the one that it goes into.
    """
    earlier = earlier_multiruns(store, finished, plan.name, experiment)
    sequential = plan.sequential or any(multirun.plan.sequential for multirun in earlier)
    if sequential and not plan.sequential:
        # Their number follows from their values, and only a sequential test allows for that.
        text = f"{plan.name}: seeds=auto chose runs of it, so its claims are judged sequentially."
        progress.console.print(text)
    same = [multirun for multirun in earlier if _is_same_study(multirun.plan, plan)]
    results = {_result(run) for run in (*finished, *_finished_before(store, same))}
    claims = declared(plan, earlier, len(results))
    return msgspec.structs.replace(plan, sequential=sequential, declared=claims)


def earlier_multiruns(store: Store, runs: Iterable[StoredRun], study: str, experiment: str) -> list[Earlier]:
    """Returns the multiruns that a study may have had before, the oldest first.

    These are the ones that finished runs belong to, whatever they are called, and the user's own of this name
    in the experiment, whatever code, data and settings they trained; of both also those that were deleted.

    Args:
        store: Where they are.
        runs: Finished runs of the study.
        study: Its name.
        experiment: That of the experiment.
    """
    prefix = member_tag("")
    ids = {key.removeprefix(prefix) for run in runs for key in run.tags if key.startswith(prefix)}
    names, mine = store.experiments(), ("", tracking.owner(store.uri))
    sweeps = [*store.any_tagged(tracking.KIND, [tracking.SWEEP]), *_deleted(store, tracking.SWEEP)]
    for sweep in sweeps:
        of_name = (sweep.tags.get(tracking.STUDY), names.get(sweep.experiment_id)) == (study, experiment)
        if of_name and owner_of(sweep) in mine:
            ids.add(sweep.run_id)
    multiruns = []
    for run_id in ids:
        store.courier.catch_up(run_id)  # of a process that ended while the store was away
        try:
            parent = store.record(run_id, deleted=True)
            plan = Plan.from_json(store.download(run_id, PLAN_FILE).read_text(encoding="utf-8"))
        except (LabError, OSError, ValueError):  # it was deleted for good, or ended before it had a plan
            continue
        multiruns.append(Earlier(plan, parent.started, run_id))
    return sorted(multiruns, key=lambda multirun: multirun.at)


def _deleted(store: Store, kind: str) -> list[StoredRun]:
    return store.records(f"tags.`{tracking.KIND}` = '{kind}'", deleted=True)


def _finished_before(store: Store, multiruns: Sequence[Earlier]) -> list[StoredRun]:
    """Returns the finished runs of multiruns, with those that later code, data or settings superseded."""
    if not multiruns:
        return []
    wanted = frozenset[str]().union(*(multirun.plan.fingerprints for multirun in multiruns))
    parents = {multirun.run_id for multirun in multiruns}
    runs = [
        *store.any_tagged(tracking.FINGERPRINT, wanted),
        *store.any_tagged(tracking.SUPERSEDED, parents),
        *(run for run in _deleted(store, tracking.RUN) if run.tags.get(tracking.FINGERPRINT) in wanted),
    ]
    return [run for run in runs if run.status == "FINISHED"]


def _result(run: StoredRun) -> str:
    """Returns what runs share that have one result, however often it was trained."""
    return run.tags.get(tracking.FINGERPRINT, run.run_id)


def declared(plan: Plan, earlier: Iterable[Earlier], seen: int) -> list[Declared]:
    """Returns every claim that a study ever declared of its runs, and how many of these were known then.

    Of other studies that share some runs only the claims of today count, which they may have declared before.

    Args:
        plan: What is planned now.
        earlier: Multiruns of it and of its runs, the oldest first.
        seen: How many of its runs, and of those of its earlier multiruns, have finished.
    """
    now = int(time.time() * 1000)
    today = {
        digest(said): Declared(digest(said), now, seen, said, None, declared_values(said, plan))
        for said in plan.claims
    }
    known = _declared_before(plan, earlier, list(today.values()))
    places = set()
    for claim in today.values():
        place = _place_of(claim, known)
        if place is None:
            known.append(claim)
        elif known[place].dropped == 0:
            # One that was taken back before a run had been seen was of no study since.
            known[place] = claim
        else:
            known[place] = msgspec.structs.replace(known[place], dropped=None, values=claim.values)
        places.add(len(known) - 1 if place is None else place)
    return [
        entry
        if place in places or entry.dropped is not None
        else msgspec.structs.replace(entry, dropped=seen)
        for place, entry in enumerate(known)
    ]


def _declared_before(plan: Plan, earlier: Iterable[Earlier], today: Sequence[Declared]) -> list[Declared]:
    """Returns the claims that earlier multiruns declared, each with the moment at which it first was."""
    known: list[Declared] = []
    for before, at, _ in earlier:
        entries = _declared_by(before, at)
        if not _is_same_study(before, plan):  # its other claims are its own, whether it has them still or not
            entries = [entry for entry in entries if any(_is_same(entry, claim) for claim in today)]
        for entry in entries:
            place = _place_of(entry, known)
            if place is None:
                known.append(entry)
                continue
            earliest = min(known[place], entry, key=lambda claim: claim.at)
            known[place] = msgspec.structs.replace(earliest, dropped=entry.dropped)
    return known


def _declared_by(before: Plan, at: int) -> list[Declared]:
    """Returns the claims that an earlier multirun declared, with what was not recorded by then.

    What an older lab planned does not say when its claims were declared, nor of which values.
    """
    entries = before.declared or [Declared(digest(claim), at, 0, claim) for claim in before.claims]
    return [
        msgspec.structs.replace(entry, values=declared_values(entry.claim, before))
        if entry.values is None and entry.dropped is None
        else entry
        for entry in entries
    ]


def _is_same(first: Declared, second: Declared) -> bool:
    """Returns whether two declarations say the same of the same values."""
    return first.digest == second.digest and same_values(first.claim, first.values, second.values)


def _place_of(claim: Declared, known: Sequence[Declared]) -> int | None:
    """Returns where a claim stands among those that are known: at best with just these values."""
    places = [place for place, entry in enumerate(known) if _is_same(entry, claim)]
    return min(places, key=lambda place: known[place].values != claim.values, default=None)


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
