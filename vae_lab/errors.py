"""Errors of one line that name the value, the rule and the valid choices."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from hydra.errors import CompactHydraException


class LabError(CompactHydraException):
    """A failure that the command line prints as one message, without a traceback."""

    exit_code = 1


class UserError(LabError):
    """A mistake in what the user asked for; nothing has been written."""

    exit_code = 2


def os_error_message(error: OSError) -> str:
    """Returns a system error as a message: the file, if it has one, and the reason."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}."


def quoted(value: object, longest: int = 100) -> str:
    r"""Returns a value as messages quote it: on one line, without control characters, cut after `longest`.

    Examples:
        >>> print(quoted("two\nlines"), quoted("data" * 100, longest=10))
        two\nlines datadatada...
    """
    text = value if isinstance(value, str) else str(value)
    text = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text[: longest + 1])
    return text if len(text) <= longest else f"{text[:longest]}..."


def choices(value: object, valid: Iterable[str], listed: Iterable[str] | None = None) -> str:
    """Returns the end of a message: `; did you mean X?` if a choice is close, then the valid ones.

    Args:
        value: What was given.
        valid: All choices.
        listed: Those that the message lists, where all would be too many.

    Examples:
        >>> print("model=vea: unknown" + choices("vea", ["vae", "cvae"]))
        model=vea: unknown; did you mean vae? Valid: cvae, vae.
    """
    options = sorted(valid)
    close = difflib.get_close_matches(str(value), options, n=1, cutoff=0.65)
    hint = f"; did you mean {close[0]}?" if close else "."
    shown = options if listed is None else list(listed)
    rest = ", ..." if len(shown) < len(options) else "."
    return f"{hint} Valid: {', '.join(shown)}{rest}" if shown else hint
