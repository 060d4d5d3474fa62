"""The real `vae-lab ui`: where it listens, what it survives, and that its server ends with it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.misuse.conftest import Lab, command
from tests.server.doors import Door
from vae_lab.cli import ui
from vae_lab.cli.servers import serving
from vae_lab.report.views import PORT
from vae_lab.tracking import RUN, Store

__all__ = ["command"]  # a fixture
VAE_LAB = str(Path(sys.executable).parent / "vae-lab")
LONGER_THAN_A_PIPE = 1 << 17  # bytes


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of one run."""
    folder = tmp_path_factory.mktemp("kept")
    Store.open(f"sqlite:///{folder / 'mlflow.db'}", create=True).start("lab", "a", kind=RUN).finish(
        "FINISHED"
    )
    (folder / "random.py").write_text("raise RuntimeError('the file of a user was taken for a library')")
    return folder


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of something that listens and says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def processes_of(group: int) -> list[int]:
    """The processes of a group that have not ended."""
    members = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, leader = entry.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(leader) == group and state != "Z":
            members.append(int(entry.parent.name))
    return members


def ask(port: int, host: str) -> int:
    """Asks the server by a name of its own and returns the status."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/", headers={"Host": host})
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="no /proc to look for processes in")
def test_the_ui_takes_a_free_port_without_a_proxy_outlives_refusals_and_ends_with_its_command(
    kept: Path,
) -> None:
    with ExitStack() as stack:
        if not serving.obstacle(PORT):
            holder = stack.enter_context(socket.socket())
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind(("127.0.0.1", PORT))
            holder.listen()
        nobody = "http://127.0.0.1:9"
        settings = {"http_proxy": nobody, "HTTP_PROXY": nobody, "MLFLOW_STATIC_PREFIX": "/elsewhere"}
        process = subprocess.Popen(
            [VAE_LAB, "ui"], cwd=kept, env=os.environ | settings, stdout=subprocess.PIPE, text=True
        )
        stack.callback(process.kill)
        assert process.stdout is not None
        lines = (line.strip() for line in process.stdout)
        said = next(line for line in lines if line.startswith("Port "))
        port = int(said.removeprefix(f"Port {PORT} is taken; this is on ").removesuffix("."))
        assert port > PORT
        plain = next(line for line in lines if line.startswith("http://127.0.0.1"))
        assert plain.startswith(f"http://127.0.0.1:{port}/#/experiments/")
        (server,) = children_of(process.pid)
        group = processes_of(server)
        assert len(group) >= 2  # MLflow's command and what it starts

        stranger = ".".join(["x" * 60] * 4)  # the longest name that is one
        for _ in range(LONGER_THAN_A_PIPE // len(stranger) + 1):
            assert ask(port, stranger) == 403
        assert ask(port, f"127.0.0.1:{port}") == 200

        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        while processes_of(server):
            time.sleep(0.05)
        assert serving.obstacle(port) == ""


def children_of(parent: int) -> list[int]:
    """The processes that a process has started itself."""
    return [int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


@pytest.mark.parametrize("answer", [None, (403, "no"), (404, "")])
def test_a_port_that_is_named_and_taken_is_said_at_once(
    kept: Path, command: Lab, silent: int, answer: tuple[int, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a server was started"))
    with Door() as door:
        door.answer = answer
        port = silent if answer is None else door.server_port
        code, out, err = command("ui", "--port", str(port), "--uri", f"sqlite:///{kept / 'mlflow.db'}")
    assert (code, out) == (2, "")
    assert (
        err
        == f"vae-lab: --port {port}: another program has it. Name another, or none for one that is free.\n"
    )


def test_a_port_that_another_server_takes_meanwhile_is_not_taken_for_the_uis(
    kept: Path, command: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Door() as door:
        door.answer = (200, "of somebody else")
        door.own_name = "127.0.0.1"
        monkeypatch.setattr(ui, "free_port", lambda _: door.server_port)
        code, out, err = command("ui", "--uri", f"sqlite:///{kept / 'mlflow.db'}")
    assert code == 1
    assert "http" not in out
    assert err.startswith("vae-lab: the MLflow server ended at once: ")
    assert "address already in use" in err


def test_the_runs_of_a_server_are_shown_there(server: str, command: Lab) -> None:
    code, out, _ = command("ui", "--uri", server)
    assert code == 0
    assert f"The runs are on a server: {server}/#/experiments" in out


def test_what_is_asked_for_the_ui_of_a_server_is_done_or_refused(
    server: str, command: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert command("ui", "--uri", server, "--open")[0] == 0
    assert [page.startswith(f"{server}/#/experiments") for page in opened] == [True]
    code, out, err = command("ui", "--uri", server, "--port", "5999")
    assert (code, out) == (2, "")
    said = f"{server} serves its runs itself, and nothing listens here; leave it out."
    assert err == f"vae-lab: --port 5999: {said}\n"
