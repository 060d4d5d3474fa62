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
    """Asks all runs of this process to stop; gives how often that has been asked."""
    global _requests
    _requests += 1
    return _requests


def check() -> None:
    """Between two epochs: raises `Interrupted` if a stop was asked for."""
    if _requests:
        raise Interrupted("interrupted between two epochs")


def check_now() -> None:
    """Between two steps, batches or tries to reach a store: raises `Interrupted` if asked for twice."""
    if _requests > 1:
        raise Interrupted("interrupted in the middle of an epoch")


@contextmanager
def listening(said: Callable[[int], None]) -> Iterator[None]:
    """Inside the block Ctrl-C and SIGTERM are requests; `said` is told how many there have been.

    Blocks may be nested: the outermost listens. Only the main thread can listen, in others this does nothing.
    """
    global _requests
    if threading.current_thread() is not threading.main_thread() or _listens():
        yield
        return

    def handle(_number: int, _frame: FrameType | None) -> None:
        said(request())

    handle.__name__ = _HANDLER
    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _requests = 0


_HANDLER: Final = "vae_lab_interruption"


def _listens() -> bool:
    return getattr(signal.getsignal(signal.SIGINT), "__name__", "") == _HANDLER
