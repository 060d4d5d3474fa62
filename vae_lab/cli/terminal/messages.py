"""What the commands say in plain lines: to standard output, as errors, and what the lab logs."""

from __future__ import annotations

import logging
import sys
import traceback
from types import TracebackType

import click

from vae_lab.errors import LabError, os_error_message, visible, visible_lines, without_credentials


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Prints lines, in which what others wrote neither steers the terminal nor hides; `nl` ends the last.

    No password of an address is among them.
    """
    click.echo(visible_lines(without_credentials(text)), err=err, nl=nl)


def print_error(error: LabError | OSError) -> int:
    """Prints an error as one line, and its details below; returns the exit code that goes with it."""
    message = os_error_message(error) if isinstance(error, OSError) else str(error)
    for line in (f"vae-lab: {message}", *(error.details if isinstance(error, LabError) else ())):
        echo(visible(line), err=True)
    return error.exit_code if isinstance(error, LabError) else LabError.exit_code


def print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Prints what Python would of an error that nobody expected, without the passwords of addresses in it."""
    echo("".join(traceback.format_exception(kind, error, trace)), err=True, nl=False)


class Messages(logging.Handler):
    """Prints what the lab logs above the bars instead of through them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints one message."""
        from vae_lab.jobs.progress import console  # imports rich, which most short commands never need

        console.print(without_credentials(self.format(record)), soft_wrap=True)


def log_messages() -> None:
    """Has what the lab logs printed, and of others only warnings; no traceback shows a password either."""
    sys.excepthook = print_traceback
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[Messages()])
    logging.getLogger("vae_lab").setLevel(logging.INFO)
    logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # it logs what it also raises
