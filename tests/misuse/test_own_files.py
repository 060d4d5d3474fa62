"""YAML files of one's own: none is ignored, and what is not read is told as it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.misuse.conftest import TINY, Lab, Planned
from tests.misuse.test_asked_for import own_file, refused
from tests.misuse.test_spelling import recorded
from vae_lab.files import CONF

GLOBAL = "# @package _global_\n"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("model/vae.yaml", "_target_: vae_lab.models.VAE\nlatent_size: 2\n"),
        ("experiments/reference.yaml", GLOBAL + "seed: 4\n"),
        ("sweeps/depth.yaml", GLOBAL + "seed: 4\n"),
        ("config.yaml", "seed: 4\n"),
    ],
)
@pytest.mark.parametrize(
    "place", ["--config-dir own", "hydra.searchpath=[own]", "hydra.searchpath=[file://own]"]
)
def test_a_file_that_the_labs_own_hides_is_refused(
    lab: Lab, folder: Path, path: str, text: str, place: str
) -> None:
    own_file(folder, path, text)
    message = refused(lab, *place.split(), *TINY)
    assert f"own/{path}: would be ignored, since the lab's own " in message
    assert f"give it another name, such as my_{Path(path).name}" in message


def test_a_copy_of_the_labs_file_is_no_other_file(lab: Lab, folder: Path, planned: Planned) -> None:
    own_file(folder, "model/vae.yaml", (CONF / "model" / "vae.yaml").read_text())
    own_file(folder, "model/narrow.yaml", "defaults: [vae]\nlatent_size: 2\n")
    code, _, err = lab("--config-dir", "own", "-m", *TINY, "model=narrow")
    assert code == 0, err
    assert recorded(planned[0][2], "model.latent_size") == ["2"]


def test_a_folder_of_the_search_path_cannot_fill_the_memory_either(lab: Lab, folder: Path) -> None:
    rows = [f"x{i}: &x{i} [{','.join([f'*x{i - 1}'] * 10)}]" for i in range(1, 10)]
    own_file(folder, "model/big.yaml", "\n".join(["x0: &x0 [1]", *rows]))
    for place in ("--config-dir=own", "hydra.searchpath=[own]"):
        assert "must stand for at most 100000 values" in refused(lab, place, *TINY, "model=big")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "sweep: {cross: {seed: [0]}}\n",
            "its first line must be # @package _global_, with nothing before it.",
        ),
        (
            "\ufeff" + GLOBAL + "seed: 5\n",
            "its first line must be # @package _global_, with nothing before it.",
        ),
        (
            GLOBAL + "defaults:\n  - override model: cvae\n",
            "experiments/own: the group needs a slash, as in `- override /model: OPTION`",
        ),
        (
            GLOBAL + "defaults:\n  - model: cvae\n",
            "experiments/model/cvae: in a file of experiments the defaults say `- override /model: cvae`.",
        ),
        (
            GLOBAL + "model: cvae\n",
            "model=cvae: must be a mapping of keys; an option is chosen by model=cvae on the line, or "
            "`- override /model: cvae` in a file's defaults.",
        ),
        (GLOBAL + "optimizer: sgd\n", "or `- override /optimizer: sgd` in a file's defaults."),
        (
            GLOBAL + "model.layers: 2\n",
            "model.layers: is written with a dot; in YAML it is model: {layers: ...}.",
        ),
        (GLOBAL + "study: {name: 1.10}\n", "study.name=1.1: must be a text, not the float that YAML reads"),
        (GLOBAL + "model: {activation: yes}\n", "model.activation=True: must be a text, not the bool"),
        (
            GLOBAL + "sweep: {also: {2024: {seed: 1}}}\n",
            "sweep.also.2024: a key must be a text; put it in quotes",
        ),
        (GLOBAL + "sweep: {cross: {seed: 0, 1}}\n", "or values of one key in brackets, as in [0, 1]"),
        (GLOBAL + "latent_size: 3\n", "latent_size: unknown key; did you mean model.latent_size?"),
        (
            GLOBAL + "hydra: {mode: MULTIRUN, sweeper: {n_trials: 3}}\n",
            "hydra.sweeper.n_trials: unknown key.",
        ),
    ],
    ids=lambda text: text.splitlines()[-1][:40],
)
def test_what_a_study_says_in_another_form_is_told_as_it_is_written(
    lab: Lab, folder: Path, text: str, message: str
) -> None:
    own_file(folder, "experiments/own.yaml", text)
    assert message in refused(lab, "--config-dir", "own", *TINY, "experiments=own")


def test_a_file_with_the_other_ending_is_named(lab: Lab, folder: Path) -> None:
    own_file(folder, "model/narrow.yml", "defaults: [vae]\nlatent_size: 2\n")
    message = refused(lab, "--config-dir", "own", *TINY, "model=narrow")
    assert message == "own/model/narrow.yml: Hydra reads files that end in .yaml; give it that ending.\n"


def test_models_of_one_name_are_not_averaged(lab: Lab, folder: Path) -> None:
    own_file(folder, "model/mine.yaml", "defaults: [vae]\n_target_: my_models.VAE\n")
    message = refused(lab, "--config-dir", "own", *TINY, "-m", "model=vae,mine", "seed=0,1")
    assert message == (
        "model=vae and model=mine: are different models of one name, vae, and would be averaged; name their "
        "classes apart, or vary keys one by one, as in model.hidden_size=50,100.\n"
    )


def test_a_model_cannot_choose_the_launcher_of_its_multirun(lab: Lab, folder: Path) -> None:
    own_file(folder, "model/packed.yaml", "defaults: [vae, override /hydra/launcher: stacked]\n")
    message = refused(lab, "--config-dir", "own", *TINY, "-m", "model=vae,packed")
    assert message.startswith("model/packed: sets hydra/launcher too late")


PARAMS = (
    GLOBAL
    + """\
hydra:
  mode: MULTIRUN
  sweeper: {params: {model.layers: "1,2", seed: "range(0,2)", model: cvae}}
"""
)


def test_the_axes_of_hydras_own_sweeper_are_axes(lab: Lab, folder: Path, planned: Planned) -> None:
    own_file(folder, "experiments/own.yaml", PARAMS)
    code, _, err = lab("--config-dir", "own", *TINY, "experiments=own")
    assert code == 0, err
    names = ["cvae L1 Z15 s0", "cvae L2 Z15 s0", "cvae L1 Z15 s1", "cvae L2 Z15 s1"]
    assert [job.name for job in planned[0][2]] == names
    code, _, err = lab("--config-dir", "own", *TINY, "experiments=own", "model=vae", "seed=3")
    assert code == 0, err
    assert [job.name for job in planned[1][2]] == ["vae L1 Z15 s3", "vae L2 Z15 s3"]
