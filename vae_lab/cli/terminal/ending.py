"""How a command ends: one message, if any, and the exit code that goes with it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import click

from vae_lab.cli import INTERRUPTED
from vae_lab.cli.terminal.messages import echo, print_error
from vae_lab.cli.terminal.streams import lost_output
from vae_lab.errors import LabError

# What the loader of libraries, PyTorch's allocators and the kernel say.
FULL = r"failed to map segment|cannot allocate memory|can't allocate memory|out of memory"
MORE_THAN_WORDS = (
    *("data", "evaluate", "explore", "interpolate", "reconstruct", "register", "report", "sample", "server"),
    *("sync", "train", "traverse", "ui"),
)  # commands whose work is kept, printed or not


def out_of_memory(error: Exception) -> LabError | None:
    """Returns the message of an error that says that memory is full, whoever raised it; None of any other.

    Examples:
        >>> print(out_of_memory(ImportError("libtorch_cpu.so: failed to map segment from shared object")))
        memory is full or limited: libtorch_cpu.so: failed to map segment from shared object
    """
    reason = next(iter(str(error).splitlines()), "")
    if isinstance(error, MemoryError) or re.search(FULL, reason, re.IGNORECASE):
        return LabError(f"memory is full or limited: {reason or 'no more of it is given'}")
    return None


def exit_code(end: object, words: Sequence[str]) -> int:
    """Says what a command ended with, if it was an error, and returns the exit code.

    Args:
        end: What it returned or raised.
        words: The command line.

    Raises:
        BaseException: `end`, if it is none that a user can do something about.
    """
    if isinstance(end, SystemExit):
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    elif isinstance(end, (click.Abort, KeyboardInterrupt)):
        echo("vae-lab: interrupted.", err=True)
        return INTERRUPTED
    elif isinstance(end, click.ClickException):
        end.show()
        return end.exit_code
    elif isinstance(end, (LabError, OSError)):
        return print_error(end)
    elif isinstance(end, Exception) and (full := out_of_memory(end)) is not None:
        return print_error(full)
    elif isinstance(end, BaseException):
        raise end
    else:
        code = end if isinstance(end, int) else 0
    lost = lost_output()
    if lost is not None and not code and not set(MORE_THAN_WORDS) & set(words[:1]):
        return print_error(LabError(f"standard output: {lost.strerror or lost}."))
    return code
