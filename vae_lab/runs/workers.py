"""The runs of a multirun shared out over threads of this process; imports and data are paid for once.

Python threads suffice: torch releases the interpreter while it computes. Two runs with a thread each are
faster than one after the other with two threads each: their matrix products are too small to be split well.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import NamedTuple

import torch

from vae_lab import config, devices, interruption
from vae_lab.runs import progress
from vae_lab.runs.jobs import Job, Outcome, Outline, outline, run_together


class Crew(NamedTuple):
    """How many threads train at once, and how many CPU threads each of them has."""

    workers: int
    threads: int


def crew(packs: int, device: torch.device, workers: int | None = None, threads: int | None = None) -> Crew:
    """The crew for a number of packs, each a run or a stack of runs.

    Args:
        packs: what there is to share out.
        device: on a GPU one worker is the default, since packs would only wait for each other there.
        workers: as asked for, or None: as many as the cores allow.
        threads: a run's CPU threads as asked for, or None: the cores shared out evenly.
    """
    cores = torch.get_num_threads()  # follows OMP_NUM_THREADS and the processors that this process may use
    if workers is None:
        workers = 1 if device.type != "cpu" else max(1, cores // (threads or 1))
    workers = max(1, min(workers, packs))
    return Crew(workers, threads or max(1, cores // workers))


def packed(outlines: Sequence[Outline], stack: int, workers: int) -> list[list[int]]:
    """The places of runs that are trained together, the longest work first.

    Args:
        outlines: of all runs.
        stack: most runs of a stack; 1 for none.
        workers: stacks are kept small enough that each worker gets one.
    """
    alike: dict[str, list[int]] = {}
    for place, each in enumerate(outlines):
        key = each.stack_key if stack > 1 else None
        alike.setdefault(key or f"alone {place}", []).append(place)
    packs: list[list[int]] = []
    for places in alike.values():
        size = max(1, min(stack, -(-len(places) // workers)))
        packs += [places[start : start + size] for start in range(0, len(places), size)]
    work = [each.weights * each.images for each in outlines]
    return sorted(packs, key=lambda pack: -sum(work[place] for place in pack))


def run_jobs(jobs: Sequence[Job], *, stack: int = 1, workers: int | None = None) -> list[Outcome]:
    """Trains all jobs; one outcome a job, in their order. A job that fails leaves the others running.

    Args:
        jobs: with composed configs.
        stack: most runs of one architecture that are trained as one; 1 for none.
        workers: how many are trained at once, None for the machine's choice.

    Raises:
        UserError: a config is not valid here; nothing has been trained.
        KeyboardInterrupt: what had finished is kept, what was under way is recorded as KILLED.
    """
    jobs = [job._replace(settings=config.checked(job.settings)) for job in jobs]
    budget = jobs[0].settings.train
    device = devices.resolve(budget.device)
    # By what the multirun plans, not by what is left to do: a run must come out the same to the last bit
    # where it is trained alone because the others are there already.
    planned = max(len(jobs), *(job.settings.tracking.runs for job in jobs))
    most = crew(planned, device, workers, budget.threads)
    packs = packed([outline(job.settings) for job in jobs], stack, most.workers)
    chosen = most if stack == 1 else crew(len(packs), device, workers, budget.threads)
    outcomes: dict[int, Outcome] = {}

    def work(pack: list[int]) -> None:
        torch.set_num_threads(chosen.threads)
        outcomes.update(zip(pack, run_together([jobs[place] for place in pack]), strict=True))

    with (
        progress.current(sum(job.settings.train.epochs for job in jobs)),
        interruption.listening(progress.stopping),
        ThreadPoolExecutor(min(chosen.workers, len(packs)), thread_name_prefix="worker") as pool,
    ):
        waiting = {pool.submit(work, pack) for pack in packs}
        try:
            while waiting:
                # In small waits, so that this thread goes on to hear Ctrl-C.
                done, waiting = wait(waiting, timeout=1, return_when="FIRST_EXCEPTION")
                for each in done:
                    each.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return [outcomes[place] for place in range(len(jobs))]
