"""What was given away, in another Python: loaded by `stranger.py`, or served over HTTP."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

import torch
from torch import Tensor

STRANGER = Path(__file__).with_name("stranger.py")
# MLflow 3.18 and newer know the first, older ones the second.
FORBIDDEN = {"MLFLOW_ALLOW_MODEL_CODE_EXECUTION": "false", "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
PATIENCE = 240.0  # seconds; importing MLflow takes long on a busy machine

Batch = Mapping[str, Tensor]
Answer = dict[str, Tensor]


def environment(python: Path, **variables: str) -> dict[str, str]:
    """Returns the variables of this process with others, and the programs of that Python first."""
    return {**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}", **variables}


def told(
    python: Path, questions: Mapping[str, tuple[str, Sequence[Batch]]], folder: Path, **variables: str
) -> dict[str, list[Answer]]:
    """Returns what a stranger's Python answers when it may not run code of a model.

    Args:
        python: Its interpreter.
        questions: By any key, the address of a model and batches for it.
        folder: Where it works.
        variables: Environment variables, such as MLFLOW_TRACKING_URI.
    """
    asked = {
        key: [address, [{name: value.tolist() for name, value in batch.items()} for batch in batches]]
        for key, (address, batches) in questions.items()
    }
    ended = subprocess.run(
        [python, STRANGER],
        input=json.dumps(asked),
        env=environment(python, **FORBIDDEN, **variables),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    answers = json.loads(ended.stdout)
    return {key: [_tensors(answer) for answer in several] for key, several in answers.items()}


def _tensors(answer: Mapping[str, Any]) -> Answer:
    return {name: torch.tensor(value, dtype=torch.float32) for name, value in answer.items()}


class Served:
    """A model behind `mlflow models serve`."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self._opener = build_opener(ProxyHandler({}))

    def get(self, path: str) -> int:
        """Returns the status of the answer to a question without a body."""
        with self._opener.open(f"{self.address}/{path}", timeout=5) as answer:
            return int(answer.status)

    def post(self, content: str) -> tuple[int, Any]:
        """Returns the status of the answer to a body in JSON, and what it says."""
        request = Request(
            f"{self.address}/invocations", content.encode(), {"Content-Type": "application/json"}
        )
        try:
            with self._opener.open(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            return error.code, json.load(error)

    def answer(self, batch: Batch) -> Answer:
        """Returns what it says to a batch."""
        inputs = {name: value.tolist() for name, value in batch.items()}
        status, said = self.post(json.dumps({"inputs": inputs}))
        assert status == 200, said
        return _tensors(said["predictions"])


@contextmanager
def served(python: Path, address: str, folder: Path, **variables: str) -> Iterator[Served]:
    """Serves a model on 127.0.0.1 with a Python's own packages, as `mlflow models serve` does for anybody."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(python), "-m", "mlflow", "models", "serve", "-m", address, "--env-manager", "local"]
    log = folder / f"{port}.log"
    with log.open("w") as lines:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            env=environment(python, **variables),
            cwd=folder,
            stdout=lines,
            stderr=lines,
            start_new_session=True,  # the server is a child of that process, and in its group
        )
    try:
        model = Served(port)
        deadline = time.monotonic() + PATIENCE
        while not _answers(model):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield model
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(model: Served) -> bool:
    try:
        return model.get("ping") == 200
    except (URLError, OSError):
        return False
