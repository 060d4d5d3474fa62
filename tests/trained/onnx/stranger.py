"""What somebody does to whom a model was given, in a Python that has neither vae_lab nor PyTorch.

It is told on standard input, as JSON, for each question: which model, and its batches. It prints the answers.
"""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec

import mlflow.onnx
import numpy as np
import onnxruntime

TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


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
    questions = json.load(sys.stdin)
    json.dump({key: answers(*question) for key, question in questions.items()}, sys.stdout)
