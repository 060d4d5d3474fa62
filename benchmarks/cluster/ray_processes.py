"""The processes of a Ray that a command has started: all are of the session of the one that keeps it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

KEEPER = "vae_lab.jobs.crews.local_ray"


class Seen(NamedTuple):
    """A process, as its machine shows it."""

    number: int
    line: str  # its command line
    variables: str


def keeper_of(command: int) -> int | None:
    """Returns the process that keeps the Ray of a command, given by its number; None before there is one."""
    for process in running():
        if KEEPER in process.line and _parent(process.number) == command:
            return process.number
    return None


def of_session(session: int) -> list[Seen]:
    """Returns the processes of a session that have not ended."""
    return [process for process in running() if _field(process.number, 3) == session]


def all_gone_after(session: int, most: float) -> float:
    """Returns the seconds until a session has no process left.

    Raises:
        TimeoutError: It still has some after the most seconds.
    """
    began = time.monotonic()
    while left := of_session(session):
        if time.monotonic() - began > most:
            raise TimeoutError(f"left after {most:g} s: {', '.join(process.line[:60] for process in left)}")
        time.sleep(0.1)
    return time.monotonic() - began


def running() -> list[Seen]:
    """Returns all processes of this machine that have not ended and that may be looked at."""
    seen = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            line, variables = (_text(entry / name) for name in ("cmdline", "environ"))
        except OSError:  # it has ended, or is not ours
            continue
        if line:
            seen.append(Seen(int(entry.name), line, variables))
    return seen


def _parent(number: int) -> int:
    return _field(number, 1)


def _field(number: int, index: int) -> int:
    """Returns a number of a process's `stat`: 1 the parent, 3 the session; -1 once it is gone."""
    try:
        return int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[index])
    except OSError:
        return -1


def _text(path: Path) -> str:
    return path.read_bytes().replace(b"\0", b"\n").decode(errors="replace")
