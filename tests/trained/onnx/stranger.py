"""What somebody does to whom a model was given, in a Python that has neither vae_lab nor PyTorch.

It is told on standard input, as JSON, for each question: which model, and its batches. It prints the answers.
Whatever MLflow forbids by itself, Python refuses here to unpickle a class, and to run a file that belongs to
no installed package.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from importlib.util import find_spec

import mlflow.onnx
import numpy as np
import onnxruntime

TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
INSTALLED = tuple(folder for folder in sys.path if folder)


class RefusedError(Exception):
    """Code would be run that may come from a store."""


def refuse(event: str, arguments: tuple[object, ...]) -> None:
    """Hears what this Python is about to do, and ends it if it runs code that may come from a store."""
    if event == "pickle.find_class":
        raise RefusedError(f"a pickle names {arguments}")
    if event == "exec":
        file = str(getattr(arguments[0], "co_filename", ""))
        if os.path.isabs(file) and not file.startswith(INSTALLED):
            raise RefusedError(f"code of {file}")


def check_refusal() -> None:
    """Checks that neither a pickled class nor a file of no package is let pass."""
    for run in (lambda: pickle.loads(pickle.dumps(dict)), lambda: exec(compile("", "/model.py", "exec"))):
        try:
            run()
        except RefusedError:
            continue
        raise AssertionError("code of a store is run")


def answers(address: str, batches: list[dict[str, list[object]]]) -> list[dict[str, object]]:
    """Returns what the model at an address of MLflow's says to each batch, output by output."""
    graph = mlflow.onnx.load_model(address).SerializeToString()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    types = {wanted.name: TYPES[wanted.type] for wanted in session.get_inputs()}
    names = [output.name for output in session.get_outputs()]
    said = []
    for batch in batches:
        values = session.run(None, {name: np.array(value, types[name]) for name, value in batch.items()})
        said.append({name: value.tolist() for name, value in zip(names, values, strict=True)})
    return said


if __name__ == "__main__":
    for unwanted in ("torch", "vae_lab"):
        assert find_spec(unwanted) is None, f"{unwanted} can be imported"
    sys.addaudithook(refuse)
    check_refusal()
    questions = json.load(sys.stdin)
    json.dump({key: answers(*question) for key, question in questions.items()}, sys.stdout)
