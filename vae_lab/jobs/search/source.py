"""The runs of a search, handed out segment by segment, and told to the search as they pause."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vae_lab.errors import LabError
from vae_lab.jobs import progress
from vae_lab.jobs.crews.crew import RunsTogether, Source
from vae_lab.jobs.job import Job
from vae_lab.jobs.runs.run import Run
from vae_lab.jobs.search.engine import Order, Search
from vae_lab.tracking import Store, StoredRun

Settled = Callable[[Job], StoredRun | None]  # takes the finished run of a job for the search, if there is one


class SearchSource(Source):
    """A source of packs that follow from what came of earlier ones.

    Args:
        search: What is tried and how far.
        job_of: Returns the job of an order's point.
        settled: Takes a finished run of the same result.
        store: Of the runs.
        metrics: The objectives.
    """

    def __init__(
        self,
        search: Search,
        job_of: Callable[[Order], Job],
        settled: Settled,
        store: Store,
        metrics: Sequence[str],
    ) -> None:
        super().__init__()
        self.search, self.job_of, self.settled, self.store = search, job_of, settled, store
        self.metrics = [*metrics]
        self.runs: dict[int, Run] = {}  # under way or pausing
        self._last = search.rules.length
        self.failures: list[str] = []  # a line for each trial that failed
        self._histories: dict[int, list[list[float]]] = {}  # of finished runs, by trial
        self._numbers: dict[int, int] = {}  # trial of each run, by the run's id in this process

    def close(self, error: BaseException | None) -> None:
        """Lets go of the runs that pause: they are stopped, or after an error left to the next command."""
        for number in [*self.search.ladder.paused()]:
            run = self.runs.pop(number, None)
            if error is not None:
                if run is not None:
                    run.fail(KeyboardInterrupt("its search ended early"))
                continue
            if run is not None:
                run.stop()
            self.search.stop(number)

    def _next(self) -> RunsTogether | None:
        """Returns a pack that has something to train; what is known already is told at once."""
        while (order := self.search.next()) is not None:
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
            columns = [self.store.history(stored.run_id, metric) for metric in self.metrics]
            self._histories[order.number] = [[*values] for values in zip(*columns, strict=True)]
            return
        run = self.runs[order.number] = Run(job)
        self._numbers[id(run)] = order.number
        run.start_or_fail(self.store, progress.current_display(), together=1)

    def _tell_known(self, order: Order) -> None:
        history = self._histories[order.number]
        self.search.told(order.number, history[order.until - 1])

    def _tell(self, number: int, run: Run, until: int) -> None:
        if isinstance(run.result, Exception):
            reason = (str(run.result) or type(run.result).__name__).splitlines()[0]
            self.failures.append(f"  {run.job.name}: {reason}")
            self.search.failed(number)
            self.runs.pop(number, None)
            return
        values = [run.history[until - 1].get(metric) for metric in self.metrics]
        if None in values:
            raise LabError(
                f"search.metrics: {self.metrics[values.index(None)]}: epochs of {run.job.name} lack it."
            )
        over = self.search.told(number, [value for value in values if value is not None])
        if over:
            self.runs.pop(number, None)
            if run.result is None:
                run.stop()
        else:
            run.pause()
