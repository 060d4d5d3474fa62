"""What a line would train, before it does: its points, their time, memory and disk, and its claims' seeds."""

from __future__ import annotations

import heapq
import math
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from omegaconf import DictConfig

from vae_lab import config
from vae_lab.data import needs_no_download
from vae_lab.errors import UserError, quoted
from vae_lab.jobs.crews.workers import CoreShares, Shared, thread_shares
from vae_lab.jobs.job import Job
from vae_lab.jobs.plan.costs import after_the_last, costs
from vae_lab.jobs.plan.trial import Cost, judges_are_there
from vae_lab.jobs.runs.present import Present, present
from vae_lab.metrics import SAMPLES
from vae_lab.studies.claims import Verdict, judge_study, parse, unmeasured
from vae_lab.studies.plan import Plan
from vae_lab.studies.planned import imagined_runs
from vae_lab.studies.study import Study, interrupted_if_gone, with_point
from vae_lab.tracking import (
    FINGERPRINT,
    KIND,
    RUN,
    SWEEP,
    Reader,
    StoredRun,
    reader,
    resolve_address,
    sqlite_file,
)
from vae_lab.tracking.abandoned import ends_in
from vae_lab.tracking.database import is_empty

TO_TRAIN = ("missing", "interrupted")  # states of what a line trains
NO_END = (
    "The tables and the page at its end are not in the time: no multirun of this store says what they take."
)
Sharing = Callable[[Sequence[Job], int], Shared]  # of jobs that are left, and of how many
REPLICATES = ("0", "1")  # of the planned points, too few to settle any claim


class Point(NamedTuple):
    """One run that a line wants."""

    job: Job
    present: Present
    seconds: float = 0.0  # that it still takes; of a stack its share
    source: str = ""  # one of those of `costs`; empty where nothing is to be trained
    disk: float = 0.0  # bytes that it will have in the store


class Estimate(NamedTuple):
    """What a line comes to."""

    points: list[Point]
    shares: CoreShares
    seconds: float  # of all that is trained, so many at once
    memory: float  # bytes of what is trained at once, with the data
    disk: float  # bytes more in the store
    checkpoints: float  # bytes of what is under way at once
    remarks: list[str]


class Needs(NamedTuple):
    """How many seeds can settle a claim."""

    claim: str
    text: str
    least: float  # whatever the effect; infinite if it compares what no run of the line has, or measures
    verdict: Verdict | None  # of the runs that have finished; None if none of its have


def check_data(settings: DictConfig) -> None:
    """Looks for the data of a config.

    Raises:
        UserError: Training would fetch them.
    """
    name, root = settings.data.name, settings.data.root
    if not needs_no_download(settings.data._target_, root):
        where, option = ("on this machine", "")
        if root is not None:
            where, option = f"in {quoted(root)}", f" --root {shlex.quote(root)}"
        raise UserError(
            f"data={name}: is not {where} yet, and a plan fetches nothing. It is fetched by: "
            f"vae-lab data {name}{option}"
        )


def readable_store(uri: str | None) -> Reader | None:
    """Returns the store of a line for reading; None if it is yet to be made."""
    file = sqlite_file(resolve_address(uri))
    return None if file is not None and is_empty(file) else reader(uri)


def stored_runs(store: Reader | None) -> list[StoredRun]:
    """Returns all runs of a store, newest first; as KILLED where their process is gone."""
    if store is None:
        return []
    end = ends_in(store)
    return [interrupted_if_gone(run, end) for run in store.tagged(KIND, RUN)]


def in_turn(jobs: Sequence[Job], planned: int) -> Shared:
    """Returns how jobs share this machine that are trained one after the other."""
    return thread_shares(jobs, planned, workers=1)


def sharing_of(launcher: object) -> Sharing:
    """Returns how a launcher shares out jobs; what it does not say is said in a remark."""
    own: Sharing | None = getattr(launcher, "shares", None)
    if own is not None:
        return own
    name = type(launcher).__name__
    if launcher is None or name == "BasicLauncher":  # Hydra's own trains one after the other
        return in_turn
    remark = f"{name} does not say how many runs it trains at once: the time is that of one at a time."
    return lambda jobs, planned: in_turn(jobs, planned)._replace(remark=remark)


