"""A Ray of several hosts: a head that trains nothing, and workers of one CPU each."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.cluster.command import environment
from benchmarks.cluster.hosts import Host, network

RAY = [sys.executable, "-m", "ray.scripts.scripts"]
PORT = 6379
QUIET = ("--disable-usage-stats", "--block")
# How soon a host that was cut off counts as gone: about ten seconds, with Ray's own numbers a minute.
HEALTH = {
    "RAY_health_check_initial_delay_ms": "5000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "5",
    "RAY_worker_niceness": "0",
}


class RayHosts(NamedTuple):
    """Hosts with a Ray on them, and a further one without."""

    head: Host
    workers: list[Host]
    further: Host
    address: str
    token: dict[str, str]  # the variables that let a command in


@contextmanager
def ray_hosts(folder: Path, workers: int, further: str) -> Iterator[RayHosts]:
    """Yields a head and workers, once all of them are there; what each prints goes into the folder.

    Args:
        folder: An empty one.
        workers: How many.
        further: The name of a host of the same network that is none of Ray's.
    """
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    names = ["head", *(f"worker{number}" for number in range(1, workers + 1))]
    with network(*names, further) as (head, *others, apart):
        address = f"{head.address}:{PORT}"
        as_head = ["--head", f"--port={PORT}", "--num-cpus=0", "--include-dashboard=false"]
        started = [_start(head, as_head, folder, token)]
        _until_there(head, folder, token, address, 1)
        started += [_start(host, [f"--address={address}", "--num-cpus=1"], folder, token) for host in others]
        _until_there(head, folder, token, address, len(names))
        yield RayHosts(head, others, apart, address, token)
        for process in started:
            process.terminate()


def _start(host: Host, words: list[str], folder: Path, token: dict[str, str]) -> subprocess.Popen[bytes]:
    own = folder / host.name
    own.mkdir()
    variables = {**environment(own), **HEALTH, **token, "XDG_CACHE_HOME": str(own / "cache")}
    command = [*RAY, "start", *words, f"--node-ip-address={host.address}", *QUIET]
    with (own / "ray.log").open("wb") as output:
        return host.start(command, variables, own, output)


COUNT = """
import ray, sys
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
print(sum(node["Alive"] for node in ray.nodes()))
"""


def _until_there(head: Host, folder: Path, token: dict[str, str], address: str, count: int) -> None:
    variables = {**environment(folder), **token}
    for _ in range(60):
        asked = head.start([sys.executable, "-c", COUNT, address], variables, folder, subprocess.PIPE)
        out, _ = asked.communicate()
        if out.split()[-1:] == [str(count).encode()]:
            return
        time.sleep(1)
    raise TimeoutError(f"Ray has not {count} hosts: {out.decode()[-500:]}")
