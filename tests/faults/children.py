"""Commands of the lab as processes that can be stopped, continued and killed, each in a folder of its own."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from tests.faults.injected import Fault

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 180.0  # seconds; a command that takes longer hangs
ALONE = {  # no thread may be there when a child is forked
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # of pyarrow, which MLflow imports
}


class Child:
    """A command under way."""

    def __init__(self, zygote: Zygote, pid: int, printed: Sequence[Path]) -> None:
        self.pid, self._zygote, self._printed = pid, zygote, printed
        self._watched = os.pidfd_open(pid)
        self._code: int | None = None

    @property
    def out(self) -> str:
        """What it printed so far on its standard output."""
        return self._printed[0].read_text(errors="replace")

    @property
    def err(self) -> str:
        """What it printed so far on its standard error."""
        return self._printed[1].read_text(errors="replace")

    def ended(self, within: float = 0.0) -> bool:
        """Whether it ends within some seconds."""
        if self._code is not None:
            return True
        return bool(select.select([self._watched], [], [], max(within, 0.0))[0])

    def says(self, text: str, within: float = PATIENCE) -> bool:
        """Waits until it has printed a text on its standard error; False if it ended without."""
        deadline = time.monotonic() + within
        while text not in self.err:
            if self.ended(0.005) or time.monotonic() > deadline:
                return text in self.err
        return True

    def signal(self, number: int) -> None:
        """Sends a signal, unless it has ended."""
        if not self.ended():
            os.kill(self.pid, number)

    def code(self, within: float = PATIENCE) -> int:
        """Its exit code, or the negative number of the signal that ended it; one that hangs is killed."""
        if self._code is None:
            if not self.ended(within):
                os.kill(self.pid, signal.SIGKILL)
            self._code = self._zygote.wait(self.pid)
            os.close(self._watched)
        return self._code

    def kill(self) -> bool:
        """Ends it at once; False if it had ended by itself."""
        self.signal(signal.SIGKILL)
        return self.code() == -signal.SIGKILL


class Zygote:
    """The process that forks the children.

    Args:
        folder: for what it prints.
    """

    def __init__(self, folder: Path) -> None:
        self._children: list[Child] = []
        environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
        paths = [str(ROOT), *filter(None, [environment.get("PYTHONPATH")])]
        environment |= {"PYTHONPATH": os.pathsep.join(paths), **ALONE}
        self.log = folder / "zygote.txt"
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.zygote"],
                env=environment,
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        assert self._answer()["threads"] == 1, "an import started a thread: children would not be sound"

    def __enter__(self) -> Zygote:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            if not child.ended():
                child.kill()
        self._process.communicate()  # closes its standard input, which ends it

    def fork(
        self,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        printed: tuple[Path, Path],
        *,
        faults: Sequence[Fault] = (),
        count: Sequence[tuple[str, str]] = (),
        at: float = 0.0,
    ) -> Child:
        """Starts `vae-lab ARGUMENTS`, or Python code after `-c`, in `folder`.

        Args:
            arguments: the command line.
            folder: its working directory.
            environment: what differs from this process's.
            printed: files of its standard output and error.
            faults: what goes wrong in it.
            count: functions whose calls it counts, into `calls.json` beside `folder`.
            at: the moment, by the monotonic clock, until which it waits.
        """
        for file in printed:
            file.write_text("")
        job = {
            "arguments": list(arguments),
            "folder": str(folder),
            "environment": dict(environment),
            "printed": [str(file) for file in printed],
            "faults": faults,
            "count": count,
            "at": at,
        }
        found = self._ask(job)
        assert found["threads"] == 1
        child = Child(self, found["pid"], printed)
        self._children = [each for each in self._children if not each.ended()] + [child]
        return child

    def wait(self, pid: int) -> int:
        """The exit code of a child that has ended."""
        return self._ask({"wait": pid})["code"]

    def _ask(self, job: Mapping[str, object]) -> dict[str, int]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, int]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the zygote died:\n{self.log.read_text()[-2000:]}"
        found: dict[str, int] = json.loads(line)
        return found


class Home:
    """A working directory, a state folder and a cache: all that a user's runs touch.

    Args:
        zygote: makes its processes.
        folder: for all of them; made if it is not there.
        cache: of data and classifiers, which several homes may share.
        printed: where its commands' output goes, else below `folder`.
    """

    def __init__(self, zygote: Zygote, folder: Path, cache: Path, printed: Path | None = None) -> None:
        self.zygote, self.folder, self.cache = zygote, folder, cache
        self.work, self.state = folder / "work", folder / "state"
        self.printed = printed or folder / "printed"
        self._started = 0
        for each in (self.work, self.state, cache, self.printed):
            each.mkdir(parents=True, exist_ok=True)

    @property
    def database(self) -> Path:
        """Its store."""
        return self.work / "mlflow.db"

    def start(
        self,
        *arguments: str,
        faults: Sequence[Fault] = (),
        count: Sequence[tuple[str, str]] = (),
        at: float = 0.0,
    ) -> Child:
        """Starts `vae-lab ARGUMENTS`."""
        self._started += 1
        return self.zygote.fork(
            arguments,
            self.work,
            {"XDG_STATE_HOME": str(self.state), "XDG_CACHE_HOME": str(self.cache)},
            (self.printed / f"{self._started:03d}.out", self.printed / f"{self._started:03d}.err"),
            faults=faults,
            count=count,
            at=at,
        )

    def remove(self) -> None:
        """Removes everything that it holds."""
        shutil.rmtree(self.folder, ignore_errors=True)
