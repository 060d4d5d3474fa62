"""What the scenarios share: homes, undisturbed references, and the tally of what was tried and lost."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.table import Table

from tests.faults import kept
from tests.faults.children import Child, Home, Zygote
from tests.faults.kept import Kept

Command = tuple[str, ...]
DIGITS: Command = ("data=digits", "model.hidden_size=16", "train.device=cpu")
# Noise in the data and a schedule, so that both must go on where they were.
VAE: Command = ("train", *DIGITS, "train.epochs=10", "data.binarize=dynamic", "scheduler=cosine")
CVAE: Command = ("train", *DIGITS, "train.epochs=6", "model=cvae", "evaluation.posterior_draws=2")
SWEEP: Command = (
    *("train", "-m", *DIGITS, "train.epochs=5", "model=vae,cvae", "seed=0,1"),
    *("study.name=faults", "hydra.launcher.workers=2"),
)
PAIR: Command = ("train", "-m", *DIGITS, "train.epochs=3", "model=vae,cvae", "hydra.launcher.workers=2")
STACK: Command = ("train", "-m", *DIGITS, "train.epochs=8", "seed=0,1,2,3", "hydra/launcher=stacked")


class Reference(NamedTuple):
    """A command that nobody disturbed."""

    kept: list[Kept]
    seconds: float
    epochs: int  # of all its runs
    calls: dict[str, int]  # of functions that were counted


@dataclass
class Row:
    """What became of one kind of fault."""

    fault: str
    tried: int = 0
    hurt: int = 0  # faults after which something was lost
    lost: list[str] = field(default_factory=list)  # what it was
    notes: list[str] = field(default_factory=list)
    skipped: str = ""  # why it could not be tried here


class Tally:
    """Faults tried, recovered and lost."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    def row(self, fault: str) -> Row:
        """The row of a kind of fault, made if it is not there."""
        return self.rows.setdefault(fault, Row(fault))

    def count(self, fault: str, tried: int, lost: Sequence[str] = (), note: str = "") -> None:
        """Counts faults, all of them as lost if anything was."""
        row = self.row(fault)
        row.tried += tried
        row.hurt += max(tried, 1) if lost else 0
        row.lost += lost
        if note and note not in row.notes:
            row.notes.append(note)

    @property
    def lost(self) -> list[str]:
        """All that was lost."""
        return [f"{row.fault}: {each}" for row in self.rows.values() for each in row.lost]

    def table(self) -> Table:
        """For the terminal."""
        table = Table(box=box.SIMPLE_HEAD, header_style="bold", show_footer=True)
        rows = list(self.rows.values())
        tried, hurt = sum(row.tried for row in rows), sum(row.hurt for row in rows)
        table.add_column("fault", footer="all")
        for heading, total in (("tried", tried), ("recovered", tried - hurt), ("lost", hurt)):
            table.add_column(heading, footer=str(total), justify="right")
        table.add_column("")
        for row in rows:
            numbers = [str(each) for each in (row.tried, row.tried - row.hurt, row.hurt)]
            told = f"not tried: {row.skipped}" if row.skipped else "; ".join(row.notes)
            table.add_row(row.fault, *numbers, told, style="bold red" if row.hurt else "")
        return table

    def markdown(self) -> str:
        """For docs/reliability.md."""
        lines = ["| fault | tried | recovered | lost |", "| --- | ---: | ---: | ---: |"]
        for row in self.rows.values():
            told = f" ({'; '.join(row.notes)})" if row.notes else ""
            lines.append(f"| {row.fault}{told} | {row.tried} | {row.tried - row.hurt} | {row.hurt} |")
        rows = self.rows.values()
        tried, hurt = sum(row.tried for row in rows), sum(row.hurt for row in rows)
        return "\n".join([*lines, f"| **all** | **{tried}** | **{tried - hurt}** | **{hurt}** |"])

    def record(self) -> list[dict[str, Any]]:
        """As plain values."""
        return [row.__dict__ for row in self.rows.values()]


