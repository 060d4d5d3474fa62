"""What goes wrong in one line: the value, the rule and the valid choices."""

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
    """What the system refused, and of which file."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}."


def quoted(value: object, longest: int = 100) -> str:
    """A value as a message quotes it: on one line, without control characters, and cut where it is long."""
    text = value if isinstance(value, str) else str(value)
    text = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text[: longest + 1])
    return text if len(text) <= longest else f"{text[:longest]}..."


def choices(value: object, valid: Iterable[str]) -> str:
    """The end of a message: `; did you mean X?` if one is close, then the valid choices."""
    options = sorted(valid)
    close = difflib.get_close_matches(str(value), options, n=1, cutoff=0.65)
    hint = f"; did you mean {close[0]}?" if close else "."
    return f"{hint} Valid: {', '.join(options)}." if options else hint
