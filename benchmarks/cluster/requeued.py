"""Proof 8: jobs that SLURM requeues in mid-run go on after their epoch; one Ray spans an allocation."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.cluster.command import LAB, environment
from benchmarks.cluster.ray_hosts import HEALTH
from benchmarks.cluster.results import WrongError, check_same
from benchmarks.cluster.slurm import Slurm, slurm
from benchmarks.processes import FailedError

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
    still, array, symmetric, submitted = (
        folder / name for name in ("still", "array", "symmetric", "submitit")
    )
    for place in (still, array, symmetric, submitted):
        place.mkdir()
    study = [*LAB, "train", "-m", *RUN, "seed=0,1"]
    done = subprocess.run(study, cwd=still, env=environment(still), capture_output=True, text=True)
    if done.returncode:
        raise FailedError(done.stderr[-2000:])
    with slurm(folder / "slurm", nodes=2) as running:
        after = _requeue(running, array)
        _symmetric_run(running, symmetric, study)
        check_same(array, still)
        check_same(symmetric, still)
        seen = (
            f"an array of 2 jobs, one requeued in mid-run, went on after epoch {after} of {EPOCHS}; "
            "ray symmetric-run on two nodes finished; "
        )
        if importlib.util.find_spec("submitit") is None:
            return f"{seen}both bit-identical to undisturbed runs; hydra-submitit-launcher is not installed"
        after = _submitit(running, submitted, study)
        check_same(submitted, still)
    return f"{seen}hydra/launcher=submitit_slurm, requeued, after epoch {after}; all bit-identical"


def _requeue(running: Slurm, folder: Path) -> int:
    """Requeues a job of an array in the middle of its run; returns the epoch after which it went on."""
    line = shlex.join([*LAB, "train", *RUN]) + " seed=$SLURM_ARRAY_TASK_ID"
    log = folder / "task-1.log"
    flags = ["--array=0-1", "--requeue", "--open-mode=append", f"--output={folder}/task-%a.log"]
    script = f"#!/bin/bash\ncd {shlex.quote(str(folder))}\nexec {line}\n"
    job = running.submit(script, *flags, variables=environment(folder))
    _await(lambda: log.exists() and f"epoch 3/{EPOCHS}" in log.read_text(), f"job {job}")
    running.do("scontrol", "requeue", f"{job}_1")
    running.wait(job, MOST)
    return _went_on(log.read_text())


def _await(seen: Callable[[], bool], what: str) -> None:
    """Waits for something that is to be seen.

    Raises:
        TimeoutError: It is not.
    """
    end = time.monotonic() + MOST
    while not seen():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} has not begun")
        time.sleep(0.05)


def _went_on(said: str) -> int:
    """Returns the epoch after which a requeued run went on.

    Raises:
        WrongError: It began anew.
    """
    went_on = re.search(rf"goes on after epoch (\d+) of {EPOCHS}", said)
    if went_on is None or int(went_on[1]) < 3:
        raise WrongError(f"the requeued job began anew: {said[-1000:]}")
    return int(went_on[1])


def _submitit(running: Slurm, folder: Path, study: list[str]) -> int:
    """Requeues a job of hydra-submitit-launcher in the middle of its run; returns where it went on."""
    flags = ["hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=30"]
    flags += ["hydra.launcher.cpus_per_task=1", "+hydra.launcher.additional_parameters.requeue=true"]
    variables = {**environment(folder), "SLURM_CONF": str(running.folder / "slurm.conf")}
    with (folder / "log").open("wb") as output:
        command = running.head.start([*study, *flags], variables, folder, output)

    def logs() -> dict[str, str]:
        return {file.name: file.read_text() for file in sorted(folder.rglob("*_log.err"))}

    try:
        _await(lambda: any(f"epoch 3/{EPOCHS}" in text for text in logs().values()), "a job of submitit")
        name = next(name for name, text in logs().items() if f"epoch 3/{EPOCHS}" in text)
        running.do("scontrol", "requeue", name.removesuffix("_0_log.err"))
        if command.wait(MOST):
            raise FailedError((folder / "log").read_text()[-2000:])
    finally:
        command.kill()
    return _went_on("".join(logs().values()))


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
