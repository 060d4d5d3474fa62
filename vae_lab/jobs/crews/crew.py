"""Who trains what: the members of a crew, each at work on some runs, and a source of what is left to do."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import NamedTuple, Protocol

from vae_lab import interruption
from vae_lab.errors import LabError
from vae_lab.jobs import progress
from vae_lab.jobs.job import Job
from vae_lab.jobs.runs.reports import Assignment, Reached, Report, trace_of
from vae_lab.jobs.runs.run import Run
from vae_lab.tracking import WORKER, Store

MOST_LOST_WORKERS = 3  # of workers with one run, which may be what ends them
PATIENCE_SECONDS = 60.0  # for a further worker, where all that have come refused what is left
LOOK_SECONDS = 1.0  # between two looks at requests to stop


class LostWorkerError(LabError):
    """The process or the machine that trained some runs is gone; they go on from their last checkpoints."""


class RefusedError(LabError):
    """Who should train some runs cannot do it as it was asked to, before it has begun; others may."""


class Member(Protocol):
    """One of a crew, which trains one run or one stack of runs at a time."""

    @property
    def is_lost(self) -> bool:
        """Whether it trains no more; its crew has another for it."""

    def train(
        self, assignments: Mapping[int, Assignment], wanted: Container[int]
    ) -> Iterator[Sequence[Report]]:
        """Yields reports of runs, as `train_pack` does.

        Raises:
            LostWorkerError: It is gone.
            RefusedError: It gets no further runs.
        """


class Crew(Protocol):
    """Those that train at the same time."""

    @property
    def size(self) -> int:
        """How many there are."""

    def member(self, over: Callable[[], bool]) -> Member | None:
        """Returns one more member, also in place of one that is lost; None if no more can be had.

        It may wait for one, until nothing is left to do or nobody can do it: when `over` says so.

        Raises:
            LostWorkerError: Those that were begun with are lost, one after the other.
        """


class RunsTogether(NamedTuple):
    """Runs that a member trains at a time, alone or as a stack, up to an epoch."""

    runs: list[Run]
    until: int | None = None  # the last epoch; None for all of them

    def assignments(self, wanted: Iterable[int]) -> dict[int, Assignment]:
        """Returns what is left to train of the runs at some places."""
        return {place: self.runs[place].assignment(self.until) for place in sorted(wanted)}

    def take(self, reports: Iterable[Report], wanted: set[int]) -> None:
        """Records reports of the wanted runs, and takes those that end out of the wanted."""
        for report in reports:
            if report.place in wanted:
                self.runs[report.place].take(report)
                if self.runs[report.place].result is not None:
                    wanted.discard(report.place)

    def fail(self, error: BaseException) -> None:
        """Closes the runs that have not ended with an error."""
        for run in self.runs:
            if run.result is None:
                run.fail(error, trace_of(error))

    def lose_member(self, error: LostWorkerError) -> None:
        """Counts that who trained the runs is gone, and closes those that may be what ends them."""
        for run in self.runs:
            run.lost_workers += 1
            if run.is_open and run.lost_workers == MOST_LOST_WORKERS:
                run.fail(LabError(f"{error} Given up: this was its worker number {MOST_LOST_WORKERS}."))


class Source(ABC):
    """What there is to train, handed out pack by pack; safe to use from several threads."""

    def __init__(self) -> None:
        # Of members that were lost or refused, until others take them.
        self._back: deque[RunsTogether] = deque()
        self._under_way = 0
        self._changed = threading.Condition()

    @abstractmethod
    def _next(self) -> RunsTogether | None:
        """Returns a new pack; None if there is none before one that is under way has finished."""

    @abstractmethod
    def _note(self, pack: RunsTogether) -> None:
        """Takes note of a pack that has finished, where others follow from it."""

    def take(self) -> RunsTogether | None:
        """Returns the next pack, waiting while others are under way; None once all is done."""
        with self._changed:
            while True:
                pack = self._back.popleft() if self._back else self._next()
                if pack is not None:
                    self._under_way += 1
                    return pack
                if not self._under_way:
                    return None
                self._changed.wait(LOOK_SECONDS)
                interruption.check()

    def put_back(self, pack: RunsTogether) -> None:
        """Takes back a pack whose member was lost or refused it; it is the next."""
        for run in pack.runs:
            if run.is_open:
                run.pause(WORKER)
        with self._changed:
            self._back.appendleft(pack)
            self._leave()

    def fail_put_back(self, error: BaseException) -> None:
        """Closes the runs that were put back and that nobody has taken since, with an error."""
        with self._changed:
            while self._back:
                self._back.popleft().fail(error)

    def finished(self, pack: RunsTogether) -> None:
        """Takes note of a pack whose runs have all reached their epoch or ended."""
        with self._changed:
            try:
                self._note(pack)
            finally:  # else others would wait for it for ever
                self._leave()

    def _leave(self) -> None:
        self._under_way -= 1
        self._changed.notify_all()


class Queue(Source):
    """A source of packs that are known from the start.

    Args:
        packs: In the order in which they are begun.
    """

    def __init__(self, packs: Iterable[RunsTogether]) -> None:
        super().__init__()
        self._waiting = iter([*packs])

    def _next(self) -> RunsTogether | None:
        return next(self._waiting, None)

    def _note(self, pack: RunsTogether) -> None:
        """Nothing follows from a pack."""


class CrewState:
    """What the threads that serve one source tell each other."""

    def __init__(self) -> None:
        self.over = threading.Event()  # nothing is left to do, or nobody wants it any more
        self.last_lost_worker = ""
        self._lock = threading.Lock()
        self._members = 0  # that are there, and were neither lost nor refused
        self._last_left = 0.0  # when one was lost or refused, on the clock that only goes forward
        self._has_refused = False  # one of them, at least

    def came(self) -> None:
        """Takes note of a member."""
        with self._lock:
            self._members += 1

    def left(self) -> None:
        """Takes note that a member trains no more."""
        with self._lock:
            self._members -= 1
            self._last_left = time.monotonic()

    def tell(self, error: LabError) -> None:
        """Says of a member that it trains no more, and why."""
        self._has_refused |= isinstance(error, RefusedError)
        self.last_lost_worker = str(error)
        progress.console.print(self.last_lost_worker, soft_wrap=True)

    def is_waited_in_vain(self) -> bool:
        """Returns whether no further member need be waited for.

        All is over; or some refused what is left, nobody else is there, and nobody has come for a while:
        those that refused hold the places that others wait for.
        """
        with self._lock:
            is_alone = self._has_refused and not self._members
            waited = time.monotonic() - self._last_left
        return self.over.is_set() or (is_alone and waited >= PATIENCE_SECONDS)


def train_all(crew: Crew, source: Source) -> None:
    """Has a crew train all that a source hands out; a run that fails leaves the others running.

    Raises:
        KeyboardInterrupt: What had finished is kept, what was under way is recorded as KILLED.
        LabError: All members are lost, and none can be had in their place.
    """
    state = CrewState()
    try:
        with (
            interruption.listening(progress.announce_stop),
            ThreadPoolExecutor(crew.size, thread_name_prefix="worker") as pool,
        ):
            waiting = {pool.submit(serve, crew, source, state) for _ in range(crew.size)}
            try:
                while waiting:
                    # In small waits, so that this thread goes on to hear Ctrl-C.
                    done, waiting = wait(waiting, timeout=LOOK_SECONDS, return_when="FIRST_EXCEPTION")
                    for future in done:
                        future.result()
                if not state.over.is_set():
                    raise LabError(f"No worker is left. {state.last_lost_worker}")
            finally:
                state.over.set()
    except BaseException as error:
        source.fail_put_back(error)
        raise


def serve(crew: Crew, source: Source, state: CrewState) -> None:
    """Takes one member of a crew from pack to pack and records its reports, in this thread.

    The runs of a pack are started or resumed first. One that fails has that as its result, and leaves the
    others running. Of a member that is lost, or that refuses it, the pack goes to another.

    Raises:
        KeyboardInterrupt: What was under way is recorded as KILLED.
    """
    member = _member(crew, state)
    while member is not None and not state.over.is_set():
        if (pack := source.take()) is None:
            state.over.set()
            return
        try:
            interruption.check()  # a worker may come here before the others are told
            wanted = _started(pack)
            for reports in member.train(pack.assignments(wanted), wanted) if wanted else ():
                pack.take(reports, wanted)
                if wanted and any(isinstance(report, Reached) for report in reports):
                    interruption.check()  # not among the ends of a stack's runs, which take all or none
        except (LostWorkerError, RefusedError) as error:
            state.tell(error)
            if isinstance(error, LostWorkerError):
                pack.lose_member(error)
            source.put_back(pack)
            if isinstance(error, RefusedError):
                state.left()
                return
        except BaseException as error:  # an interruption, or a fault of the loop itself
            pack.fail(error)
            if not isinstance(error, Exception):
                raise
            source.finished(pack)
        else:
            source.finished(pack)
        if member.is_lost:
            state.left()
            member = _member(crew, state)


def _member(crew: Crew, state: CrewState) -> Member | None:
    """Returns one more member; None if there is none to be had."""
    try:
        member = crew.member(state.is_waited_in_vain)
    except LostWorkerError as error:
        state.tell(error)
        return None
    if member is not None:
        state.came()
    return member


def _started(pack: RunsTogether) -> set[int]:
    """Starts or resumes the runs of a pack that are not open yet; returns the places of those to train."""
    for run in pack.runs:
        if not run.is_open and run.result is None:
            run.start_or_fail(_store(run.job), progress.current_display(), together=len(pack.runs))
    return {place for place, run in enumerate(pack.runs) if run.result is None}


def _store(job: Job) -> Store:
    """Opens the job's store; a job of a multirun waits for a server that went away."""
    tracking = job.settings.tracking
    return Store.open(tracking.uri, create=True, wait=tracking.wait if job.multirun else 0.0)
