"""Requests to stop: the first lets every run finish its epoch, the second stops each at its next step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

# Ctrl-C, whoever ends the process, and a terminal that is closed or lost.
SIGNALS: Final = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_requests = 0
_listening = False


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
    """Takes the `SIGNALS` inside the block as requests; calls `announce` with their number so far.

    A signal that the process was started to ignore, as by `nohup`, stays ignored. Blocks may be nested: the
    outermost listens. Only the main thread can listen, in others this does nothing.

    Raises:
        Interrupted: The block has ended, and a request came that nothing in it heeded any more.
    """
    global _requests, _listening
    if threading.current_thread() is not threading.main_thread() or _listening:
        yield
        return
    announcements: list[threading.Thread] = []

    def handle(_number: int, _frame: FrameType | None) -> None:
        # By a thread: this one may be in the middle of a line on the same stream, which takes no second.
        announcement = threading.Thread(target=announce, args=(request(),), daemon=True)
        announcements.append(announcement)
        announcement.start()

    previous = {}
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            previous[number] = signal.signal(number, handle)
    _listening = True
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for announcement in announcements:
            announcement.join(timeout=1)
        unheeded, _requests, _listening = _requests, 0, False
    if unheeded:
        raise Interrupted("interrupted after the last epoch")


@contextmanager
def undisturbed() -> Iterator[None]:
    """Has the block leave the handlers of the `SIGNALS` as they were, for libraries that set their own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
