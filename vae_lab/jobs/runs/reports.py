"""What passes between who trains a run, here or on another machine, and who holds its record."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from vae_lab.errors import LabError, without_credentials

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vae_lab.checkpoints import Checkpoint
    from vae_lab.jobs.job import Job


class Assignment(NamedTuple):
    """Training that is asked for: one job, from a checkpoint to an epoch."""

    job: Job
    checkpoint: Checkpoint | None  # what it goes on from; None: it begins
    until: int  # the last epoch; with the last of the job, final measures and artifacts are asked for, too


class Began(NamedTuple):
    """A run is about to be trained, and on what."""

    place: int
    tags: Mapping[str, str]  # of the machine, see `ran_on`
    precision: str  # the number format that was chosen for it


class Reached(NamedTuple):
    """A run has finished an epoch; or it is ready to begin, or to go on after one."""

    place: int
    checkpoint: Checkpoint  # whose time is not set
    pictures: Mapping[str, NDArray[Any]]  # by their names, each (H, W) or (H, W, 3) of bytes


class Finished(NamedTuple):
    """A run has all its epochs, and this is what it leaves."""

    place: int
    metrics: Mapping[str, float]  # the final measures
    tags: Mapping[str, str]
    files: Mapping[str, bytes]  # the artifacts by their paths
    read_back: tuple[str, ...]  # those of them that the lab reads again later
    note: str  # the run's description, in Markdown


class Failed(NamedTuple):
    """A run has ended with an error, and is not trained any further."""

    place: int
    error: Exception
    trace: str  # where; empty for an error whose message says enough


Report = Began | Reached | Finished | Failed


def trace_of(error: BaseException) -> str:
    """Returns where an error came from; nothing of one whose message says enough."""
    expected = isinstance(error, (LabError, KeyboardInterrupt))
    return "" if expected else without_credentials("".join(traceback.format_exception(error)))


def drop_frames(error: BaseException) -> None:
    """Takes the tracebacks off an error and off those that led to it: their frames hold model and batches."""
    chain: list[BaseException | None] = [error]
    passed: set[int] = set()
    while chain:
        link = chain.pop()
        if link is not None and id(link) not in passed:
            passed.add(id(link))
            link.__traceback__ = None
            chain += [link.__cause__, link.__context__]
