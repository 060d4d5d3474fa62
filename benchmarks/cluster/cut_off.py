"""Proof 1: a worker's host is cut off in mid-run, and healed after its run was redone by another.

The store is a server with users on a host of its own.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import processes
from benchmarks.cluster.command import LAB, WORKERS, environment
from benchmarks.cluster.hosts import Host
from benchmarks.cluster.ray_hosts import RayHosts, ray_hosts
from benchmarks.cluster.results import WrongError, check_same

EPOCHS = 5
STUDY = [*LAB, "train", "-m", "data=digits", "model.hidden_size=32", "train.device=cpu"]
STUDY += [f"train.epochs={EPOCHS}", "evaluation.pictures=false", *WORKERS]
SECRET = "the word of the store"
MIDDLE = re.compile(rf"epoch [23]/{EPOCHS} ")
EPOCH = re.compile(rf"\] (.+?)  epoch (\d+)/{EPOCHS} ")
GONE = re.compile(r"^(\S+), process \d+: this worker is gone; (.+?) will resume")


def prove(folder: Path, runs: int) -> str:
    """Returns what was seen, as one line.

    Raises:
        WrongError: A result is missing, doubled or different, was begun anew, or a worker knew of the store.
    """
    still, cut = folder / "still", folder / "cut"
    seeds = f"seed=range({runs})"
    for place in (still, cut):
        place.mkdir()
    done = subprocess.run([*STUDY, seeds], cwd=still, env=environment(still), capture_output=True, text=True)
    if done.returncode:
        raise processes.FailedError(done.stderr[-2000:])
    with ray_hosts(folder, workers=2, further="store") as ray, _served(ray.further, folder) as store:
        said, lost = _with_a_cut(cut, ray, [*STUDY, seeds], store, after=runs // 4)
    doubled = [epoch for epoch, times in Counter(EPOCH.findall(said)).items() if times > 1]
    if doubled:
        raise WrongError(f"epochs that were recorded more than once: {doubled}")
    count = check_same(folder / "server", still)
    return (
        f"{count} runs on two hosts, one cut off in the middle of {lost} and healed: each finished once, "
        "bit-identical, none begun anew; no worker's environment or arguments name the store, a server on a "
        "host of its own"
    )


@contextmanager
def _served(host: Host, folder: Path) -> Iterator[str]:
    """Yields the address of a team's server on a host, once it answers."""
    command = [*LAB, "server", f"--host={host.address}", f"--folder={folder / 'server'}"]
    variables = {**environment(folder), "MLFLOW_AUTH_ADMIN_PASSWORD": SECRET}
    process = host.start(command, variables, folder, subprocess.PIPE)
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line.decode(errors="replace"))
        if "Ctrl-C" in said[-1]:
            break
    else:
        raise processes.FailedError("".join(said))
    yield f"http://{host.address}:5000"
    process.kill()


def _with_a_cut(folder: Path, ray: RayHosts, study: list[str], store: str, after: int) -> tuple[str, str]:
    """Runs a study, cuts a host off after so many runs; returns what it said and the run that was lost."""
    user = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": SECRET}
    own = {"MLFLOW_TRACKING_URI": store, **user}
    variables = {**environment(folder), **ray.token, **own}
    command = [*study, "hydra/launcher=ray", f"hydra.launcher.address={ray.address}"]
    said, finished, is_cut, lost = [], 0, False, ""
    process = ray.head.start(command, variables, folder, subprocess.PIPE)
    victim = ray.workers[0]
    assert process.stdout is not None
    for raw in process.stdout:
        line = raw.decode(errors="replace")
        said.append(line)
        finished += line.startswith("✓")
        if not is_cut and finished >= after and MIDDLE.search(line):
            _check_ignorant(ray.workers, store)
            victim.cut()
            is_cut = True
        if gone := GONE.match(line):
            lost = gone[2]
        if lost and line.startswith("✓") and f" {lost}  " in line:
            victim.heal()
    if process.wait():
        raise processes.FailedError("".join(said)[-3000:])
    if not lost:
        raise WrongError("the host that was cut off was at work on nothing")
    return "".join(said), lost


def _check_ignorant(workers: list[Host], store: str) -> None:
    """Raises a WrongError if a process of a worker's host knows the store's address or its password."""
    for host in workers:
        for text in host.processes():
            if SECRET in text or store in text:
                raise WrongError(f"a process on {host.name} knows of the store: {text[:300]}")