class Bench:
    """Where the scenarios work.

    Args:
        zygote: makes the processes.
        folder: an empty one on a disk.
        seed: of all that is left to chance.
        say: shows a line of progress.
        fresh: an empty store, if there is one; it takes seconds to make.
    """

    def __init__(
        self,
        zygote: Zygote,
        folder: Path,
        seed: int,
        say: Callable[[str], None],
        fresh: Path | None = None,
    ) -> None:
        self.zygote, self.folder, self.say = zygote, folder, say
        self.random = random.Random(seed)
        self.tally = Tally()
        self.cache = folder / "cache"
        self._homes = 0
        self._references: dict[Command, Reference] = {}
        self._fresh = fresh

    def place(self) -> Path:
        """The path of a new folder."""
        self._homes += 1
        return self.folder / f"{self._homes:03d}"

    def home(self, at: Path | None = None, *, fresh: bool = True, cache: Path | None = None) -> Home:
        """A new home.

        Args:
            at: its folder, else one below the bench's.
            fresh: with an empty store, which takes seconds to make; else with none.
            cache: of its own.
        """
        elsewhere = None if at is None else self.place()  # its disk may be full
        made = Home(self.zygote, at or self.place(), cache or self.cache, elsewhere)
        if fresh:
            shutil.copy(self._fresh_store(), made.database)
        return made

    def _fresh_store(self) -> Path:
        if self._fresh is None:
            self._fresh = self.folder / "fresh.db"
            home = self.home(fresh=False)
            program = (
                f"from vae_lab.tracking import Store; Store.open('sqlite:///{self._fresh}', create=True)"
            )
            child = home.start("-c", program)
            assert child.code() == 0, child.err
            home.remove()
        return self._fresh

    def reference(self, command: Command, count: Sequence[tuple[str, str]] = ()) -> Reference:
        """What the command comes to if nobody disturbs it."""
        if command not in self._references or (count and not self._references[command].calls):
            home = self.home()
            begin = time.monotonic()
            child = home.start(*command, count=count)
            code = child.code()
            seconds = time.monotonic() - begin
            assert code == 0, f"{' '.join(command)} gives {code} undisturbed:\n{child.err}"
            calls = json.loads((home.folder / "calls.json").read_text()) if count else {}
            self._references[command] = Reference(
                kept.read(home.database), seconds, kept.epochs(home.database), calls
            )
            home.remove()
        return self._references[command]

    def ended(self, home: Home, command: Command) -> bool:
        """Whether a command had come to its end in a home, as far as its store knows."""
        found = sorted(kept.statuses(home.database).values())
        return found == ["FINISHED"] * len(self.reference(command).kept)

    def finished(self, home: Home, command: Command, *, exact: bool = True) -> list[str]:
        """Gives the command in a home once more; says what it lacks of an undisturbed one."""
        return self.given_again(home, command) or self.compared(home, command, exact=exact)

    def given_again(self, home: Home, command: Command) -> list[str]:
        """Gives the command in a home once more; says what is wrong with how it ends."""
        # A multirun that had come to its end, given again, makes one more record of its own.
        again = ("sync",) if "-m" in command and self.ended(home, command) else command
        return unclean(home.start(*again), 0)

    def compared(self, home: Home, command: Command, *, exact: bool = True) -> list[str]:
        """What a home lacks of the command's undisturbed result."""
        told = kept.differences(self.reference(command).kept, kept.read(home.database), exact=exact)
        told += kept.left_behind(home.state)
        if unsound := kept.unsound(home.database):
            told.append(f"{home.database.name} is damaged: {unsound}")
        return told

    def close(self, home: Home, told: Sequence[str]) -> None:
        """Removes a home in which nothing was lost, and names one to be looked at."""
        if told:
            self.say(f"  kept to be looked at: {home.folder}")
            for each in told[:8]:
                self.say(f"    {each}")
        else:
            home.remove()


def unclean(child: Child, *codes: int) -> list[str]:
    """What is wrong with how a command ended: another code, a traceback, or no end at all."""
    code = child.code()
    told = []
    if code not in codes:
        last = " / ".join(child.err.strip().splitlines()[-3:])
        told.append(f"exit code {code} in place of {' or '.join(map(str, codes))}: {last}")
    if "Traceback" in child.err:
        told.append("a traceback")
    return told
