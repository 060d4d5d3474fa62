"""Every command of the README works, in its order and in one folder, on the small digits."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.conftest import SMALL, trained
from tests.house import ROOT
from vae_lab.cli.group import commands

FEWER = {  # words of a command, and what stands in their place to make it quick
    "seeds=10": "seeds=1",
    "evaluation=full": "evaluation=quick",
    "seed=0,1,2": "seed=0,1",
    "mnist": "digits",
}
ADDED = {"plan": SMALL, "evaluate": ("evaluation=quick", "evaluation.posterior_draws=2")}
WITHOUT_END = "ui"  # serves until it is stopped; the tests of the browser run it

pytestmark = pytest.mark.timeout(300)


def lines() -> list[list[str]]:
    """The words behind `vae-lab` in each command of the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands_given = re.findall(r"^    (?:source <\()?vae-lab ([^#\n)]+)", text, re.MULTILINE)
    return [[FEWER.get(word, word) for word in shlex.split(line)] for line in commands_given]


def of_training(words: list[str]) -> bool:
    return words[0] == "train" and "--help" not in words


@pytest.fixture(scope="module")
def trained_by_readme(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every line has run that trains."""
    folder = tmp_path_factory.mktemp("readme")
    for words in filter(of_training, lines()):
        own = {word.partition("=")[0] for word in words}
        extras = (*SMALL, "seeds=1") if "experiments" in own else SMALL
        trained(folder, *words[1:], *(extra for extra in extras if extra.partition("=")[0] not in own))
    return folder


def test_every_command_of_the_readme_works(trained_by_readme: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained_by_readme)
    monkeypatch.setenv("XDG_STATE_HOME", str(trained_by_readme / "state"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    asked = [words for words in lines() if not of_training(words) and words[0] != WITHOUT_END]
    assert len(asked) >= 17
    for words in asked:
        result = CliRunner().invoke(commands, [*words, *ADDED.get(words[0], ())])
        assert result.exit_code == 0, f"{' '.join(words)}: {result.output} {result.exception}"
        assert result.output.strip() or words[0] == "sync", words
