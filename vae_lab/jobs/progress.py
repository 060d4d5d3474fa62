"""Live progress of runs: bars on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from vae_lab.errors import visible
from vae_lab.jobs.job import UnderWayError
from vae_lab.report.terminal import Terminal, plain

console: Final = Terminal(stderr=True)


class TimeLeft(ProgressColumn):
    """At the pace since the start; rich looks at the last steps, but runs side by side end in bursts."""

    def render(self, task: Task) -> Text:
        """Called by rich."""
        if not task.completed or task.elapsed is None or task.total is None:
            return Text("-:--:--", style="progress.remaining")
        left = max(0.0, task.elapsed / task.completed * task.total - task.elapsed)
        return Text(_clock(left), style="progress.remaining")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


class Display:
    """What is being trained, of how many runs, how far it is and how long it will take.

    Args:
        runs: How many runs there will be.
        epochs: How many epochs all of them have together.
    """

    def __init__(self, runs: int, epochs: int) -> None:
        self.runs, self.epochs = runs, epochs
        self.started = self.done = 0
        self.begin = time.monotonic()
        self._lock = threading.Lock()
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("epochs"),
            TextColumn("{task.fields[losses]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeLeft(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.total = self.bars.add_task(f"all {runs} runs", total=epochs, losses="", visible=runs > 1)

    @contextmanager
    def run(self, name: str, epochs: int) -> Iterator[RunDisplay]:
        """Shows one run while the block lasts, and one line of its result after."""
        with self._lock:
            self.started += 1
            number = f"[{self.started}/{self.runs}] " if self.runs > 1 else ""
        label = visible(f"{number}{name}")
        task = self.bars.add_task(label, total=epochs, losses="")
        run = RunDisplay(self, task, label, epochs)
        try:
            yield run
            result = f" {run.label}  {run.losses}  {run.seconds:.0f} s"
            remark = (f"  {run.remark}" if run.remark else "", "yellow")
            console.print(Text.assemble(run.sign, result, remark), soft_wrap=True)
        except UnderWayError:  # it has not begun; whoever asked for it says so
            raise
        except BaseException as error:
            failure = plain(f" {run.label}  {_reason(error)}")
            console.print(Text.assemble(("✗", "red"), failure), soft_wrap=True)
            raise
        finally:
            self.bars.remove_task(task)

    def skip(self, epochs: int) -> None:
        """Takes epochs that were finished before off what there is to do."""
        with self._lock:
            self.epochs -= epochs
            self.bars.update(self.total, total=self.epochs)

    def advance(self) -> str:
        """Counts one epoch and returns the time left as text."""
        with self._lock:
            self.done += 1
            done = self.done
        self.bars.advance(self.total)
        left = (time.monotonic() - self.begin) / done * max(self.epochs - done, 0)
        return _clock(left)


class RunDisplay:
    """One run's part of the display."""

    def __init__(self, display: Display, task: TaskID, label: str, epochs: int) -> None:
        self.display, self.task, self.label, self.epochs = display, task, label, epochs
        self.losses = ""
        self.remark = ""  # a warning beside the result
        self.sign = ("✓", "green")  # before the result
        self.begin = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.begin

    def show_resumed(self, done: int) -> None:
        """Says that the run was interrupted after `done` epochs and is resumed there."""
        console.print(f"{self.label}: goes on after epoch {done} of {self.epochs}.")
        self.display.skip(done)
        self.display.bars.update(self.task, completed=done)

    def hide(self) -> None:
        """Takes the bar away until the next epoch."""
        self.display.bars.update(self.task, visible=False)

    def stop(self, done: int) -> None:
        """Says that the run is stopped early."""
        self.sign = ("◦", "dim")
        self.remark = f"stopped after epoch {done} of {self.epochs}"

    def epoch(self, number: int, train_loss: float, held_out_loss: float) -> None:
        """Shows an epoch's losses in nats per image."""
        self.losses = f"loss {train_loss:.2f}  held-out {held_out_loss:.2f}"
        left = self.display.advance()
        self.display.bars.update(self.task, completed=number, losses=self.losses, visible=True)
        if not console.is_terminal:
            console.print(
                f"  {self.label}  epoch {number}/{self.epochs}  {self.losses}  left {left}", soft_wrap=True
            )


def _reason(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def busy(activity: str) -> AbstractContextManager[object]:
    """Says what is being waited for before the first bar; nothing where no one watches."""
    return console.status(activity) if console.is_terminal else nullcontext()


@contextmanager
def silent() -> Iterator[None]:
    """Prints nothing of the runs in the block."""
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before


_current: Display | None = None


@contextmanager
def open_display(runs: int, epochs: int) -> Iterator[Display]:
    """Yields a display for `runs` runs; inside the block it is every run's of this process."""
    global _current
    display = Display(runs, epochs)
    _current, before = display, _current
    try:
        with display.bars:
            yield display
    finally:
        _current = before


@contextmanager
def join_display(epochs: int) -> Iterator[Display]:
    """Yields the display of the multirun around this run, else one for this run alone."""
    if _current is not None:
        yield _current
    else:
        with open_display(1, epochs) as display:
            yield display


def current_display() -> Display:
    """Returns the display that is open around this run."""
    assert _current is not None, "a run is trained inside progress.open_display or progress.join_display"
    return _current


def announce_stop(requests: int) -> None:
    """Says what becomes of the `requests`-th request to stop."""
    if requests == 1:
        now = "after the epoch that is under way; once more: at the next step."
        console.print(Text.assemble(("Stopping", "yellow"), " ", now))
    elif requests == 2:
        console.print(Text("Stopping now.", "yellow"))
