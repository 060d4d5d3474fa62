"""Proof 2: the command is killed at random moments and given again; nothing is lost and nothing doubled."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

from benchmarks import processes
from benchmarks.cluster import ray_processes
from benchmarks.cluster.command import LAB, WORKERS, environment
from benchmarks.cluster.results import WrongError, check_same, finished

STUDY = [*LAB, "train", "-m", "data=digits", "model.hidden_size=32", "train.device=cpu", "train.epochs=6"]
STUDY += ["model=vae,cvae", "seed=0,1,2,3", *WORKERS]
RAY = "hydra/launcher=ray"
LONGEST = 30.0  # seconds in which all that the command's Ray had started is gone


def prove(folder: Path, kills: int) -> str:
    """Returns what was seen, as one line.

    Raises:
        WrongError: A result is missing, doubled or different, or a process of Ray is left.
    """
    still = folder / "still"
    still.mkdir()
    whole = _seconds_of(still)
    moments, gone, there = random.Random(0), [], []
    for number in range(kills):
        killed = folder / f"killed{number}"
        killed.mkdir()
        gone.append(_kill(killed, moments.uniform(0, whole)))
        there.append(len(finished(killed)) if (killed / "mlflow.db").exists() else 0)
        _seconds_of(killed)  # at once
        runs = check_same(killed, still)
    longest = max((seconds for seconds in gone if seconds is not None), default=0.0)
    return (
        f"{kills} kills within {whole:.0f} s, when {', '.join(map(str, sorted(there)))} of {runs} runs were "
        f"there; repeated at once: bit-identical; Ray's processes gone after {longest:.1f} s at most"
    )


def _seconds_of(folder: Path) -> float:
    """Runs the command to its end; returns its seconds."""
    began = time.monotonic()
    done = subprocess.run([*STUDY, RAY], cwd=folder, env=environment(folder), capture_output=True, text=True)
    if done.returncode:
        raise processes.FailedError(f"exit code {done.returncode}: {done.stderr[-2000:]}")
    return time.monotonic() - began


def _kill(folder: Path, seconds: float) -> float | None:
    """Kills the command after so many seconds; returns how long its Ray outlived it, if it had one."""
    line, nowhere = [*STUDY, RAY], subprocess.DEVNULL
    with subprocess.Popen(
        line, cwd=folder, env=environment(folder), stdout=nowhere, stderr=nowhere
    ) as command:
        try:
            command.wait(seconds)
        except subprocess.TimeoutExpired:
            keeper = ray_processes.keeper_of(command.pid)
            os.kill(command.pid, signal.SIGKILL)
        else:
            return None  # it was done
    if keeper is None:
        return None
    try:
        return ray_processes.all_gone_after(keeper, LONGEST)
    except TimeoutError as error:
        raise WrongError(str(error)) from error
