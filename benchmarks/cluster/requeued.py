"""Proof 8: jobs that SLURM requeues in mid-run go on after their epoch; one Ray spans an allocation."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import processes
from benchmarks.cluster.command import LAB, environment
from benchmarks.cluster.ray_hosts import HEALTH
from benchmarks.cluster.results import WrongError, check_same
from benchmarks.cluster.slurm import Slurm, slurm

EPOCHS = 8
RUN = ["data=digits", "model.hidden_size=32", "train.device=cpu", f"train.epochs={EPOCHS}"]
RUN += ["train.threads=1", "evaluation.pictures=false"]
SYMMETRIC = [sys.executable, "-m", "ray.scripts.scripts", "symmetric-run"]
MOST = 600.0  # seconds of a job


def prove(folder: Path) -> str:
    """Returns what was seen, as one line.

    Raises:
        WrongError: A requeued job began anew, or results differ.
    """
    still, array, symmetric = (folder / name for name in ("still", "array", "symmetric"))
    for place in (still, array, symmetric):
        place.mkdir()
    study = [*LAB, "train", "-m", *RUN, "seed=0,1"]
    done = subprocess.run(study, cwd=still, env=environment(still), capture_output=True, text=True)
    if done.returncode:
        raise processes.FailedError(done.stderr[-2000:])
    with slurm(folder / "slurm", nodes=2) as running:
        after = _requeue(running, array)
        _symmetric_run(running, symmetric, study)
    for place in (array, symmetric):
        check_same(place, still)
    return (
        f"an array of 2 jobs, one requeued in mid-run, went on after epoch {after} of {EPOCHS}; "
        "ray symmetric-run on two nodes finished; both bit-identical to undisturbed runs"
    )


def _requeue(running: Slurm, folder: Path) -> int:
    """Requeues a job of an array in the middle of its run; returns the epoch after which it went on."""
    line = shlex.join([*LAB, "train", *RUN]) + " seed=$SLURM_ARRAY_TASK_ID"
    log = folder / "task-1.log"
    flags = ["--array=0-1", "--requeue", "--open-mode=append", f"--output={folder}/task-%a.log"]
    script = f"#!/bin/bash\ncd {shlex.quote(str(folder))}\nexec {line}\n"
    job = running.submit(script, *flags, variables=environment(folder))
    end = time.monotonic() + MOST
    while not (log.exists() and f"epoch 3/{EPOCHS}" in log.read_text()):
        if time.monotonic() > end:
            raise TimeoutError(f"job {job} has not begun: {log.read_text()[-1000:] if log.exists() else ''}")
        time.sleep(0.05)
    running.do("scontrol", "requeue", f"{job}_1")
    running.wait(job, MOST)
    said = log.read_text()
    went_on = re.search(rf"goes on after epoch (\d+) of {EPOCHS}", said)
    if went_on is None or int(went_on[1]) < 3:
        raise WrongError(f"the requeued job began anew: {said[-1000:]}")
    return int(went_on[1])


def _symmetric_run(running: Slurm, folder: Path, study: list[str]) -> None:
    """Runs a study on workers of both nodes, by the line of docs/scale.md."""
    start = [*SYMMETRIC, "--address", f"{running.nodes[0].address}:6379", "--min-nodes", "2"]
    start += ["--num-cpus", "1", "--disable-usage-stats"]
    command = [*study, "hydra/launcher=ray", "hydra.launcher.address=auto", "hydra.launcher.workers=2"]
    line = shlex.join([*start, "--", *command])
    script = f"#!/bin/bash\ncd {shlex.quote(str(folder))}\nsrun {line}\n"
    flags = ["--nodes=2", "--ntasks-per-node=1", f"--output={folder}/log"]
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "of this proof" * 4}
    job = running.submit(script, *flags, variables={**environment(folder), **HEALTH, **token})
    running.wait(job, MOST)
    if not (folder / "mlflow.db").exists():
        raise WrongError(f"symmetric-run trained nothing: {(folder / 'log').read_text()[-2000:]}")
