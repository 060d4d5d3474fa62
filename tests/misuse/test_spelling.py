"""What the words of a line mean: texts in quotes, keys given twice, keys that only some options have."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.misuse.conftest import TINY, Answer, Lab, Planned
from tests.misuse.test_asked_for import own_file, refused
from vae_lab.config import parameters
from vae_lab.jobs.job import Job

TEXTS = [
    "größe",
    "a=b",
    "par(1)",
    "it's",
    "a b,c",
    "#x",
    "a;b",
    "[x",
    "李明",
    'say "it"',
    "{a",
    "x!",
    "50%<>",
]


def recorded(jobs: list[Job], key: str) -> list[str]:
    return [parameters(job.settings)[key] for job in jobs]


# Texts


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_that_needs_quotes_is_told_with_the_line_that_works(
    lab: Lab, folder: Path, planned: Planned, text: str
) -> None:
    message = refused(lab, f"data.root={text}")
    match = re.search(r"write (.*?)\.?$", message.strip())
    assert match, message
    (word,) = shlex.split(match[1])
    code, _, err = lab("-m", *TINY, word)
    assert code == 0, err
    assert recorded(planned[0][2], "data.root") == [text]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("study.name", "1.10"), ("study.name", "2024_01"), ("tracking.experiment", "1e3")],
        *[
            ("tracking.experiment", "true"),
            ("data.root", ".5"),
            ("data.root", "+1"),
            ("study.question", "007.0"),
        ],
    ],
)
def test_a_text_that_looks_like_a_number_is_kept_as_it_is_typed(
    lab: Lab, planned: Planned, key: str, value: str
) -> None:
    code, _, err = lab("-m", *TINY, f"{key}={value}")
    assert code == 0, err
    group, leaf = key.split(".")
    assert planned[0][2][0].settings[group][leaf] == value


def test_texts_in_a_list_are_kept_as_they_are_typed(lab: Lab, planned: Planned) -> None:
    for word in ("data.root=2024_01,1e3,b", "data.root=choice(2024_01, 1e3, b)"):
        code, _, err = lab("-m", *TINY, word)
        assert code == 0, err
        assert recorded(planned[-1][2], "data.root") == ["2024_01", "1e3", "b"]
    assert "put each in quotes" in refused(lab, "-m", "data.root=choice([1],2e3)")


def test_a_folder_with_a_comma_in_its_name_is_one_folder(lab: Lab, folder: Path, planned: Planned) -> None:
    assert "'data.root=\"a,b\"'" in refused(lab, "data.root=a,b")
    (folder / "a,b").mkdir()
    for words in (["-m", "data.root=a,b"], ["data.root=a,b", "sweeps=seeds"]):
        code, _, err = lab(*TINY, *words)
        assert code == 0, err
        assert set(recorded(planned[-1][2], "data.root")) == {"a,b"}
    code, _, err = lab("-m", *TINY, "data.root=a,c")
    assert code == 0, err
    assert recorded(planned[-1][2], "data.root") == ["a", "c"]


def test_texts_of_an_axis_in_yaml_are_quoted_for_the_reader(lab: Lab, folder: Path, planned: Planned) -> None:
    texts = [*TEXTS, "2024_01", "1e3", "null", "true", "a,b", "a\\", "range(1,3"]
    axis = ", ".join(f"'{text.replace(chr(39), chr(39) * 2)}'" for text in texts)
    own_file(folder, "sweeps/own.yaml", f"# @package _global_\nsweep: {{cross: {{data.root: [{axis}]}}}}\n")
    code, _, err = lab("--config-dir", "own", "-m", *TINY, "sweeps=own")
    assert code == 0, err
    assert recorded(planned[0][2], "data.root") == texts
    own_file(folder, "sweeps/one.yaml", "# @package _global_\nsweep: {cross: {data.root: größe}}\n")
    assert lab("--config-dir", "own", "-m", *TINY, "sweeps=one")[0] == 0
    assert recorded(planned[-1][2], "data.root") == ["größe"]


def test_values_in_quotes_stand_in_tables_without_them(folder: Path) -> None:
    from vae_lab.jobs.lines.rounds import _texts

    assert _texts({"data.root": ['"größe"', "b"]}) == {"data.root": ["größe", "b"]}


# What is not of Hydra's grammar


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.layers=3;4"], "model.layers=3;4: must be a whole number from 1 to 1000."),
        (["seed=rang(0,3)"], "seed=rang(0,3): must be a whole number from 0 to 2^63 - 1."),
        (["-m", "seed={0,1}"], "seed={0,1}: must be a whole number from 0 to 2^63 - 1."),
        (["-m", "seed=0..4"], "seed=0..4: must be a whole number from 0 to 2^63 - 1."),
        (
            ["-m", "seed=[0,1]"],
            "seed=[0, 1]: must be a whole number from 0 to 2^63 - 1; runs with each of them",
        ),
        (["-m", "seed=0,", "1"], "seed=0,: ends with a comma; a list of values is written without spaces"),
        (["model.layers", "=", "3"], "model.layers: not of the form KEY=VALUE, which has no spaces."),
        (
            ["--model.layers=3"],
            "--model.layers=3: is no flag; keys are set without dashes, as in model.layers=3",
        ),
        (["--model.latent-size", "3"], "as in model.latent_size=3"),
        (["latent_size=3"], "latent_size: unknown key; did you mean model.latent_size?"),
        (["lr=0.1"], "lr: unknown key; did you mean optimizer.lr?"),
        (
            ["experiment=reference"],
            "experiment: unknown key; did you mean experiments or tracking.experiment?",
        ),
        (["+experiments=reference"], "an option is chosen without a plus, as in experiments=reference"),
        (["sweep=depth"], "sweep=depth: must be a mapping of keys; an option is chosen by sweeps=depth"),
        (["model.hidden_size.0=300"], "model.hidden_size is set as a whole and must be a whole number"),
        (["hydra.output_subdri=x"], "hydra has no such key; did you mean output_subdir?"),
        (
            ["-m", "hydra.launcher.worker=3", "seed=0,1"],
            "hydra.launcher has no such key; did you mean workers?",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_not_read_is_told_with_what_is_written_instead(
    lab: Lab, folder: Path, words: list[str], message: str
) -> None:
    assert message in refused(lab, *words)


@pytest.mark.parametrize("word", ["optimizer.weight_decay=0.1", "-m optimizer.weight_decay=0,0.1"])
def test_a_key_that_the_class_has_and_the_yaml_has_not_needs_a_plus(
    lab: Lab, folder: Path, planned: Planned, word: str
) -> None:
    *flags, override = word.split()
    message = refused(lab, *flags, *TINY, override)
    assert message.startswith(f"{override}: optimizer has no such key. Valid: fused, lr. To add it write ")
    code, _, err = lab("-m", *TINY, shlex.split(message)[-1])
    assert code == 0, err
    assert "0.1" in recorded(planned[0][2], "optimizer.weight_decay")


# Keys given twice


@pytest.mark.parametrize(
    ("words", "said", "names"),
    [
        (
            ["-m", "seed=0", "seed=1", "seed=2"],  # what a shell makes of seed={0,1,2}
            "seed=0, seed=1 are replaced by seed=2. For runs with each of them: -m seed=0,1,2",
            ["vae L3 Z15 s2"],
        ),
        (
            ["-m", "seed=0,1", "seed=2,3"],
            "seed=0,1 is replaced by seed=2,3.",
            ["vae L3 Z15 s2", "vae L3 Z15 s3"],
        ),
        (["-m", "seed=3", "++seed=4"], "seed=3 is replaced by ++seed=4.", ["vae L3 Z15 s4"]),
        (["-m", "model=vae", "model=cvae"], "model=vae is replaced by model=cvae.", ["cvae L3 Z15 s0"]),
        (
            ["-m", "seed=1,1,1"],
            "seed=1,1,1: 1 several times is one run; runs are repeated with other seeds, as in seeds=5.",
            ["vae L3 Z15 s1"],
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_the_last_word_replaces_is_said(
    lab: Lab,
    planned: Planned,
    caplog: pytest.LogCaptureFixture,
    words: list[str],
    said: str,
    names: list[str],
) -> None:
    code, _, err = lab(*TINY, *words)
    assert code == 0, err
    assert said in caplog.text
    assert [job.name for job in planned[0][2]] == names


def test_mappings_given_one_after_the_other_are_one_in_a_multirun_too(lab: Lab, planned: Planned) -> None:
    words = ("optimizer={lr:0.1}", "optimizer={fused:false}", "train.epochs=2", "train={batch_size:7}")
    code, _, err = lab("-m", *TINY, *words, "train.epochs=3", "seed=0,1")
    assert code == 0, err
    for job in planned[0][2]:
        params = parameters(job.settings)
        assert (params["optimizer.lr"], params["optimizer.fused"]) == ("0.1", "False")
        assert (params["train.batch_size"], params["train.epochs"]) == ("7", "3")


# Keys that only some options of a swept group have


def test_a_key_of_swept_options_may_be_set_though_the_base_has_it_not(lab: Lab, planned: Planned) -> None:
    code, _, err = lab("-m", *TINY, "scheduler=step,multistep", "scheduler.gamma=0.5")
    assert code == 0, err
    assert recorded(planned[0][2], "scheduler.gamma") == ["0.5", "0.5"]
    code, _, err = lab("-m", *TINY, "optimizer=sgd,adam", "optimizer.lr=0.5")
    assert code == 0, err
    assert all("++" not in word for job in planned[1][2] for word in job.overrides)  # which all of them have


def test_an_option_that_cannot_take_the_key_is_named(answer: Answer) -> None:
    message = answer("-m", *TINY, "optimizer=sgd,adam", "optimizer.momentum=0.5")
    assert message == "" or "optimizer.momentum=0.5" in message
