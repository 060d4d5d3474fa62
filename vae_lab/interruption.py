"""Requests to stop: the first lets every run finish its epoch, the second stops each at its next step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_requests = 0


class Interrupted(KeyboardInterrupt):
    """The user, or whoever ends the process, asked to stop."""


def request() -> int:
    """Asks all runs of this process to stop; returns the number of requests so far."""
    global _requests
    _requests += 1
    return _requests


def check() -> None:
    """Raises `Interrupted` after a request to stop; called between two epochs."""
    if _requests:
        raise Interrupted("interrupted between two epochs")


def check_now() -> None:
    """Raises `Interrupted` after a second request; called between steps, batches and tries of a store."""
    if _requests > 1:
        raise Interrupted("interrupted in the middle of an epoch")


@contextmanager
def listening(announce: Callable[[int], None]) -> Iterator[None]:
    """Takes Ctrl-C and SIGTERM inside the block as requests; calls `announce` with their number so far.

    Blocks may be nested: the outermost listens. Only the main thread can listen, in others this does nothing.
    """
    global _requests
    if threading.current_thread() is not threading.main_thread() or _listens():
        yield
        return

    def handle(_number: int, _frame: FrameType | None) -> None:
        announce(request())

    handle.__name__ = _HANDLER
    previous = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        _requests = 0


_HANDLER: Final = "vae_lab_interruption"


def _listens() -> bool:
    return getattr(signal.getsignal(signal.SIGINT), "__name__", "") == _HANDLER
