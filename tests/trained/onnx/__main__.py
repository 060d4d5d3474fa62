"""The proof at full length: a fresh environment, with what a version asks for, loads and serves the models.

`make given-away` runs it; it downloads some hundred megabytes. `test_registry.py` is its short form.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import venv
from pathlib import Path

from mlflow import MlflowClient

from tests.conftest import trained
from tests.trained.onnx.elsewhere import served, told
from tests.trained.onnx.test_registry import LINE, Given, assert_equal, place, questions, register

PAIRS = [(kind, function) for kind in ("vae", "cvae") for function in ("decoder", "encoder")]
EQUAL = "answers equal PyTorch's to 1e-4"


def main() -> None:
    """Trains, registers, makes the environment, and asks it."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.environ["XDG_STATE_HOME"] = str(folder / "state")
        given = made(folder)
        print(f"registered       {', '.join(sorted(models(given)))}")
        python = fresh_python(folder / "fresh", given)
        compare_loaded(given, python, folder, "models:")
        compare_served(given, python, folder)
        pip(python, "--upgrade", "mlflow")
        compare_loaded(given, python, folder, "folders")  # its registry would have to be upgraded first


def made(folder: Path) -> Given:
    """Returns a store with a VAE and a CVAE that are registered."""
    trained(folder, *LINE, "study.name=given")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    for kind in ("vae", "cvae"):
        result = register(f"given:{kind} L3 Z15 s0", "--uri", uri)
        assert result.exit_code == 0, result.output
    return Given(folder, uri, "", "vae")


def models(given: Given) -> list[str]:
    """Returns the names of the registered models."""
    return [model.name for model in MlflowClient(given.uri).search_registered_models()]


def fresh_python(folder: Path, given: Given) -> Path:
    """Returns the interpreter of an environment with what the versions ask for, and nothing else."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    pip(python, "--requirement", str(place(given, "vae", "decoder") / "requirements.txt"))
    return python


def pip(python: Path, *arguments: str) -> None:
    """Installs into an environment."""
    print(f"installing       {' '.join(arguments)}")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *arguments], check=True)


def mlflow_of(python: Path) -> str:
    """Returns the version of MLflow in an environment."""
    ask = "from importlib.metadata import version; print(version('mlflow'))"
    return subprocess.check_output([python, "-c", ask], text=True).strip()


def compare_loaded(given: Given, python: Path, folder: Path, way: str) -> None:
    """Compares what the models say where they are loaded, from the registry or from their folders."""
    asked = {pair: [*questions(given.model(pair[0]), pair[1])] for pair in PAIRS}
    addressed = {
        " ".join(pair): (
            given.address(*pair) if way == "models:" else str(place(given, *pair)),
            [batch for batch, _ in asked[pair]],
        )
        for pair in PAIRS
    }
    work = folder / "work"
    work.mkdir(exist_ok=True)
    said = told(python, addressed, work, MLFLOW_TRACKING_URI=given.uri)
    for pair in PAIRS:
        for answer, (_, expected) in zip(said[" ".join(pair)], asked[pair], strict=True):
            assert_equal(answer, expected)
    print(f"loaded           {len(PAIRS)} models ({way}, MLflow {mlflow_of(python)}), {EQUAL}")


def compare_served(given: Given, python: Path, folder: Path) -> None:
    """Compares what the models say over HTTP."""
    for pair in PAIRS:
        with served(python, given.address(*pair), folder, MLFLOW_TRACKING_URI=given.uri) as model:
            for batch, expected in questions(given.model(pair[0]), pair[1]):
                assert_equal(model.answer(batch), expected)
        print(f"served           {' '.join(pair)}, {EQUAL}")


if __name__ == "__main__":
    main()
