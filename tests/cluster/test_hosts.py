"""Simulated hosts are hosts: own names, processes and memory, and a network that is cut and healed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.cluster.hosts import Host, lacking, network

CONNECT = "import socket; socket.create_connection(('{address}', 7000), timeout=1)"
LISTEN = "import socket, time; s = socket.create_server(('', 7000)); print('up', flush=True); time.sleep(99)"
WHO = (
    "import os, socket; print(socket.gethostname(), len([p for p in os.listdir('/proc') if p.isdigit()]) < 6)"
)

pytestmark = pytest.mark.skipif(bool(lacking()), reason=lacking())


@pytest.fixture(scope="module")
def hosts() -> Iterator[list[Host]]:
    with network("one", "two") as made:
        yield made


def said(host: Host, code: str) -> str:
    process = host.start([sys.executable, "-c", code], os.environ, Path.cwd(), subprocess.PIPE)
    out, _ = process.communicate()
    return out.decode().strip()


def test_a_host_has_a_name_processes_and_shared_memory_of_its_own(hosts: list[Host]) -> None:
    assert [said(host, WHO) for host in hosts] == ["one True", "two True"]
    said(hosts[0], "open('/dev/shm/mine', 'w')")
    assert said(hosts[1], "import os; print(os.listdir('/dev/shm'))") == "[]"
    assert socket.gethostname() not in ("one", "two")


def test_a_host_can_be_cut_off_and_healed(hosts: list[Host]) -> None:
    one, two = hosts
    listening = two.start([sys.executable, "-c", LISTEN], os.environ, Path.cwd(), subprocess.PIPE)
    assert listening.stdout is not None
    assert listening.stdout.readline() == b"up\n"
    connect = CONNECT.format(address=two.address)
    assert said(one, connect) == ""
    two.cut()
    assert "timed out" in said(one, connect) or "No route" in said(one, connect)
    two.heal()
    assert said(one, connect) == ""
    assert any(LISTEN in text for text in two.processes())
    assert not any(LISTEN in text for text in one.processes())
    listening.kill()
    listening.communicate()
