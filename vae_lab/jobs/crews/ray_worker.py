"""What a Ray worker does: it trains what it is told and yields reports; it knows of no store and no password.

Assignments and reports travel as plain values: settings as YAML, states of runs as the bytes of a checkpoint.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from traceback import format_exception_only
from typing import TYPE_CHECKING, NamedTuple

from omegaconf import DictConfig, OmegaConf

from vae_lab import config
from vae_lab.errors import LabError, visible
from vae_lab.jobs.commands import public
from vae_lab.jobs.crews.local_ray import forget_secrets
from vae_lab.jobs.job import Job, Multirun
from vae_lab.jobs.runs.reports import Assignment, Began, Failed, Finished, Reached, Report, trace_of

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray


KNOWN = ("builtins", "mlflow", "vae_lab")  # packages whose errors the driver has, whatever a run imports


class OtherResultError(LabError):
    """What a worker would train is not what it was asked for."""


class WorkerTask(NamedTuple):
    """An assignment on its way to a worker."""

    settings: str  # YAML, without the addresses of stores
    name: str
    overrides: tuple[str, ...]
    hydra_words: tuple[str, ...]
    multirun: str | None
    fingerprint: str
    data: str  # the checksum of the data set
    checkpoint: bytes | None
    until: int

    @classmethod
    def of(cls, assignment: Assignment) -> WorkerTask:
        """Returns an assignment as it travels."""
        job, checkpoint = assignment.job, assignment.checkpoint
        settings = job.settings.copy()
        settings.tracking.uri = settings.search.storage = None
        return cls(
            settings=OmegaConf.to_yaml(settings),
            name=job.name,
            overrides=tuple(public(job.overrides)),
            hydra_words=job.hydra_words,
            multirun=None if job.multirun is None else job.multirun.to_text(),
            fingerprint=job.parts.fingerprint,
            data=job.parts.data.checksum,
            checkpoint=None if checkpoint is None else checkpoint.to_bytes(),
            until=assignment.until,
        )

    def assignment(self) -> Assignment:
        """Returns the assignment, prepared on this machine.

        Raises:
            OtherResultError: Its result here would be another.
            UserError: It cannot be trained here.
        """
        from vae_lab.checkpoints import Checkpoint

        settings = OmegaConf.create(self.settings)
        assert isinstance(settings, DictConfig)
        multirun = None if self.multirun is None else Multirun.from_text(self.multirun)
        job = Job(config.checked(settings), self.name, self.overrides, (), multirun, self.hydra_words)
        here = job.parts
        if here.fingerprint != self.fingerprint:
            other = "data are" if here.data.checksum != self.data else "code is"
            raise OtherResultError(
                f"{socket.gethostname()}: its {other} not that of the command (fingerprint "
                f"{here.fingerprint}, not {self.fingerprint}); install the same vae_lab and data set there."
            )
        state = None if self.checkpoint is None else Checkpoint.from_bytes(self.checkpoint, self.name)
        return Assignment(job, state, self.until)


class State(NamedTuple):
    """A `Reached` on its way to the driver."""

    place: int
    checkpoint: bytes
    pictures: Mapping[str, NDArray[Any]]


class Refused(NamedTuple):
    """A worker will not train here, and why."""

    reason: str


Sent = Began | State | Finished | Failed


class Worker:
    """An actor: one process, which imports everything once and trains one run or stack at a time.

    Args:
        gpus: How many it has; with none it hides those of its machine, which Ray leaves to be seen.
    """

    def __init__(self, gpus: float) -> None:
        forget_secrets(os.environ)  # before classes of others are imported, or processes started
        if not gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        from vae_lab.jobs.runs import together  # takes seconds

        self._train_pack = together.train_pack
        self._wanted: tuple[int, set[int]] = (0, set())  # which training it is, and of what

    def place(self, like: WorkerTask) -> str:
        """Returns where it is, once it is ready: host and number of the process.

        Args:
            like: What the first training will be like; all that it loads is loaded now.
        """
        with contextlib.suppress(Exception):  # which training will say again
            like.assignment()
        return f"{socket.gethostname()}, process {os.getpid()}"

    def train(
        self, tasks: Mapping[int, WorkerTask], threads: int, number: int
    ) -> Iterator[list[Sent] | Refused]:
        """Yields the reports of runs that are trained together, as `train_pack` does.

        Args:
            tasks: What is trained, by their places.
            threads: CPU threads.
            number: Of this training, by which `drop` names it.
        """
        import torch

        from vae_lab.jobs.parts.prepared import TooLargeError

        torch.set_num_threads(threads)
        wanted = set(tasks)
        self._wanted = number, wanted
        try:
            assignments = {place: task.assignment() for place, task in tasks.items()}
        except TooLargeError as error:  # here and now; it says nothing of other runs
            yield _failed(wanted, error)
            return
        except Exception as error:  # the command could prepare them: what is amiss is this machine's
            yield Refused(_reason(error))
            return
        try:
            for reports in self._train_pack(assignments, wanted):
                yield [_sent(report) for report in reports]
        except Exception as error:
            yield _failed(wanted, error)

    def drop(self, number: int, places: set[int]) -> None:
        """Takes note of runs of a training that nobody waits for any more.

        It runs beside `train`, and may come when the next one has begun.
        """
        current, wanted = self._wanted
        if number == current:
            wanted.difference_update(places)


def _failed(places: Iterable[int], error: Exception) -> list[Sent]:
    return [_sent(Failed(place, error, trace_of(error))) for place in sorted(places)]


def _reason(error: Exception) -> str:
    """Returns in one line where and why a machine cannot prepare runs."""
    if isinstance(error, OtherResultError):
        return str(error)
    text = str(error) if isinstance(error, LabError) else "".join(format_exception_only(error)).strip()
    return f"{socket.gethostname()}: gets no further runs, as it cannot prepare them: {visible(text)}"


def _sent(report: Report) -> Sent:
    match report:
        case Reached():
            return State(report.place, report.checkpoint.to_bytes(), report.pictures)
        case Failed():
            return report._replace(error=_as_known(report.error))
        case _:
            return report


def _as_known(error: Exception) -> Exception:
    """Returns an error as the nearest of its classes that the driver has, with the same message.

    By the class it is told whether a run would fail again.
    """
    kinds = [kind for kind in type(error).__mro__ if kind.__module__.partition(".")[0] in KNOWN]
    if kinds[0] is type(error):
        return error
    text = str(error) or type(error).__name__
    return next(known for kind in kinds if (known := _saying(kind, text)) is not None)


def _saying(kind: type, text: str) -> Exception | None:
    """Returns an error with a message, which `Exception` takes; None where the class has other arguments."""
    try:
        error: Exception = kind(text)
    except Exception:
        return None
    return error if str(error) == text else None  # KeyError puts it in quotes


def received(sent: Sent) -> Report:
    """Returns a report as it was before it travelled."""
    from vae_lab.checkpoints import Checkpoint

    if isinstance(sent, State):
        checkpoint = Checkpoint.from_bytes(sent.checkpoint, "a worker's state")
        return Reached(sent.place, checkpoint, sent.pictures)
    return sent
