"""A model given away: what the registry says of it, and its answers where nothing of the lab is installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from click.testing import CliRunner, Result
from mlflow import MlflowClient
from mlflow.models import Model

import vae_lab
from tests.conftest import SMALL, trained
from tests.guide import page
from tests.trained.onnx.elsewhere import FORBIDDEN, PATIENCE, Answer, Batch, served, told
from vae_lab.cli.group import commands
from vae_lab.errors import UserError
from vae_lab.tracking import Store
from vae_lab.trained.model import TrainedModel
from vae_lab.trained.registry.versions import LONGEST_DESCRIPTION

CLAIM = (
    "study.claims=[{id: C1, text: A CVAE has *fewer* nats., metric: test/loss, expect: better, "
    "of: {model: cvae}, than: {model: vae}}]"
)
LINE = ("-m", *SMALL, "train.epochs=1", "evaluation.pictures=false", "model=vae,cvae", "seed=0")
WITHOUT = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        absent = fullname.partition(".")[0] in ("torch", "torchvision", "vae_lab", "onnxscript")
        return None if absent else super().find_spec(fullname, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
"""
HERE = Path(sys.executable)

pytestmark = pytest.mark.timeout(600)


class Given(NamedTuple):
    """A store with a study of a VAE and a CVAE, both of which are registered as `given`."""

    folder: Path
    uri: str
    printed: str  # by the command that registered the best run
    best: str  # vae or cvae

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.uri)

    def model(self, kind: str) -> TrainedModel:
        return vae_lab.load(f"given:{kind} L3 Z15 s0", uri=self.uri)

    def description(self, model: str, number: str) -> str:
        text = self.client.get_model_version(model, number).description
        assert isinstance(text, str)
        return text

    def models_of_the_best(self) -> list[str]:
        """The names of the logged models of the best run."""
        outputs = self.client.get_run(self.model(self.best).run.run_id).outputs
        assert outputs is not None
        return [self.client.get_logged_model(made.model_id).name for made in outputs.model_outputs]

    def address(self, kind: str, function: str) -> str:
        return f"models:/given-{function}/{1 if kind == self.best else 2}"


