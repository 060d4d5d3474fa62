"""SLURM on hosts in one machine: a controller, and a daemon on each, with keys and folders of their own."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.cluster.hosts import Host, lacking, network
from benchmarks.processes import FailedError

TOOLS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "srun")
CONFIG = """
ClusterName=lab
SlurmctldHost=head({head})
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,sched_min_interval=0
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def slurm_lacking() -> str:
    """Returns why there can be no SLURM here; nothing where there can."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} is not installed (Debian: slurm-wlm, munge)"
    return lacking()


class Slurm(NamedTuple):
    """A SLURM that runs."""

    head: Host
    nodes: list[Host]
    folder: Path

    def do(self, *command: str, variables: Mapping[str, str] | None = None) -> str:
        """Returns what a command prints on the head.

        Raises:
            FailedError: It did not end well.
        """
        environment = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf"), **(variables or {})}
        process = self.head.start(command, environment, self.folder, subprocess.PIPE)
        out, _ = process.communicate()
        if process.returncode:
            raise FailedError(f"{' '.join(command)}: {out.decode()}")
        return out.decode()

    def submit(self, script: str, *flags: str, variables: Mapping[str, str]) -> str:
        """Submits a script; returns the number of the job."""
        file = self.folder / "job.sh"
        file.write_text(script)
        return self.do("sbatch", "--parsable", *flags, str(file), variables=variables).strip()

    def wait(self, job: str, seconds: float) -> None:
        """Waits until a job, and all jobs of its array, have ended.

        Raises:
            TimeoutError: They have not, after so many seconds.
        """
        end = time.monotonic() + seconds
        while self.do("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T").split():
            states = set(
                self.do("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T").split()
            )
            if states <= {"COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL"}:
                return
            if time.monotonic() > end:
                raise TimeoutError(f"job {job} is {', '.join(states)} after {seconds:g} s")
            time.sleep(1)


@contextmanager
def slurm(folder: Path, nodes: int) -> Iterator[Slurm]:
    """Yields a SLURM with so many nodes of one CPU; its files go into the folder."""
    folder.mkdir()
    names = [f"node{number}" for number in range(1, nodes + 1)]
    with network("head", *names) as hosts:
        head, *others = hosts
        lines = [f"NodeName={host.name} NodeAddr={host.address} CPUs=1 State=UNKNOWN" for host in others]
        text = CONFIG.format(head=head.address, folder=folder, nodes="\n".join(lines))
        (folder / "slurm.conf").write_text(text)
        (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        for host in others:
            (folder / f"spool-{host.name}").mkdir()
        started = [_munge(head, folder / "munge"), _daemon(head, folder, "slurmctld", "-D")]
        started += [_daemon(host, folder, "slurmd", "-D", "-N", host.name) for host in others]
        running = Slurm(head, others, folder)
        try:
            _until_idle(running, nodes)
            yield running
        finally:
            for process in reversed(started):
                process.terminate()


def _munge(head: Host, folder: Path) -> subprocess.Popen[bytes]:
    """Starts what signs the daemons' messages; all hosts share its socket."""
    folder.mkdir(mode=0o755)
    key = folder / "key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    files = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed", "key-file": "key"}
    flags = [f"--{flag}={folder / name}" for flag, name in files.items()]
    process = head.start(["munged", "--foreground", "--force", *flags], os.environ, folder)
    while not (folder / "socket").exists():
        if process.poll() is not None:
            raise FailedError(f"munged ended: {(folder / 'log').read_text()[-500:]}")
        time.sleep(0.1)
    return process


def _daemon(host: Host, folder: Path, *command: str) -> subprocess.Popen[bytes]:
    variables = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    with (folder / f"{command[0]}-{host.name}.out").open("wb") as output:
        return host.start(command, variables, folder, output)


def _until_idle(running: Slurm, nodes: int) -> None:
    said = ""
    for _ in range(60):
        try:
            said = running.do("sinfo", "--noheader", "--format=%D %t")
        except FailedError as error:
            said = str(error)
        if said.split() == [str(nodes), "idle"]:
            return
        time.sleep(1)
    raise TimeoutError(f"SLURM has not {nodes} idle nodes: {said}")
