"""Programs run as a user would run them: processes with the environment that this one was started with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
# As it was before anything here was imported; a tracking server of the user's is not for benchmarks.
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}


class FailedError(Exception):
    """A program ended when it should not have; the message has the end of its output."""


class Contender:
    """A program of `benchmarks.contenders` that trains an epoch when it is asked to.

    Args:
        module: Its name.
        arguments: Its command line.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        self.module = module
        self._command = [sys.executable, "-m", f"benchmarks.contenders.{module}", *arguments]

    def __enter__(self) -> Contender:
        self._printed: IO[bytes] = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._printed,
            text=True,
        )
        has_lab = self._answer()["imports_lab"]  # an answer comes when everything is loaded
        if has_lab != (self.module == "this_lab"):
            self._close()
            raise FailedError(
                f"{self.module} {'has' if has_lab else 'lacks'} the lab in it: no fair comparison."
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def turn(self) -> float:
        """Trains one epoch; returns its seconds."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return float(self._answer()["seconds"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            printed = _end(self._printed)
            self._close()
            raise FailedError(f"{self.module} ended before its turn:\n{printed}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _close(self) -> None:
        if not self._printed.closed:
            self._process.communicate()  # closes its standard input, which ends it
            self._printed.close()


class Usage(NamedTuple):
    """The time of a command and of all processes that it started and waited for."""

    wall: float  # seconds
    cpu: float  # seconds of user and system time
    code: int
    printed: str


def vae_lab(*arguments: str, folder: Path) -> Usage:
    """Runs `vae-lab ARGUMENTS` in `folder`."""
    with tempfile.TemporaryFile() as printed:
        start = time.perf_counter()
        command = [str(Path(sys.executable).with_name("vae-lab")), *arguments]
        process = subprocess.Popen(
            command, cwd=folder, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=printed, stderr=printed
        )
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        return Usage(wall, used.ru_utime + used.ru_stime, process.returncode, _end(printed, 4000))


def train(*arguments: str, folder: Path) -> Usage:
    """Runs `vae-lab train ARGUMENTS` in `folder`.

    Raises:
        FailedError: It did not end well.
    """
    used = vae_lab("train", *arguments, folder=folder)
    if used.code:
        raise FailedError(f"vae-lab train {' '.join(arguments)} gave exit code {used.code}:\n{used.printed}")
    return used


class Neighbour:
    """A busy process of another user: pure Python, one core's worth, pinned nowhere."""

    def __enter__(self) -> Neighbour:
        self._process = subprocess.Popen([sys.executable, "-c", "while True: pass"], env=ENVIRONMENT)
        time.sleep(0.5)  # Python's own start is over
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()


def _end(file: IO[bytes], size: int = 2000) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")[-size:].strip()
