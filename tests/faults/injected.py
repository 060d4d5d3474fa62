"""What goes wrong in a process at a chosen call: it dies, its disk is full, its clock jumps, a store is away.

Nothing of this is in the lab: a child of the zygote replaces functions in itself before it runs a command.
"""

from __future__ import annotations

import atexit
import errno
import io
import itertools
import json
import os
import pkgutil
import resource
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

BEFORE, MIDDLE, AFTER = "before", "middle", "after"
KILL, LIMIT, CLOCK, AWAY = "kill", "limit", "clock", "away"


class Fault(NamedTuple):
    """Something that happens at the n-th call of a function."""

    target: str  # its dotted name, where it is looked up when it is called
    call: int = 1  # from 1
    moment: str = BEFORE  # or MIDDLE: the call has done half of its work; or AFTER
    only: str = ""  # count calls only where an argument's text has this
    action: str = KILL  # or LIMIT: no file grows beyond `amount` bytes; or CLOCK: it jumps `amount` seconds;
    amount: float = 0  # or AWAY: this call and those after it fail, `amount` of them


def arm(fault: Fault) -> None:
    """Makes this process suffer the fault."""
    calls = itertools.count(1)
    guard = threading.Lock()

    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def suffering(*arguments: Any, **named: Any) -> Any:
            if fault.only and fault.only not in _text(arguments):
                return real(*arguments, **named)
            with guard:
                number = next(calls)
            if fault.action == AWAY and fault.call <= number < fault.call + fault.amount:
                raise OSError(errno.EAGAIN, "the store is away")
            if fault.action == AWAY or number != fault.call:
                return real(*arguments, **named)
            if fault.moment == BEFORE:
                _strike(fault)
            if fault.moment == MIDDLE:
                HALVES[fault.target](real, *arguments, **named)
                _strike(fault)
            result = real(*arguments, **named)
            if fault.moment == AFTER:
                _strike(fault)
            return result

        return suffering

    _replace(fault.target, wrap)


def count(targets: Sequence[tuple[str, str]], file: Path) -> None:
    """Counts the calls of (target, only) and writes them to a file when the process ends."""
    found: Counter[str] = Counter()

    def counting(target: str, only: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*arguments: Any, **named: Any) -> Any:
                if not only or only in _text(arguments):
                    found[f"{target} {only}"] += 1
                return real(*arguments, **named)

            return counted

        return wrap

    for target, only in targets:
        _replace(target, counting(target, only))
    atexit.register(lambda: file.write_text(json.dumps(found)))


def _replace(target: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    owner_name, _, name = target.rpartition(".")
    owner = pkgutil.resolve_name(owner_name)
    setattr(owner, name, wrap(getattr(owner, name)))


def _text(arguments: tuple[Any, ...]) -> str:
    """What an `only` is looked for in: texts, paths, records, and the paths of open files."""
    told = []
    for each in arguments:
        if isinstance(each, int):
            with suppress(OSError):
                told.append(os.readlink(f"/proc/self/fd/{each}"))
        elif isinstance(each, str | os.PathLike | dict):
            told.append(str(each))
    return " ".join(told)


def _strike(fault: Fault) -> None:
    if fault.action == KILL:
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault.action == LIMIT:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(fault.amount), hard))
    else:
        real = time.time
        time.time = lambda: real() + fault.amount


def _half_saved(real: Callable[..., Any], content: Any, file: Any, **named: Any) -> None:
    whole = io.BytesIO()
    real(content, whole, **named)
    half = whole.getvalue()[: len(whole.getvalue()) // 2]
    if hasattr(file, "write"):
        file.write(half)
        file.flush()
    else:
        Path(file).write_bytes(half)


def _half_copied(_real: Callable[..., Any], source: Any, target: Any, length: int = 0) -> None:
    whole = source.read()
    target.write(whole[: len(whole) // 2])
    target.flush()


def _half_on_the_disk(_real: Callable[..., Any], descriptor: int) -> None:
    with suppress(OSError):  # a folder
        os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)


HALVES: dict[str, Callable[..., None]] = {
    "torch.save": _half_saved,
    "shutil.copyfileobj": _half_copied,
    "os.fsync": _half_on_the_disk,  # what was not synced when the power went
}