def register(*arguments: str) -> Result:
    return CliRunner().invoke(commands, ["register", *arguments])


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    folder = trained(tmp_path_factory.mktemp("given"), *LINE, "study.name=given", CLAIM)
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    best = vae_lab.load("given:best", uri=uri)
    result = register("given:best", "--uri", uri)
    assert result.exit_code == 0, result.output
    other = "vae" if best.conditional else "cvae"
    assert register(f"given:{other} L3 Z15 s0", "--uri", uri).exit_code == 0
    return Given(folder, uri, result.output, "cvae" if best.conditional else "vae")


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder on the path of a Python in which that finds neither PyTorch nor vae_lab."""
    folder = tmp_path_factory.mktemp("without")
    (folder / "sitecustomize.py").write_text(WITHOUT)
    return folder


def place(given: Given, kind: str, function: str) -> Path:
    """Returns the folder of a version."""
    name, _, number = given.address(kind, function).removeprefix("models:/").partition("/")
    return Path(given.client.get_model_version_download_uri(name, number).removeprefix("file://"))


def questions(lab: TrainedModel, function: str) -> Iterator[tuple[Batch, Answer]]:
    """Yields batches of one image and of seven, and what PyTorch answers."""
    for count in (1, 7):
        images, labels = lab.examples(count)
        label = {"label": labels} if lab.conditional else {}
        if function == "decoder":
            z = torch.randn(count, lab.latent_size, generator=torch.Generator().manual_seed(count))
            yield {"z": z, **label}, {"images": lab.decode(z, labels if lab.conditional else None)}
        else:
            yield {"x": images, **label}, lab.encode(images, labels)._asdict()


def assert_equal(said: Answer, expected: Answer) -> None:
    assert said.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(said[name], value, atol=1e-4, rtol=0)


def test_the_best_run_of_a_study_is_a_pair_of_versions_that_an_alias_names(given: Given) -> None:
    lab = given.model(given.best)
    for function in ("decoder", "encoder"):
        version = given.client.get_model_version_by_alias(f"given-{function}", "best")
        assert (int(version.version), version.run_id) == (1, lab.run.run_id)
        assert version.tags["vae_lab.study"] == "given"
        assert f"models:/given-{function}/1  new" in given.printed
        signature = Model.load(str(place(given, given.best, function))).signature
        assert signature is not None
        assert all(spec.shape[0] == -1 for side in (signature.inputs, signature.outputs) for spec in side)
    assert sorted(given.models_of_the_best()) == ["decoder", "encoder"]
    assert "lowest held-out loss of 1 VAEs and 1 CVAEs of given" in given.printed


def test_its_description_says_what_it_is_and_what_the_study_found(given: Given) -> None:
    text = given.description("given-decoder", "1")
    label = ", label" if given.best == "cvae" else ""
    assert text.startswith(f"`decode(z{label}) -> images`: the decoder of **{given.best} L3")
    assert "- in `z`, float32 (N, 15): latent vectors" in text
    assert "- out `images`, float32 (N, 1, 8, 8): the expected images" in text
    assert "is version 1 of `given-encoder`" in text
    assert "on the images tried; above 1 or below -1, of the value." in text
    assert "### Claims of the study\n\n- **C1, undecided.** *A CVAE has \\*fewer\\* nats.*" in text
    assert len(text) <= LONGEST_DESCRIPTION


def test_a_version_needs_only_what_runs_it(given: Given) -> None:
    for kind in ("vae", "cvae"):
        folder = place(given, kind, "decoder")
        needed = [line.partition("==")[0] for line in (folder / "requirements.txt").read_text().split()]
        assert needed == ["mlflow", "numpy", "onnx", "onnxruntime"]
        assert {path.suffix for path in folder.iterdir()} <= {"", ".onnx", ".json", ".yaml", ".txt"}


def test_a_run_that_is_registered_is_described_anew_and_has_one_version(given: Given) -> None:
    given.client.update_model_version("given-encoder", "1", "old")
    result = register("given:best", "--uri", given.uri)
    assert result.exit_code == 0, result.output
    assert result.output.count("described anew") == 2
    assert given.description("given-encoder", "1").startswith("`encode(x")
    assert len(given.client.search_model_versions("name = 'given-encoder'")) == 2
    assert len(given.models_of_the_best()) == 2


def test_it_answers_without_pytorch_and_vae_lab_and_runs_no_code(
    given: Given, without: Path, tmp_path: Path
) -> None:
    pairs = [(kind, function) for kind in ("vae", "cvae") for function in ("decoder", "encoder")]
    asked = {f"{kind} {function}": [*questions(given.model(kind), function)] for kind, function in pairs}
    addressed = {
        f"{kind} {function}": (
            given.address(kind, function),
            [batch for batch, _ in asked[f"{kind} {function}"]],
        )
        for kind, function in pairs
    }
    said = told(HERE, addressed, tmp_path, MLFLOW_TRACKING_URI=given.uri, PYTHONPATH=str(without))
    for key, answers in said.items():
        for answer, (_, expected) in zip(answers, asked[key], strict=True):
            assert_equal(answer, expected)


@pytest.mark.parametrize(("kind", "function"), [("cvae", "decoder"), ("vae", "encoder")])
def test_it_answers_over_http(given: Given, without: Path, tmp_path: Path, kind: str, function: str) -> None:
    variables = {"MLFLOW_TRACKING_URI": given.uri, "PYTHONPATH": str(without)}
    with served(HERE, given.address(kind, function), tmp_path, **variables) as model:
        for batch, expected in questions(given.model(kind), function):
            assert_equal(model.answer(batch), expected)
        status, said = model.post((place(given, kind, function) / "serving_input_example.json").read_text())
        assert status == 200, said
        if kind == "cvae":
            status, said = model.post(json.dumps({"inputs": {"z": [[0.0] * 15], "label": [10]}}))
            assert status == 400, "a label of no class"
            status, said = model.post(json.dumps({"inputs": {"z": [[0.0] * 14], "label": [1]}}))
            assert status == 400
            assert "(-1, 15)" in said["message"]


def test_the_documentations_program_and_command_run_as_they_stand(
    given: Given, without: Path, tmp_path: Path
) -> None:
    text = page("giving_away.md").replace("sqlite:////home/me/mlflow.db", given.uri)
    text = text.replace("reference-", "given-")
    program = textwrap.dedent(text[text.index("    import os, tempfile") : text.index("`dst_path` matters")])
    if given.best == "cvae":
        program = program.replace('{"z": z})', '{"z": z, "label": np.arange(7)})')
    command = text[text.index("artifacts download") :].splitlines()[0].split()
    ended = subprocess.run(
        [HERE, "-c", f"{program}\nprint(images.shape)\nfrom mlflow.cli import cli\ncli({command})"],
        env={**os.environ, **FORBIDDEN, "PYTHONPATH": str(without)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.stdout.startswith("(7, 1, 8, 8)\n"), ended.stderr
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "decoder" / "model.onnx").is_file()


def test_a_store_that_was_moved_takes_its_models_along(given: Given, tmp_path: Path) -> None:
    shutil.copytree(given.folder, tmp_path / "moved")
    store = Store.open(f"sqlite:///{tmp_path / 'moved' / 'mlflow.db'}")
    store.settle()
    moved = store.client.get_model_version_download_uri("given-encoder", "1")
    assert moved.startswith((tmp_path / "moved").as_uri())
    assert Path(moved.removeprefix("file://"), "model.onnx").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["given"], "given: is a study of 2 runs; which of them? Valid: given:best"),
        (["nothing:best"], "nothing:best"),
        (["given:best", "--name", "a/b"], "--name a/b: must be one line of 1 to 200 characters"),
        (["given:best", "--name", ""], "--name : must be"),
    ],
)
def test_a_mistake_is_one_message(given: Given, arguments: list[str], message: str) -> None:
    result = register(*arguments, "--uri", given.uri)
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)
    assert len(str(result.exception).splitlines()) == 1


def test_without_the_extra_the_command_says_what_to_install(
    given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    result = register("given:best", "--uri", given.uri)
    assert isinstance(result.exception, UserError)
    assert str(result.exception).endswith("pip install onnx onnxruntime onnxscript")


def test_a_model_is_registered_where_mlflows_variable_says_and_so_is_said(
    given: Given, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = "vae" if given.best == "cvae" else "cvae"
    file = folder / "registry.db"
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"sqlite:///{file}")
    result = register(f"given:{kind} L3 Z15 s0", "--uri", given.uri, "--name", "elsewhere")
    assert result.exit_code == 0, result.output
    assert f"Registered where MLFLOW_REGISTRY_URI says, in {file}\n" in result.output
    names = [model.name for model in MlflowClient(given.uri).search_registered_models()]
    assert sorted(names) == ["elsewhere-decoder", "elsewhere-encoder"]
    monkeypatch.delenv("MLFLOW_REGISTRY_URI")
    assert not any("elsewhere" in model.name for model in MlflowClient(given.uri).search_registered_models())
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "databricks-uc")
    result = register(f"given:{kind} L3 Z15 s0", "--uri", given.uri)
    assert str(result.exception).startswith(
        "MLFLOW_REGISTRY_URI=databricks-uc: not a registry the lab can use."
    )
