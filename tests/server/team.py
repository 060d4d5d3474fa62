"""The real `vae-lab server` in a terminal of its own, as whoever sets one up sees it."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import requests

VAE_LAB = str(Path(sys.executable).parent / "vae-lab")
READY = "Ctrl-C stops it."


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class TeamServer:
    """`vae-lab server` on 127.0.0.1 over a folder; its terminal's lines are in `said`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.said = self.first_said = self.password = ""
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Starts it and waits until it answers; a password that it shows is kept in `password`."""
        screen, terminal = pty.openpty()
        command = [
            VAE_LAB,
            "server",
            "--port",
            str(self.port),
            "--folder",
            "team",
            "--workers",
            "1",
            *options,
        ]
        self.process = subprocess.Popen(
            command, cwd=self.folder, stdin=terminal, stdout=terminal, stderr=terminal
        )
        os.close(terminal)
        self.said = ""
        try:
            while READY not in self.said:
                self.said += os.read(screen, 4096).decode()
        except OSError:  # its end
            raise AssertionError(self.said) from None
        self._screen = screen
        if match := re.search(r"password +(\S{20,})\r", self.said):
            self.password, self.first_said = match[1], self.said

    def stop(self) -> int:
        """Ends it as its user does, and returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        os.close(self._screen)
        self.process = None
        return code

    def administrate(self, method: str, path: str, **content: str) -> int:
        """Asks MLflow's basic auth app for something as the administrator, and returns the status."""
        question = f"{self.address}/api/{path}"
        answer = requests.request(method, question, json=content, auth=("admin", self.password), timeout=60)
        return answer.status_code


def work_as(patch: pytest.MonkeyPatch, name: str, password: str) -> None:
    """Names a user and a password in MLflow's variables."""
    patch.setenv("MLFLOW_TRACKING_USERNAME", name)
    patch.setenv("MLFLOW_TRACKING_PASSWORD", password)


def command_lines() -> Sequence[bytes]:
    """The arguments of every process of this machine, as `ps` shows them."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(file.read_bytes())
        except OSError:  # it has ended
            continue
    return lines
