"""Lists of multiruns and of runs in the terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from vae_lab.report.terminal import output, plain
from vae_lab.studies.names import owner_of
from vae_lab.studies.status import RunState
from vae_lab.tracking import STUDY, Reader, StoredRun

NO_MULTIRUN = "No multirun is kept here yet. Start one with: vae-lab train experiments=reference"
STYLES = {
    "finished": "green",
    "running": "cyan",
    "interrupted": "yellow",
    "stopped": "blue",
    "failed": "red",
    "missing": "dim",
}
UNITS = ((86400, "days"), (3600, "h"), (60, "min"))


def started(run: StoredRun) -> str:
    """Returns the local time at which a run began."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(run.started / 1000))


def belongings(store: Reader, parents: Sequence[StoredRun]) -> dict[str, list[str]]:
    """Returns columns with the owners and the experiments of multiruns, each if there are several."""
    names = store.experiments()
    columns = {
        "owner": [owner_of(parent) for parent in parents],
        "experiment": [names.get(parent.experiment_id, "") for parent in parents],
    }
    return {heading: texts for heading, texts in columns.items() if len({*texts}) > 1}


def print_multiruns(
    parents: Sequence[StoredRun], details: Mapping[str, Sequence[str]], following: str
) -> None:
    """Prints a line a multirun with its study and its start, and how to see more of one.

    Args:
        parents: The parent runs of the multiruns.
        details: Further columns: their headings, and a text a multirun.
        following: The command that shows more.
    """
    if not parents:
        output().print(NO_MULTIRUN)
        return
    table = Table(box=None, header_style="bold")
    for heading in ("study", "started", *details):
        table.add_column(heading)
    for parent, *texts in zip(parents, *details.values(), strict=True):
        study = parent.tags.get(STUDY, parent.name)
        table.add_row(plain(study), started(parent), *map(plain, texts))
    terminal = output()
    terminal.print(table)
    terminal.print(f"\n{following}")


def print_runs(states: Sequence[RunState]) -> None:
    """Prints a line a run: how far it is, when it was last heard of, and what ended it."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("run", no_wrap=True)
    table.add_column("state")
    table.add_column("epochs", justify="right")
    table.add_column("last heard of", justify="right")
    table.add_column("why")
    for run in states:
        table.add_row(
            plain(run.name),
            Text(run.state, style=STYLES[run.state]),
            "" if run.epochs is None else f"{run.done}/{run.epochs}",
            "" if run.last_seen is None else time_since(time.time() - run.last_seen / 1000),
            plain(run.reason),
        )
    output().print(table)


def time_since(seconds: float) -> str:
    """Returns how long ago something was, days and hours once there are two of them.

    >>> time_since(5400), time_since(150_000), time_since(200_000)
    ('2 h ago', '42 h ago', '2 days ago')
    """
    for size, unit in UNITS:
        if seconds >= 2 * size or (unit != "days" and seconds >= size):
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(0.0, seconds):.0f} s ago"
