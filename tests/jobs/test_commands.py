"""The recorded command gives the same runs again: typed, it finds them there already."""

from __future__ import annotations

import html
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from vae_lab.cli.group import commands
from vae_lab.tracking import COMMAND, NOTE, RUN, SWEEP, Store, StoredRun

Lab = Callable[..., tuple[int, str, str]]
TINY = (
    "data=digits",
    "model.hidden_size=16",
    "train.epochs=1",
    "train.device=cpu",
    "evaluation.pictures=false",
)
OWN = {
    "model/narrow.yaml": "# Few latent dimensions.\ndefaults: [vae]\nlatent_size: 2\n",
    "mine.yaml": "# Few dimensions.\ndefaults: [config, _self_]\nmodel: {latent_size: 3}\n",
    "experiments/two.yaml": (
        "# @package _global_\n# Two seeds of two sizes.\nseeds: 2\nstudy: {name: two}\n"
        "sweep: {cross: {model.latent_size: [2, 3]}}\nhydra: {mode: MULTIRUN}\n"
    ),
    "experiments/stack.yaml": (
        "# @package _global_\n# Two seeds as one.\ndefaults:\n  - override /hydra/launcher: stacked\n"
        "sweep: {replicate: {seed: [0, 1]}}\nhydra: {mode: MULTIRUN}\n"
    ),
}
LINES = [
    "model=cvae",
    "--config-dir own model=narrow",
    "--config-dir own --config-name mine",
    "hydra.searchpath=[FOLDER/own] model=narrow",
    "hydra.searchpath=[file://own] hydra.verbose=false model=narrow",
    "-m hydra/launcher=stacked hydra.launcher.stack=2 seed=0,1",
    "--config-dir own experiments=two",
    "--config-dir own experiments=two hydra.mode=RUN seeds=null",
    "--config-dir own -m --config-name mine hydra.launcher.workers=1 seed=0,1",
    "--config-dir own experiments=stack",
    "-m +optimizer.weight_decay=0,0.1",
    "-m scheduler=null,cosine tracking.experiment='a lab'",
    "-m 'model.hidden_size=choice([16,8,4],16)' ++model.latent_size=2",
    "model.activation='\"silu\"' +tracking.run_name=\"'it is'\"",
]


def records(kind: str) -> list[StoredRun]:
    return [run for run in Store.open().records() if run.kind == kind]


def own_configs(folder: Path) -> None:
    for path, text in OWN.items():
        (folder / "own" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "own" / path).write_text(text)


@pytest.mark.parametrize("line", LINES)
def test_the_recorded_command_finds_what_it_is_recorded_with(lab: Lab, folder: Path, line: str) -> None:
    own_configs(folder)
    words = shlex.split(line.replace("FOLDER", str(folder)))
    taken = [word for word in TINY if not any(word.split("=")[0] in given for given in words)]
    code, _, err = lab(*words, *taken)
    assert code == 0, err
    runs, parents = records(RUN), records(SWEEP)
    for parent in parents:
        _, _, err = again(lab, parent.tags[COMMAND])
        assert f"{len(runs)} of {len(runs)} runs are there already, nothing is left to train" in err
    for run in runs:
        assert f"`{run.tags[COMMAND]}`" in run.tags[NOTE]
        assert "launcher" not in run.tags[COMMAND]
        _, _, err = again(lab, run.tags[COMMAND])
        assert f"run {run.run_id}." in err
    assert len(records(RUN)) == len(runs)


def again(lab: Lab, command: str) -> tuple[int, str, str]:
    program, train, *words = shlex.split(command)
    assert (program, train) == ("vae-lab", "train")
    code, out, err = lab(*words)
    assert code == 0, err
    return code, out, err


def test_page_and_status_show_the_parents_command(lab: Lab, folder: Path) -> None:
    own_configs(folder)
    line = "--config-dir own -m hydra/launcher=stacked model=narrow seed=0,1"
    code, _, err = lab(*line.split(), *(word for word in TINY))
    assert code == 0, err
    store = Store.open()
    (parent,), runs = records(SWEEP), records(RUN)
    command = parent.tags[COMMAND]
    for part in (f"--config-dir {folder}/own", "hydra/launcher=stacked", "model=narrow", "seed=0,1"):
        assert part in command
    page = store.download(parent.run_id, "report.html").read_text()
    assert html.escape(command) in page
    store.client.set_terminated(runs[0].run_id, "KILLED")
    shown = CliRunner().invoke(commands, ["status", "seed"])
    assert "".join(command.split()) in "".join(shown.output.split())


@pytest.mark.parametrize("line", ["", "-m seed=0,1"])
@pytest.mark.parametrize("prefix", ["", "+", "++"])
def test_no_password_of_a_store_is_recorded(lab: Lab, folder: Path, line: str, prefix: str) -> None:
    uri = f"sqlite:///{folder}/mlflow.db"
    code, _, err = lab(*TINY, f"{prefix}tracking.uri={uri}", *line.split())
    assert code == 0, err
    for run in Store.open(uri).records():
        assert uri not in run.tags[COMMAND]
        assert uri not in run.tags[NOTE]
