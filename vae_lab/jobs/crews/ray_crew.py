"""The jobs of a multirun shared out over workers of Ray: processes here or on several machines.

A worker trains and sends home what it reaches; this process alone holds runs, checkpoint files and store. So
a worker that is lost costs what it had under way, and one that was cut off and comes back has no reader.
"""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from vae_lab import interruption
from vae_lab.errors import LabError, UserError, quoted
from vae_lab.jobs import progress
from vae_lab.jobs.crews.crew import LostWorkerError
from vae_lab.jobs.crews.local_ray import SETTINGS, LocalRay
from vae_lab.jobs.crews.ray_worker import Order, Refused, Worker, received
from vae_lab.jobs.crews.workers import Hired, shared_out
from vae_lab.jobs.job import Job
from vae_lab.jobs.runs.reports import Assignment, Report

LOOK_SECONDS = 0.5  # between two looks at requests to stop
ANSWER_SECONDS = 10.0  # in which a running Ray takes a connection
PATIENCE_SECONDS = 60.0  # until a worker that is not ready is spoken of
AHEAD = 2  # reports that a worker may have waiting before it waits itself


class Share(NamedTuple):
    """What one worker gets of a machine."""

    cpus: float
    gpus: float | None  # a part of one, too; None: one where there are any, unless the runs are for the CPU


class Cluster:
    """The Ray that a command uses: one of its own on this machine, or one that runs already.

    Args:
        address: Of a running one, `auto` for the one that Ray finds; None for one of the command's own.
        cpus: How many one of its own lends at least.
    """

    def __init__(self, address: str | None, cpus: float) -> None:
        self.address = address
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.own = LocalRay.start(max(cores, cpus)) if address is None else None
        self.members: list[RayMember] = []  # that were ever there
        self._is_connected = False

    def connect(self) -> None:
        """Makes this process a driver of it; a second time does nothing.

        Raises:
            LabError: It cannot be reached, or does not let this process in.
        """
        if self._is_connected:
            return
        if self.own is not None:
            os.environ.update(SETTINGS, RAY_AUTH_TOKEN=self.own.token)
        import ray

        if self.address is not None:
            _check_answers(self.address)
        address = self.own.address() if self.own is not None else self.address
        with interruption.undisturbed():
            try:
                ray.init(address=address, log_to_driver=False, configure_logging=False)
            except Exception as error:  # ConnectionError, RuntimeError, AuthenticationError and others
                reason = next(iter(str(error).splitlines()), type(error).__name__)
                raise LabError(
                    f"hydra.launcher.address={quoted(self.address)}: {reason} A cluster's token is read from "
                    "RAY_AUTH_TOKEN, the file in RAY_AUTH_TOKEN_PATH, or ~/.ray/auth_token."
                ) from error
        self._is_connected = True

    def close(self) -> None:
        """Leaves it; one of the command's own ends."""
        if self._is_connected:
            import ray

            ray.shutdown()
            self._is_connected = False
        if self.own is not None:
            self.own.stop()


