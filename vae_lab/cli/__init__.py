"""The command line, `vae-lab`: its entry point. The commands are in `group`, one module each.

This module imports next to nothing, so that Ctrl-C is answered in one line from the first moment on.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130  # exit code


def main() -> None:
    """The entry point: runs a command and turns what went wrong into one message and an exit code."""
    words = sys.argv[1:]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        from vae_lab.cli.terminal import streams

        streams.make_lasting()
        from vae_lab.cli.group import commands
        from vae_lab.cli.terminal.ending import exit_code
        from vae_lab.cli.terminal.messages import log_messages

        log_messages()
        try:
            end = commands(prog_name="vae-lab", standalone_mode=False)
        except BaseException as error:
            end = error
        code = exit_code(end, words)
    except KeyboardInterrupt:
        print("vae-lab: interrupted.", file=sys.stderr)
        code = INTERRUPTED
    # Called before all other functions of its kind: there is nothing left to be said.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_DFL)
    sys.exit(code)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Ctrl-C: the first time an exception that everything on its way can close with, then the end."""
    signal.signal(signal.SIGINT, _end_at_once)
    raise KeyboardInterrupt


def _end_at_once(_number: int, _frame: FrameType | None) -> None:
    os.write(2, b"vae-lab: ended at once.\n")
    os._exit(INTERRUPTED)


__all__ = ["INTERRUPTED", "main"]
