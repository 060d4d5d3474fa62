"""Disks that are full or cannot be written: small ones in memory, filled while a run is under way."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.faults import kept
from tests.faults.bench import VAE, Bench, unclean
from tests.faults.children import Child, Home
from tests.faults.injected import AFTER, LIMIT, Fault

SIZE = 24 << 20  # bytes of the disk
FULL, READ_ONLY = "a small disk full in the middle of a run", "a disk that cannot be written"
NO_GROWTH = "files that cannot grow (RLIMIT_FSIZE)"


class NotHereError(Exception):
    """This machine does not let this user make such a disk."""


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of its own, in memory, mounted on a new folder."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    try:
        made = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise NotHereError(str(error)) from error
    if made.returncode:
        raise NotHereError(made.stderr.strip() or "mount failed")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def full(bench: Bench, rounds: int) -> None:
    """The disk of state and store fills up to some kilobytes; space is freed and the command given again."""
    for number in range(rounds):
        try:
            with small_disk(bench.place()) as disk:
                told = _filled(bench, bench.home(disk / "home"), disk)
        except NotHereError as error:
            bench.tally.row(FULL).skipped = str(error)
            return
        bench.tally.count(FULL, 1, told)
        for each in told[:8]:
            bench.say(f"    {each}")
        bench.say(f"{FULL}: {number + 1} of {rounds}")


def _filled(bench: Bench, home: Home, disk: Path) -> list[str]:
    child = home.start(*VAE)
    child.says(f"epoch {bench.random.randint(1, 5)}/")
    before = kept.epochs(home.database)
    _fill(disk / "ballast", bench.random.choice((0, 0, 8, 64, 256, 512)) << 10)
    told = one_message(child)
    if unsound := kept.unsound(home.database):
        told.append(f"the store is damaged: {unsound}")
    if kept.epochs(home.database) < before:
        told.append("epochs that were there are gone")
    told += one_message(home.start(*VAE))  # it is still full
    (disk / "ballast").unlink()
    return told + bench.finished(home, VAE)


def _fill(file: Path, leave: int) -> None:
    """Takes all space of a disk but some bytes, while others write there too."""
    with file.open("wb", buffering=0) as ballast, suppress(OSError):
        while True:
            ballast.write(bytes(1 << 12))
    os.truncate(file, max(file.stat().st_size - leave, 0))


def one_message(child: Child) -> list[str]:
    """What is wrong with how a command ended on a full disk: well, or with one message, is right."""
    told = unclean(child, 0, 1)
    messages = [line for line in child.err.splitlines() if line.startswith("vae-lab: ")]
    if child.code() == 1 and len(messages) != 1:
        told.append(f"{len(messages)} messages: {child.err.strip()[-300:]}")
    return told


def read_only(bench: Bench, rounds: int) -> None:
    """A disk cannot be written before a run starts, and again before it is resumed."""
    for number in range(rounds):
        try:
            with small_disk(bench.place()) as disk:
                home = bench.home(disk / "home")
                told = []
                for epochs in (0, bench.random.randint(1, 5)):
                    if epochs:
                        child = home.start(*VAE)
                        child.says(f"epoch {epochs}/")
                        child.kill()
                    _remount(disk, "ro")
                    child = home.start(*VAE)
                    told += one_message(child)
                    if child.code() != 1:
                        told.append("no message")
                    _remount(disk, "rw")
                told += bench.finished(home, VAE)
        except NotHereError as error:
            bench.tally.row(READ_ONLY).skipped = str(error)
            return
        bench.tally.count(READ_ONLY, 2, told)
        for each in told[:8]:
            bench.say(f"    {each}")
        bench.say(f"{READ_ONLY}: {number + 1} of {rounds}")


def _remount(disk: Path, how: str) -> None:
    made = subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], capture_output=True, text=True)
    if made.returncode:
        raise NotHereError(made.stderr.strip() or "remount failed")


def no_growth(bench: Bench, rounds: int) -> None:
    """From some epoch on, no file of the process grows beyond a size; it works everywhere."""
    for number in range(rounds):
        home = bench.home()
        size = home.database.stat().st_size
        # What it prints goes to files too, and must have room.
        limit = bench.random.choice((1 << 13, 1 << 14, 1 << 16, size))
        begins = Fault(
            "vae_lab.tracking.Recorder.log", bench.random.randint(1, 10), AFTER, action=LIMIT, amount=limit
        )
        told = one_message(home.start(*VAE, faults=[begins]))
        told += bench.finished(home, VAE)
        bench.tally.count(NO_GROWTH, 1, told)
        bench.close(home, told)
        bench.say(f"{NO_GROWTH}: {number + 1} of {rounds}")