def _check_answers(address: str) -> None:
    """Raises a LabError for an address that takes no connection: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():  # such as `auto`
        return
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        reason = error.strerror or error
        raise LabError(
            f"hydra.launcher.address={quoted(address)}: nobody answers there: {reason}."
        ) from error


class RayMember:
    """A worker of Ray, as a member of a crew.

    Args:
        actor: Ray's handle of a `Worker`.
        place: Where it is, for messages.
        threads: CPU threads that it trains with.
    """

    def __init__(self, actor: Any, place: str, threads: int) -> None:
        self._actor, self.place, self._threads = actor, place, threads
        self.is_lost = self.refused = False

    def train(
        self, assignments: Mapping[int, Assignment], wanted: Container[int]
    ) -> Iterator[Sequence[Report]]:
        """Yields the reports of `train_pack` as they come in.

        Raises:
            LostWorkerError: Its process or its machine is gone, or it would train something else.
        """
        import ray
        from ray.exceptions import RayError, RayTaskError

        orders = {place: Order.of(assignment) for place, assignment in assignments.items()}
        streamed = {"num_returns": "streaming", "_generator_backpressure_num_objects": AHEAD}
        left = set(orders)
        ended = False
        try:
            stream = self._actor.train.options(**streamed).remote(orders, self._threads)
            while (sent := _next(stream)) is not None:
                if isinstance(sent, Refused):
                    self.refused = True
                    raise LostWorkerError(sent.reason)
                yield [received(report) for report in sent]
                if unwanted := {place for place in left if place not in wanted}:
                    left -= unwanted
                    self._actor.drop.options(concurrency_group="control").remote(unwanted)
            ended = True
        except RayTaskError:  # of the loop itself: a mistake here, not a machine that is gone
            raise
        except RayError as error:
            names = ", ".join(assignment.job.name for assignment in assignments.values())
            raise LostWorkerError(
                f"{self.place}: this worker is gone; {names}: to be gone on with from the last epoch."
            ) from error
        finally:
            if not ended:
                self.is_lost = True
                ray.kill(self._actor)


def _next(stream: Any) -> Any:
    """Returns what comes next on a stream; None at its end.

    Raises:
        RayError: Who would send it is gone.
        Interrupted: A second request to stop.
    """
    import ray

    while not ray.wait([stream], timeout=LOOK_SECONDS)[0]:
        interruption.check_now()
    try:
        reference = next(stream)
    except StopIteration:
        return None
    while not ray.wait([reference], timeout=LOOK_SECONDS)[0]:  # on its way here
        interruption.check_now()
    return ray.get(reference)


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

        self.size, self._threads = size, threads
        self._like = Order.of(Assignment(like, None, 0))
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
        """Returns one more member, as soon as Ray has room for one; None once all is over, or one refused.

        Raises:
            LabError: A worker does not start.
        """
        import ray
        from ray.exceptions import RayError

        with self._lock:
            if self._idle:
                return self._idle.pop()
            if any(member.refused for member in self._members):
                return None  # the next one would be on the same machine
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
            member = RayMember(actor, ray.get(place), self._threads)
        except RayError as error:
            reason = [line for line in str(error).splitlines() if line.strip()][-1]
            raise LabError(
                f"hydra/launcher=ray: a worker did not start; it needs this vae_lab installed: {reason}"
            ) from error
        self._members.append(member)
        return member


def hire_on_ray(
    jobs: Sequence[Job], *, cluster: Cluster, share: Share, stack: int = 1, workers: int | None = None
) -> Hired:
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
    train = jobs[0].settings.train
    if share.gpus is None:
        share = share._replace(gpus=float(train.device != "cpu" and _room(Share(0, 1)) > 0))
    size = workers or _room(share)
    if not size:
        raise UserError(
            f"hydra.launcher.cpus={share.cpus:g} hydra.launcher.gpus={share.gpus:g}: no machine of this Ray "
            f"has as many; they have {_machines()}."
        )
    packs, _ = shared_out(jobs, stack, size)
    threads = train.threads or max(1, int(share.cpus))
    return Hired(RayCrew(cluster, share, threads, min(size, len(packs)), jobs[0]), packs)


def _room(share: Share) -> int:
    """Returns how many workers the machines have room for when nobody else uses them."""
    asked = {"CPU": share.cpus, "GPU": share.gpus or 0}
    return sum(
        min(math.floor(machine.get(kind, 0) / count + 1e-9) for kind, count in asked.items() if count)
        for machine in _resources()
    )


def _machines() -> str:
    counts = [
        f"{machine.get('CPU', 0):g} CPUs and {machine.get('GPU', 0):g} GPUs" for machine in _resources()
    ]
    return ", ".join(counts) or "ended"


def _resources() -> list[dict[str, float]]:
    """Returns what each machine lends, by Ray's names."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
