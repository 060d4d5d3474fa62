"""The runs of a search, handed out segment by segment, and told to the search as they pause."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from mlflow.exceptions import MlflowException

from vae_lab.errors import LabError, UserError
from vae_lab.jobs import progress
from vae_lab.jobs.crews.crew import RunsTogether, Source
from vae_lab.jobs.job import Job, UnderWayError
from vae_lab.jobs.runs.run import Run
from vae_lab.jobs.search.engine import Order, Search
from vae_lab.tracking import TURN, Store, StoredRun
from vae_lab.training import DivergedError

Settled = Callable[[Job], StoredRun | None]  # takes the finished run of a job for the search, if there is one
MOST_IN_A_ROW = 3  # runs that fail for what may pass, as on a full disk, where others would fail, too
ENDED_EARLY = "its search ended early"


def fails_again(error: Exception) -> bool:
    """Returns whether a run that failed would fail again, as one that diverged.

    What the machine or the store was about may pass: a full disk, a store that is away, a worker that is
    gone, another process at work on the run.

    Examples:
        >>> fails_again(DivergedError("loss is NaN")), fails_again(LabError("no space left on device"))
        (True, False)
    """
    if isinstance(error, UnderWayError):
        return False
    if isinstance(error, DivergedError | UserError):
        return True
    return not isinstance(error, LabError | MemoryError | MlflowException | OSError)


class SearchSource(Source):
    """A source of packs that follow from what came of earlier ones.

    Args:
        search: What is tried and how far.
        job_of: Returns the job of an order's point.
        settled: Takes a finished run of the same result.
        store: Of the runs.
        metrics: The objectives.
        repeated: Trials of full length whose runs the store has lost: they are trained once more, first.
    """

    def __init__(
        self,
        search: Search,
        job_of: Callable[[Order], Job],
        settled: Settled,
        store: Store,
        metrics: Sequence[str],
        repeated: Iterable[int] = (),
    ) -> None:
        super().__init__()
        self.search, self.job_of, self.settled, self.store = search, job_of, settled, store
        self.metrics = [*metrics]
        self.runs: dict[int, Run] = {}  # under way or pausing
        self._last = last = search.rules.length
        self._repeated = deque(Order(number, search.points[number], last) for number in repeated)
        self._in_a_row = 0  # runs that failed for what may pass, since one did not
        self.failures: list[str] = []  # a line for each trial that failed
        self._histories: dict[int, Mapping[str, Mapping[int, float]]] = {}  # of finished runs, by trial
        self._numbers: dict[int, int] = {}  # trial of each run, by the run's id in this process

    def close(self, error: BaseException | None) -> None:
        """Lets go of the runs that pause: they are stopped, or after an error left to the next command."""
        paused = [*self.search.ladder.paused()]
        for number in paused:
            if (run := self.runs.pop(number, None)) is None or run.result is not None:
                continue
            if error is None:
                run.stop()
            else:
                run.fail(KeyboardInterrupt(ENDED_EARLY))
        for number in paused if error is None else ():
            self.search.stop(number)

    def _next(self) -> RunsTogether | None:
        """Returns a pack that has something to train; what is known already is told at once."""
        while (order := self._repeated.popleft() if self._repeated else self.search.next()) is not None:
            if order.number not in self._histories and order.number not in self.runs:
                self._open(order)
            run = self.runs.get(order.number)
            if run is None:
                self._tell_known(order)
            elif isinstance(run.result, Exception) or order.until <= min(run.done or 0, self._last - 1):
                self._tell(order.number, run, order.until)
            else:
                return RunsTogether([run], order.until)
        return None

    def _note(self, pack: RunsTogether) -> None:
        """Tells the search what a run came to."""
        (run,) = pack.runs
        assert pack.until is not None
        self._tell(self._numbers[id(run)], run, pack.until)

    def _open(self, order: Order) -> None:
        """Takes the finished run of a trial's job, or starts or resumes one."""
        job = self.job_of(order)
        stored = self.settled(job)
        if stored is not None:
            points = self.store.points([stored.run_id], self.metrics)
            self._histories[order.number] = points.get(stored.run_id, {})
            return
        run = self.runs[order.number] = Run(job)
        self._numbers[id(run)] = order.number
        run.start_or_fail(self.store, progress.current_display(), together=1)

    def _tell_known(self, order: Order) -> None:
        steps = self._histories[order.number]
        values = {metric: steps[metric][order.until] for metric in steps if order.until in steps[metric]}
        self._tell_values(order.number, values)

    def _tell(self, number: int, run: Run, until: int) -> None:
        if isinstance(run.result, Exception):
            self._note_failure(number, run, run.result)
            return
        self._in_a_row = 0
        try:
            over = self._tell_values(number, run.history[until - 1])
        except BaseException:  # Optuna's storage may be away
            if run.result is None:
                run.fail(KeyboardInterrupt(ENDED_EARLY))
            del self.runs[number]
            raise
        if over:
            del self.runs[number]
            if run.result is None:
                run.stop()
        else:
            run.pause(TURN)

    def _tell_values(self, number: int, metrics: Mapping[str, float]) -> bool:
        """Tells the search what a trial has come to, unless it knows; returns whether the trial is over."""
        for metric in self.metrics:
            if metric not in metrics:
                raise LabError(f"search.metrics={metric}: trial {number} lacks it after some epoch.")
        return self.search.is_over(number) or self.search.told(number, [metrics[key] for key in self.metrics])

    def _note_failure(self, number: int, run: Run, error: Exception) -> None:
        """Takes a trial whose run failed out of the search, for good if it would fail again.

        Raises:
            LabError: So many failed in a row for what may pass that the others would, too.
        """
        reason = (str(error) or type(error).__name__).splitlines()[0]
        self.failures.append(f"  {run.job.name}: {reason}")
        del self.runs[number]
        if fails_again(error):
            self.search.failed(number)
            return
        self.search.leave(number)
        self._in_a_row += not isinstance(error, UnderWayError)
        if self._in_a_row >= MOST_IN_A_ROW:
            raise LabError(f"{self._in_a_row} runs in a row failed, the last with: {reason}")