def estimate(jobs: Sequence[Job], store: Reader | None, shared_by: Sharing = in_turn) -> Estimate:
    """Returns what it takes to train jobs; nothing is written to their store.

    Args:
        jobs: All that a line wants.
        store: The line's, if it is there.
        shared_by: Returns how jobs that are left of so many would share what trains them.
    """
    runs = stored_runs(store)
    alike, uri = _alike(jobs, runs), "" if store is None else store.uri
    points = [Point(job, present(job, some, uri)) for job, some in zip(jobs, alike, strict=True)]
    places = [place for place, point in enumerate(points) if point.present.state in TO_TRAIN]
    if not places:
        return Estimate(points, CoreShares(1, 1), 0.0, 0.0, 0.0, 0.0, [])
    left = [jobs[place] for place in places]
    packs, shares, remark = shared_by(left, len(jobs))
    priced = costs([[left[i] for i in pack] for pack in packs], shares, runs)
    lengths = []
    for pack, (cost, source) in zip(packs, priced, strict=True):
        lengths.append(max(_seconds(cost, points[places[i]]) for i in pack))
        for i in pack:
            point = points[places[i]]
            seconds = _seconds(cost, point) / len(pack)
            points[places[i]] = point._replace(seconds=seconds, source=source, disk=cost.kept)
    at_once = shares.workers * max(map(len, packs))
    parents = [] if store is None or len(jobs) == 1 else store.tagged(KIND, SWEEP)
    end = after_the_last(parents, runs, len(jobs))
    return Estimate(
        points, shares,
        seconds=_shared(lengths, shares.workers) + (end or 0.0),
        memory=_memory(left, at_once),
        disk=sum(point.disk for point in points),
        checkpoints=min(at_once, len(left)) * max(cost.checkpoint for cost, _ in priced),
        remarks=[
            *filter(None, [remark]),
            *_remarks(left),
            *([NO_END] if end is None and len(jobs) > 1 else []),
        ],
    )  # fmt: skip


def _alike(jobs: Sequence[Job], runs: Iterable[StoredRun]) -> list[list[StoredRun]]:
    """Returns for each job the runs of the same result, newest first."""
    by_fingerprint: dict[str, list[StoredRun]] = defaultdict(list)
    for run in runs:
        by_fingerprint[run.tags.get(FINGERPRINT, "")].append(run)
    return [by_fingerprint[job.parts.fingerprint] for job in jobs]


def _seconds(cost: Cost, point: Point) -> float:
    return cost.seconds(point.job.settings.train.epochs - point.present.done)


def _shared(lengths: Iterable[float], workers: int) -> float:
    """Returns when the last of so many workers is done, each of which takes the next pack when it is free.

    >>> _shared([5.0, 3.0, 3.0, 1.0], workers=2)
    6.0
    """
    free = [0.0] * workers
    for length in lengths:
        heapq.heappush(free, heapq.heappop(free) + length)
    return max(free)


def _memory(left: Sequence[Job], at_once: int) -> float:
    """Returns the bytes of the largest runs that may be trained at once, and of each data set."""
    sets = {id(job.parts.data): job.parts.data for job in left}.values()
    data = sum(
        images.pixels.nbytes + images.labels.nbytes for kept in sets for images in (kept.train, kept.test)
    )
    return data + sum(sorted((job.parts.memory for job in left), reverse=True)[:at_once])


def _remarks(left: Sequence[Job]) -> list[str]:
    """Returns what the estimate leaves out."""
    judged = [job for job in left if job.settings.evaluation[SAMPLES] and not judges_are_there(job)]
    return [
        f"The classifiers that judge samples of {name} are trained first, once: that and the judging are not "
        "in the time."
        for name in dict.fromkeys(job.parts.data.name for job in judged)
    ]


def needs_of_claims(plan: Plan, points: Sequence[Point]) -> list[Needs]:
    """Returns for each claim of a plan how many seeds can settle it.

    Args:
        plan: The study's.
        points: The line's.
    """
    if not plan.claims:
        return []
    replicate = plan.pairs_by
    alike = [
        {**config.parameters(point.job.settings), replicate: value}
        for point in points
        for value in REPLICATES
    ]
    distinct = {tuple(params.items()): params for params in alike}
    declared = parse(plan.claims, plan.own_metrics)
    never = {claim.id for claim, _ in unmeasured(declared, points[0].job.settings.evaluation)}
    metrics = [claim.metric for claim in declared if claim.id not in never]
    least = _judged(plan, imagined_runs(distinct.values(), metrics))
    finished = [point.present.stored for point in points if point.present.stored is not None]
    seen = _judged(plan, [run for run in finished if run.status == "FINISHED"]) if finished else least
    return [
        Needs(
            now.claim.id,
            now.claim.text,
            (now.needed.low if now.needed else 0.0) if now.n else math.inf,
            later if later.n and finished else None,
        )
        for now, later in zip(least, seen, strict=True)
        if not now.dropped
    ]


def _judged(plan: Plan, runs: Sequence[StoredRun]) -> list[Verdict]:
    parent = StoredRun("", "", plan.name, "RUNNING", {}, {}, {}, 0)
    return judge_study(Study(parent, plan, [with_point(run, plan) for run in runs]))
