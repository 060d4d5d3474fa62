"""Errors of one line that name the value, the rule and the valid choices."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence

# In an address: user and password before the host, and options that give somebody in.
_USER = re.compile(r"(?<=://)(?:[^\s/@]*(?::[^\s@]*)?@)+")
_SECRET = re.compile(  # the key that is left out names a saved view of MLflow's pages
    r"(?i)([?&#](?!viewStateShareKey)[\w-]*(?:passw|pwd|token|secret|key|auth|credential|odbc)[\w-]*=)"
    r"[^&\s'\"]+"
)


class LabError(Exception):
    """A failure that the command line prints as one message, without a traceback and without passwords."""

    exit_code = 1
    details: Sequence[str] = ()  # lines of their own below the message, which is one line

    def __init__(self, message: str = "") -> None:
        super().__init__(without_credentials(message))


class UserError(LabError):
    """A mistake in what the user asked for; nothing has been written."""

    exit_code = 2


def os_error_message(error: OSError) -> str:
    """Returns a system error as a message: the file, if it has one, and the reason."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}."


def visible(text: str) -> str:
    r"""Returns a text of others as it is shown, on one line: what cannot be seen stands as its escape.

    A store, a file or a server may hold anything. Control characters steer a terminal, line breaks feign
    lines of the lab's own, and signs without width turn or hide what stands beside them.

    Examples:
        >>> print(visible("\x1b[2Jtwo\nlines, \u202Eand more"))
        \x1b[2Jtwo\nlines, \u202eand more
    """
    if text.isprintable():
        return text
    return "".join(sign if _is_seen(sign) else ascii(sign)[1:-1] for sign in text)


def _is_seen(sign: str) -> bool:
    return sign.isprintable() or unicodedata.category(sign) == "Zs"  # a space, however wide


def visible_lines(text: str) -> str:
    r"""Returns a text of several lines with every line as `visible` shows it.

    Examples:
        >>> print(visible_lines("one\ntwo\r"))
        one
        two\r
    """
    return text if text.isprintable() else "\n".join(map(visible, text.split("\n")))


def without_credentials(text: str) -> str:
    """Returns a text without the users, passwords and tokens of the addresses in it.

    Examples:
        >>> without_credentials("http://me:secret@server:5000 is away")
        'http://server:5000 is away'
        >>> without_credentials("postgresql://server/lab?sslmode=require&password=secret")
        'postgresql://server/lab?sslmode=require&password=***'
    """
    return _USER.sub("", _SECRET.sub(r"\1***", text))  # a token may have an @


def quoted(value: object, longest: int = 100) -> str:
    r"""Returns a value as messages quote it: as `visible` shows it, cut after `longest`.

    Examples:
        >>> print(quoted("two\nlines"), quoted("data" * 100, longest=10))
        two\nlines datadatada...
    """
    text = without_credentials(str(value))  # before the cut, which may take the end of a password away
    text = visible(text[: longest + 1])
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
    hint = f"; did you mean {quoted(close[0])}?" if close else "."
    shown = options if listed is None else list(listed)
    rest = ", ..." if len(shown) < len(options) else "."
    return f"{hint} Valid: {', '.join(map(quoted, shown))}{rest}" if shown else hint
