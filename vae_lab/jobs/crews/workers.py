"""The jobs of a multirun shared out over a crew, such as threads of this process.

Python threads suffice: torch releases the interpreter while it computes, and imports and data are paid for
once. Two runs with a thread each are faster than one after the other with two threads each: their matrix
products are too small to be split well.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch

from vae_lab.jobs import progress
from vae_lab.jobs.crews.crew import Crew, Queue, RunsTogether, train_all
from vae_lab.jobs.job import Job, Result
from vae_lab.jobs.runs.reports import Assignment, Report
from vae_lab.jobs.runs.run import Run
from vae_lab.jobs.runs.together import train_pack


class CoreShares(NamedTuple):
    """How many threads train at once, and how many CPU threads each of them has."""

    workers: int
    threads: int


def share_cores(
    packs: int, device: torch.device, workers: int | None = None, threads: int | None = None
) -> CoreShares:
    """Returns how the cores are shared by a number of packs, each a run or a stack of runs.

    Args:
        packs: What there is to share out.
        device: On a GPU one worker is the default, since packs would only wait for each other there.
        workers: As asked for, or None: as many as the cores allow.
        threads: A run's CPU threads as asked for, or None: the cores shared out evenly.
    """
    cores = torch.get_num_threads()  # follows OMP_NUM_THREADS and the processors that this process may use
    if workers is None:
        workers = 1 if device.type != "cpu" else max(1, cores // (threads or 1))
    workers = max(1, min(workers, packs))
    return CoreShares(workers, threads or max(1, cores // workers))


def packs_of(
    work: Sequence[int], stack_keys: Sequence[str | None], stack: int, workers: int
) -> list[list[int]]:
    """Returns the places of runs that are trained together, the longest work first.

    Args:
        work: Of every run, in whatever unit.
        stack_keys: Of every run, equal for those that may share a stack; None for one that goes alone.
        stack: Most runs of a stack; 1 for none.
        workers: Stacks are small enough that each worker gets one.

    >>> packs_of([1, 1, 5], ["a", "a", None], stack=16, workers=1)
    [[2], [0, 1]]
    """
    alike: dict[str, list[int]] = {}
    for place, key in enumerate(stack_keys):
        alike.setdefault(key if key and stack > 1 else f"alone {place}", []).append(place)
    packs: list[list[int]] = []
    for places in alike.values():
        size = max(1, min(stack, -(-len(places) // workers)))
        packs += [places[start : start + size] for start in range(0, len(places), size)]
    return sorted(packs, key=lambda pack: -sum(work[place] for place in pack))


class Thread:
    """A member of a crew that trains in the thread which asks it.

    Args:
        threads: How many CPU threads it has.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.is_lost = False

    def train(
        self, assignments: Mapping[int, Assignment], wanted: Container[int]
    ) -> Iterator[Sequence[Report]]:
        """Yields the reports of `train_pack`."""
        torch.set_num_threads(self.threads)
        return train_pack(assignments, wanted)


class Threads(NamedTuple):
    """A crew of threads of this process."""

    size: int
    threads: int  # CPU threads of each

    def member(self, _over: Callable[[], bool]) -> Thread:
        """Returns one more member."""
        return Thread(self.threads)


class Shared(NamedTuple):
    """How some jobs share what trains them."""

    packs: list[list[int]]  # places of jobs that are trained as one stack, or of one alone, in turn
    shares: CoreShares
    remark: str = ""  # what a plan cannot know of it


class CrewAndPacks(NamedTuple):
    """A crew for some jobs."""

    crew: Crew
    packs: Sequence[Sequence[int]]  # places of jobs that are trained as one stack, or of one alone, in turn


def thread_crew(jobs: Sequence[Job], *, stack: int = 1, workers: int | None = None) -> CrewAndPacks:
    """Returns a crew of threads of this process.

    Args:
        jobs: What is trained.
        stack: Most runs of one architecture that are trained as one; 1 for none.
        workers: How many are trained at once, None for the machine's choice.
    """
    packs, shares, _ = thread_shares(jobs, stack=stack, workers=workers)
    return CrewAndPacks(Threads(*shares), packs)


def thread_shares(
    jobs: Sequence[Job], planned: int = 0, *, stack: int = 1, workers: int | None = None
) -> Shared:
    """Returns how jobs share the threads of this process.

    Args:
        jobs: What is trained.
        planned: Runs of the multirun, where the jobs do not say.
        stack: Most runs of one architecture that are trained as one; 1 for none.
        workers: How many are trained at once, None for the machine's choice.
    """
    packs, chosen = shared_out(jobs, stack, workers, planned)
    return Shared(packs, CoreShares(min(chosen.workers, len(packs)), chosen.threads))


class _Packs(Queue):
    """The packs of a multirun. Its runs are held to its end; of one that ended only the result counts."""

    def _note(self, pack: RunsTogether) -> None:
        for run in pack.runs:
            run.let_go()


def train_in_workers(
    jobs: Sequence[Job], crew_of: Callable[[Sequence[Job]], CrewAndPacks] = thread_crew
) -> list[Result]:
    """Trains all jobs with a crew; a job that fails leaves the others running.

    Args:
        jobs: What is trained.
        crew_of: Returns who trains them, and what as one stack.

    Returns:
        One result a job, in their order.

    Raises:
        UserError: A config is not valid here; nothing has been trained.
        LabError: No worker could be had, or none is left.
        KeyboardInterrupt: What had finished is kept, what was under way is recorded as KILLED.
    """
    crew, packs = crew_of(jobs)
    runs = [Run(job) for job in jobs]
    with progress.join_display(sum(job.settings.train.epochs for job in jobs)):
        train_all(crew, _Packs(RunsTogether([runs[place] for place in pack]) for pack in packs))
    return [run.ended() for run in runs]


def shared_out(
    jobs: Sequence[Job], stack: int, workers: int | None, planned: int = 0
) -> tuple[list[list[int]], CoreShares]:
    """Returns the packs of jobs by their places, and how they share the cores.

    Args:
        jobs: What is trained.
        stack: Most runs of one architecture that are trained as one; 1 for none.
        workers: How many are trained at once, None for the machine's choice.
        planned: Runs of the multirun, where the jobs do not say.
    """
    threads, device = jobs[0].settings.train.threads, jobs[0].parts.device
    # By what the multirun plans, not by what is left to do: a run must come out the same to the last bit
    # where it is trained alone because the others are there already.
    planned = max(len(jobs), planned, *(job.multirun.runs for job in jobs if job.multirun))
    chosen = share_cores(planned, device, workers, threads)
    work = [job.parts.weights * len(job.parts.data.train) * job.settings.train.epochs for job in jobs]
    packs = packs_of(work, [job.parts.stack_key for job in jobs], stack, chosen.workers)
    if stack > 1:
        chosen = share_cores(len(packs), device, workers, threads)
    return packs, chosen
