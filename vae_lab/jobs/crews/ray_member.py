"""One worker of Ray, as a member of a crew: it trains and sends home what it reaches."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from vae_lab import interruption
from vae_lab.jobs.crews.crew import LostWorkerError, RefusedError
from vae_lab.jobs.crews.ray_worker import Refused, WorkerTask, received
from vae_lab.jobs.runs.reports import Assignment, Report

LOOK_SECONDS = 0.5  # between two looks at requests to stop
AHEAD = 2  # reports that a worker may have waiting before it waits itself


class Share(NamedTuple):
    """What one worker gets of a machine."""

    cpus: float
    gpus: float | None  # a part of one, too; None: one where there are any, unless the runs are for the CPU


class RayMember:
    """A worker of Ray, as a member of a crew.

    Args:
        actor: Ray's handle of a `Worker`.
        place: Where it is, for messages.
        share: What it has of its machine.
        threads: CPU threads that it trains with.
    """

    def __init__(self, actor: Any, place: str, share: Share, threads: int) -> None:
        self._actor, self.place, self.share, self.threads = actor, place, share, threads
        self.is_lost = self.has_refused = False
        self._number = 0  # of its trainings

    def end(self) -> None:
        """Ends its process; what it has of its machine is free again."""
        import ray

        self.is_lost = True
        ray.kill(self._actor)

    def train(
        self, assignments: Mapping[int, Assignment], wanted: Container[int]
    ) -> Iterator[Sequence[Report]]:
        """Yields the reports of `train_pack` as they come in.

        Raises:
            LostWorkerError: Its process or its machine is gone.
            RefusedError: It cannot train them, or would train something else. It holds its place, which a
                worker in place of another would else be given.
        """
        from ray.exceptions import RayError, RayTaskError

        tasks = {place: WorkerTask.of(assignment) for place, assignment in assignments.items()}
        streamed = {"num_returns": "streaming", "_generator_backpressure_num_objects": AHEAD}
        left = set(tasks)
        self._number += 1
        ended = False
        try:
            stream = self._actor.train.options(**streamed).remote(tasks, self.threads, self._number)
            while (sent := _next(stream)) is not None:
                if isinstance(sent, Refused):
                    self.has_refused = ended = True
                    raise RefusedError(sent.reason)
                yield [received(report) for report in sent]
                if unwanted := {place for place in left if place not in wanted}:
                    left -= unwanted
                    drop = self._actor.drop.options(concurrency_group="control")
                    drop.remote(self._number, unwanted)
            ended = True
        except RayTaskError:  # of the loop itself: a mistake here, not a machine that is gone
            raise
        except RayError as error:
            names = ", ".join(assignment.job.name for assignment in assignments.values())
            raise LostWorkerError(
                f"{self.place}: this worker is gone; {names} will resume after the last finished epoch."
            ) from error
        finally:
            if not ended:
                self.end()


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
