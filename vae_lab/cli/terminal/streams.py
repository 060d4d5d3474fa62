"""Standard output and error as streams that last: whatever becomes of them, the work goes on."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from contextlib import suppress
from typing import Any

NAMES = ("stdin", "stdout", "stderr")


class Lasting(io.FileIO):
    """A descriptor that takes what is written to it, also when its reader, terminal or disk does not.

    From the first write that fails on, the descriptor is the null device: for libraries that write to it
    themselves and for children, too.
    """

    lost: OSError | None = None  # why writing failed

    def write(self, data: Any, /) -> int:
        """Writes, waiting where the descriptor was set not to block; returns how many bytes were taken."""
        try:
            while (written := super().write(data)) is None:
                select.select([], [self.fileno()], [])
        except OSError as error:
            self.lost = self.lost or error
            with suppress(OSError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self.fileno())
                os.close(null)
            return memoryview(data).nbytes
        return written


def make_lasting() -> None:
    """Makes the process's own standard streams last; one that somebody has replaced is left as it is.

    One that was closed becomes the null device: the next file that is opened would take its number, and be
    written into by whatever prints.
    """
    for number, name in enumerate(NAMES):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free
        stream = getattr(sys, name)
        if number and stream is getattr(sys, f"__{name}__"):
            setattr(sys, name, _lasting(number, f"<{name}>", stream))


def _lasting(number: int, name: str, stream: io.TextIOWrapper | None) -> io.TextIOWrapper:
    """Returns a text stream like `stream` that lasts; it escapes what its encoding cannot say."""
    raw = Lasting(number, "w", closefd=False)
    raw.name = name
    if stream is None:
        return io.TextIOWrapper(
            io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True
        )
    return io.TextIOWrapper(
        raw if stream.write_through else io.BufferedWriter(raw),  # as Python itself does
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def lost_output() -> OSError | None:
    """Returns why standard output could not be written; None if it could, or if its reader had enough."""
    sys.stdout.flush()
    buffer = getattr(sys.stdout, "buffer", None)
    lost = getattr(getattr(buffer, "raw", buffer), "lost", None)
    return lost if isinstance(lost, OSError) and lost.errno != errno.EPIPE else None
