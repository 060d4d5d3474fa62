"""The jobs of a multirun shared out over workers of Ray: processes here or on several machines.

A worker trains and sends home what it reaches; this process alone holds runs, checkpoint files and store. So
a worker that is lost costs what it had under way, and one that was cut off and comes back has no reader.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from vae_lab import interruption
from vae_lab.errors import LabError, UserError, quoted
from vae_lab.jobs import progress
from vae_lab.jobs.crews.cluster import Cluster, own_cpus
from vae_lab.jobs.crews.crew import LostWorkerError
from vae_lab.jobs.crews.ray_member import LOOK_SECONDS, RayMember, Share
from vae_lab.jobs.crews.ray_worker import Worker, WorkerTask
from vae_lab.jobs.crews.workers import CoreShares, CrewAndPacks, Shared, shared_out
from vae_lab.jobs.job import Job
from vae_lab.jobs.runs.reports import Assignment

PATIENCE_SECONDS = 60.0  # until a worker that is not ready is spoken of
MOST_STARTS = 3  # of workers that are lost one after the other while they start


class RayCrew:
    """A crew of Ray's workers, which stay for as long as the command.

    Args:
        cluster: Where they are.
        share: What each gets.
        threads: CPU threads that each trains with.
        size: How many there are at a time.
        like: What they will train; they load what that takes before they count as ready.
    """

    def __init__(self, cluster: Cluster, share: Share, threads: int, size: int, like: Job) -> None:
        import ray

        self.size, self._share, self._threads = size, share, threads
        self._like = WorkerTask.of(Assignment(like, None, 0))
        for member in cluster.members:
            if not member.is_lost and (member.has_refused or member.share != share):
                member.end()  # else nobody would have its place
        self._idle = [member for member in cluster.members if not member.is_lost]
        self._members = cluster.members
        self._lock = threading.Lock()
        self._gpus = share.gpus or 0
        self._class = ray.remote(
            num_cpus=share.cpus,
            num_gpus=self._gpus,
            max_restarts=0,  # a new one is asked for here, when the runs of the lost one are back
            concurrency_groups={"control": 1},
        )(Worker)

    def member(self, over: Callable[[], bool]) -> RayMember | None:
        """Returns one more member, as soon as Ray has room for one; None once all is over.

        Raises:
            LostWorkerError: Several are lost while they start.
            LabError: A worker cannot start.
        """
        with self._lock:
            if self._idle:
                member = self._idle.pop()
                member.threads = self._threads
                return member
        for _ in range(MOST_STARTS):
            try:
                return self._begun(over)
            except LostWorkerError as error:
                reason = str(error)
                progress.console.print(f"A worker was lost while it started: {reason}", soft_wrap=True)
        raise LostWorkerError(f"{MOST_STARTS} workers were lost while they started, the last one: {reason}")

    def _begun(self, over: Callable[[], bool]) -> RayMember | None:
        """Returns a new worker once it is ready; None once all is over.

        Raises:
            LostWorkerError: Its process or its machine is gone.
            LabError: It cannot start.
        """
        import ray
        from ray.exceptions import RayError

        actor = self._class.remote(self._gpus)
        place = actor.place.remote(self._like)
        began, is_said = time.monotonic(), False
        while not ray.wait([place], timeout=LOOK_SECONDS)[0]:
            if over():
                ray.kill(actor)
                return None
            interruption.check()
            if not is_said and time.monotonic() - began > PATIENCE_SECONDS:
                is_said = True
                progress.console.print("A worker is still waited for: its machine is slow, or none has room.")
        try:
            member = RayMember(actor, ray.get(place), self._share, self._threads)
        except RayError as error:
            ray.kill(actor)  # it may be away for a while only
            # The last line says why; of a process that has ended it goes on with what may be the cause.
            reason = quoted([line for line in str(error).splitlines() if line.strip()][-1].strip(), 200)
            if not _is_of_starting(error):
                raise LostWorkerError(reason) from error
            raise LabError(
                f"hydra/launcher=ray: a worker did not start; it needs this vae_lab installed: {reason}"
            ) from error
        self._members.append(member)
        return member


def _is_of_starting(error: Exception) -> bool:
    """Returns whether a worker's start failed by itself, and would again: nothing has ended its process."""
    from ray.exceptions import ActorUnschedulableError, RayActorError, RayTaskError, RuntimeEnvSetupError

    if isinstance(error, RayActorError):
        return bool(error.actor_init_failed)
    return isinstance(error, RayTaskError | ActorUnschedulableError | RuntimeEnvSetupError)


