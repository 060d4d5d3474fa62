"""Hosts in one machine: each has a network, processes, a name, /dev/shm and /tmp/ray of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

SUBNET = "10.77.0"  # seen inside the namespaces only
PRIVATE = """
hostname {name} && mkdir -p /tmp/ray && mount -t tmpfs -o size=2g shm /dev/shm && mount -t tmpfs ray /tmp/ray
mount -t tmpfs cgroup /sys/fs/cgroup
exec sleep infinity
"""


def lacking() -> str:
    """Returns why there can be no hosts here; nothing where there can."""
    if os.geteuid() != 0:
        return "namespaces take root"
    missing = [tool for tool in ("ip", "unshare", "nsenter", "setpriv") if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} is not installed (Debian: iproute2, util-linux)"
    probe = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True)
    return "" if probe.returncode == 0 else f"namespaces are not allowed: {probe.stderr.decode().strip()}"


class Host:
    """One host of a `network`.

    Args:
        name: Its hostname.
        number: The last part of its address.
        switch: The namespace of the bridge that all hosts hang on.
    """

    def __init__(self, name: str, number: int, switch: str) -> None:
        self.name, self.address, self._switch = name, f"{SUBNET}.{number}", switch
        self._namespace, self._port = f"{switch}-{number}", f"p{number}"
        _ip("netns", "add", self._namespace)
        ends = f"link add {self._port} netns {switch} type veth peer name eth0 netns {self._namespace}"
        _ip(*ends.split())
        self._in_switch("link", "set", self._port, "master", "bridge", "up")
        for line in ("link set lo up", f"addr add {self.address}/24 dev eth0", "link set eth0 up"):
            _ip("-n", self._namespace, *line.split())
        inside = ["setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", self._namespace]
        private = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        self._first = subprocess.Popen([*inside, *private, "sh", "-ec", PRIVATE.format(name=name)])
        self._pid = _only_child(self._first.pid)

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        output: IO[bytes] | int | None = None,
    ) -> subprocess.Popen[bytes]:
        """Starts a command on this host."""
        return subprocess.Popen(
            [
                "nsenter",
                "--target",
                str(self._pid),
                "--net",
                "--mount",
                "--uts",
                "--pid",
                f"--wd={folder}",
                "--",
                *command,
            ],
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
        )

    def cut(self) -> None:
        """Takes the host off the network."""
        self._in_switch("link", "set", self._port, "down")

    def heal(self) -> None:
        """Brings it back."""
        self._in_switch("link", "set", self._port, "up")

    def processes(self) -> list[str]:
        """Returns command line and environment of every process on this host, as a text each."""
        space = os.readlink(f"/proc/{self._pid}/ns/pid")
        read = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if os.readlink(entry / "ns" / "pid") == space:
                    raw = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                    read.append(raw.replace(b"\0", b"\n").decode(errors="replace"))
            except OSError:  # it has ended
                continue
        return read

    def close(self) -> None:
        """Ends the host with all its processes."""
        self._first.kill()  # --kill-child: the first process of its own takes all others along
        self._first.wait()
        _ip("netns", "del", self._namespace)

    def _in_switch(self, *words: str) -> None:
        _ip("-n", self._switch, *words)


@contextmanager
def network(*names: str) -> Iterator[list[Host]]:
    """Yields hosts of these names that reach each other, and nothing else."""
    switch = f"lab{os.getpid()}"
    hosts: list[Host] = []
    _ip("netns", "add", switch)
    try:
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        for number, name in enumerate(names, start=1):
            hosts.append(Host(name, number, switch))
        yield hosts
    finally:
        for host in hosts:
            host.close()
        _ip("netns", "del", switch)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _only_child(pid: int) -> int:
    """Returns the process that a process has forked, once it has."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    for _ in range(500):
        if text := children.read_text().split():
            child = int(text[0])
            if "sleep" in Path(f"/proc/{child}/comm").read_text():
                return child
        time.sleep(0.02)
    raise TimeoutError(f"process {pid} has started nothing")
