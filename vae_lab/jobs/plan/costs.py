"""What each run of a line will cost: by finished runs of the store, else by a trial on this machine."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vae_lab import tracking
from vae_lab.jobs.crews.workers import CoreShares
from vae_lab.jobs.job import Job
from vae_lab.jobs.plan.trial import Cost, measured, seconds_of_judging
from vae_lab.jobs.runs.artifacts import evaluation_tag
from vae_lab.jobs.runs.present import recorded_params
from vae_lab.jobs.runs.ran_on import DEVICE, NOT_RECORDED, THEN, ran_on
from vae_lab.tracking import StoredRun
from vae_lab.tracking.records import parsed_object

STORE, TRIAL, BETWEEN = "store", "trial", "between"
MOST_TRIALS = 12  # kinds of runs that are tried; of more, those between are estimated by their weights
NEWEST = 20  # runs of a kind that are asked how long they took
# What a run's time depends on most: facts of the machine, and groups of parameters.
SAME_MACHINE = ("processor", "cores", "threads", "GPU")
CPU = re.compile(r"cpu \(\d+ threads\)")
SIZES = ("model", "data", "train", "objective", "optimizer")
NUMBER = 4  # bytes
COPIES = 3  # of a weight in a checkpoint: itself and, with Adam, two moments
PICTURES = 1e6  # bytes of a run's pictures


class Kind(NamedTuple):
    """What runs of equal cost have in common."""

    params: tuple[tuple[str, str], ...]
    data: str
    evaluation: str


Key = tuple[Kind, int]  # with how many runs a pack has


def kind_of_job(job: Job) -> Kind:
    """Returns the kind of a job."""
    data = job.parts.data
    measures = evaluation_tag(job.settings, data).get(tracking.EVALUATION, tracking.NO_EVALUATION)
    return Kind(_sizes(recorded_params(job)), f"{data.name} {data.checksum}", measures)


def _kind_of_run(run: StoredRun) -> Kind:
    return Kind(_sizes(run.params), run.tags.get("vae_lab.data", ""), _measured_in_time(run.tags))


def _measured_in_time(tags: Mapping[str, str]) -> str:
    """Returns how a run was measured before it ended; what `vae-lab evaluate` added is not in its time."""
    # Runs of earlier versions do not say which of their measures were added, where they have any.
    unsaid = NOT_RECORDED if tracking.EVALUATION in tags else tracking.NO_EVALUATION
    return tags.get(tracking.EVALUATION_AT_END, unsaid)


def _sizes(params: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    unasked = ("optimizer.lr", "objective.beta")
    return tuple(
        sorted(
            (key, value)
            for key, value in params.items()
            if key.partition(".")[0] in SIZES and key not in unasked
        )
    )


def costs(
    packs: Sequence[Sequence[Job]], shares: CoreShares, runs: Sequence[StoredRun]
) -> list[tuple[Cost, str]]:
    """Returns what each pack costs, and how that is known: one of STORE, TRIAL and BETWEEN.

    Args:
        packs: Jobs that are trained as one stack, or one alone.
        shares: How many packs are trained at once, and with how many threads.
        runs: The store's.
    """
    known: dict[Key, tuple[Cost, str]] = {}
    tried: dict[Key, Sequence[Job]] = {}
    keys = [(kind_of_job(pack[0]), len(pack)) for pack in packs]
    for key, pack in zip(keys, packs, strict=True):
        if key in known or key in tried:
            continue
        if (cost := _spent(key[0], pack, shares, runs)) is not None:
            known[key] = cost, STORE
        else:
            tried[key] = pack
    known |= _tried(tried, shares)
    return [known[key] for key in keys]


def _spent(kind: Kind, pack: Sequence[Job], shares: CoreShares, runs: Sequence[StoredRun]) -> Cost | None:
    """Returns what finished runs of a kind took, on this machine and shared out as now; None without any."""
    facts = _facts(ran_on(pack[0].parts.device)) | {"threads": str(shares.threads)}
    alike = [
        (run.ended - run.started) / 1000
        for run in runs
        if run.status == "FINISHED"
        and run.ended > run.started
        and tracking.ATTEMPT not in run.tags  # it was resumed, after nobody knows how long
        and run.tags.get("vae_lab.stack", "1") == str(len(pack))
        and _facts(run.tags, run.params.get("train.epochs", "")) == facts
        and _kind_of_run(run) == kind
    ][:NEWEST]
    if not alike:
        return None
    weights = pack[0].parts.weights * NUMBER
    epochs = pack[0].settings.train.epochs
    return Cost(0.0, statistics.median(alike) / epochs, 0.0, weights + PICTURES, weights * COPIES)


def after_the_last(parents: Sequence[StoredRun], runs: Sequence[StoredRun], count: int) -> float | None:
    """Returns the seconds of a multirun of `count` runs after its last: tables, figures, verdicts, the page.

    Args:
        parents: The store's finished multiruns, the newest first; it is the median of theirs, a run.
        runs: The store's.
        count: Runs of the multirun.

    Returns:
        None if none of them has trained its last run itself.
    """
    members: dict[str, list[StoredRun]] = {}
    for run in runs:
        members.setdefault(run.tags.get(tracking.PARENT, ""), []).append(run)
    seconds = []
    for parent in parents[:NEWEST]:
        ends = [run.ended for run in members.get(parent.run_id, [])]
        if parent.status == "FINISHED" and ends and parent.started < max(ends) < parent.ended:
            seconds.append((parent.ended - max(ends)) / 1000 / len(ends))
    return statistics.median(seconds) * count if seconds else None


def _facts(tags: Mapping[str, str], epochs: str = "") -> dict[str, str]:
    """Returns the facts in a run's tags on which its time depends most.

    Args:
        tags: The run's.
        epochs: That it was trained for; what it was measured on after the last of them is left out.
    """
    recorded = parsed_object(tags.get(tracking.ENVIRONMENT, ""))
    facts = {key: str(recorded[key]) for key in SAME_MACHINE if key in recorded}
    facts[DEVICE] = tags.get(DEVICE, "")
    trained_on = {key: fact.partition(f" to epoch {epochs}{THEN}")[0] for key, fact in facts.items()}
    # The threads in the name of a CPU are a fact of their own, and of a plan those of its process.
    return trained_on | ({DEVICE: "cpu"} if CPU.fullmatch(trained_on[DEVICE]) else {})


def _tried(tried: Mapping[Key, Sequence[Job]], shares: CoreShares) -> dict[Key, tuple[Cost, str]]:
    """Returns the costs of kinds of packs: of MOST_TRIALS by a trial, of those between by their size.

    Data and evaluation take their time whatever the size: of each, two kinds are tried at least.
    """
    if not tried:
        return {}
    groups: dict[tuple[str, str], dict[Key, int]] = {}
    for key, size in sorted(((key, _size(pack)) for key, pack in tried.items()), key=lambda item: item[1]):
        groups.setdefault((key[0].data, key[0].evaluation), {})[key] = size
    most = max(2, MOST_TRIALS // len(groups))
    chosen = [key for sizes in groups.values() for key in _spread([*sizes], most)]
    taken = dict(zip(chosen, measured([tried[key] for key in chosen], shares), strict=True))
    priced = {key: cost for sizes in groups.values() for key, cost in _by_size(sizes, taken).items()}
    judging = seconds_of_judging([tried[key] for key in priced], shares.threads)
    return {
        key: (cost._replace(end=cost.end + seconds), TRIAL if key in taken else BETWEEN)
        for (key, cost), seconds in zip(priced.items(), judging, strict=True)
    }


def _spread(keys: Sequence[Key], most: int) -> list[Key]:
    """Returns the first, the last and some between, `most` in all."""
    places = np.linspace(0, len(keys) - 1, min(len(keys), most)).round().astype(int)
    return [keys[place] for place in np.unique(places)]


def _by_size(sizes: Mapping[Key, int], taken: Mapping[Key, Cost]) -> dict[Key, Cost]:
    """Returns the costs of packs that differ in size, of some of which they are known."""
    places = [size for key, size in sizes.items() if key in taken]
    columns = zip(*(taken[key] for key in sizes if key in taken), strict=True)
    rows = zip(*(np.interp([*sizes.values()], places, column).tolist() for column in columns), strict=True)
    return {key: taken.get(key, Cost(*row)) for key, row in zip(sizes, rows, strict=True)}


def _size(pack: Sequence[Job]) -> int:
    return sum(job.parts.weights * len(job.parts.data.train) for job in pack)