def ray_crew_of(
    jobs: Sequence[Job], *, cluster: Cluster, share: Share, stack: int = 1, workers: int | None = None
) -> CrewAndPacks:
    """Returns a crew of Ray's workers.

    Args:
        jobs: What is trained.
        cluster: Where.
        share: What each worker gets.
        stack: Most runs of one architecture that are trained as one; 1 for none.
        workers: How many are trained at once, None for as many as have room.

    Raises:
        UserError: No machine has as much as a worker should get.
        LabError: There is no Ray.
    """
    with progress.busy("Starting Ray"):
        cluster.connect()
    machines = _resources()
    share = _with_gpus(share, jobs[0], machines)
    # A cluster may get further machines while its workers are waited for; this one gets no more.
    if workers is None or cluster.own is not None:
        _check_room(share, machines)
    packs, (size, threads), _ = _shared(jobs, 0, share, stack, workers or _room(share, machines))
    return CrewAndPacks(RayCrew(cluster, share, threads, size, jobs[0]), packs)


def ray_shares(
    jobs: Sequence[Job],
    planned: int,
    *,
    address: str | None,
    share: Share,
    stack: int = 1,
    workers: int | None = None,
) -> Shared:
    """Returns how jobs would share a Ray, before there is one or one that runs is asked.

    Args:
        jobs: What would be trained.
        planned: Runs of the multirun.
        address: Of a Ray that runs; None for one of the command's own.
        share: What each worker gets.
        stack: Most runs of one architecture that are trained as one; 1 for none.
        workers: How many are trained at once, None for as many as have room.

    Raises:
        UserError: This machine has not as much as a worker should get.
    """
    if address is not None:
        at_once = f"room for {workers} at once" if workers else "room; the time is that of one run at a time"
        remark = f"hydra.launcher.address={quoted(address)}: that Ray is not asked if it has {at_once}."
        return _shared(jobs, planned, share, stack, workers or 1)._replace(remark=remark)
    import torch

    lent = {"CPU": own_cpus(share.cpus * (workers or 1)), "GPU": float(torch.cuda.device_count())}
    share = _with_gpus(share, jobs[0], [lent])
    _check_room(share, [lent])
    return _shared(jobs, planned, share, stack, workers or _room(share, [lent]))


def _shared(jobs: Sequence[Job], planned: int, share: Share, stack: int, size: int) -> Shared:
    """Returns how jobs share so many workers."""
    packs, _ = shared_out(jobs, stack, size, planned)
    threads = jobs[0].settings.train.threads or max(1, int(share.cpus))
    return Shared(packs, CoreShares(min(size, len(packs)), threads))


def _with_gpus(share: Share, job: Job, machines: Sequence[Mapping[str, float]]) -> Share:
    """Returns the share with its GPUs, where it does not say how many."""
    if share.gpus is not None:
        return share
    return share._replace(gpus=float(job.settings.train.device != "cpu" and _room(Share(0, 1), machines) > 0))


def _check_room(share: Share, machines: Sequence[Mapping[str, float]]) -> None:
    """Raises a UserError if no machine has as much as a worker should get."""
    if _room(share, machines):
        return
    counts = [f"{machine.get('CPU', 0):g} CPUs and {machine.get('GPU', 0):g} GPUs" for machine in machines]
    raise UserError(
        f"hydra.launcher.cpus={share.cpus:g} hydra.launcher.gpus={share.gpus or 0:g}: no machine of this Ray "
        f"has as many; they have {', '.join(counts) or 'ended'}."
    )


def _room(share: Share, machines: Sequence[Mapping[str, float]]) -> int:
    """Returns how many workers machines have room for when nobody else uses them."""
    asked = {"CPU": share.cpus, "GPU": share.gpus or 0}
    return sum(
        min(math.floor(machine.get(kind, 0) / count + 1e-9) for kind, count in asked.items() if count)
        for machine in machines
    )


def _resources() -> list[dict[str, float]]:
    """Returns what each machine lends, by Ray's names."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
