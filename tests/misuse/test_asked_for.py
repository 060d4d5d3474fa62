"""What is asked for is done, or refused in one line: nothing is ignored without a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.misuse.conftest import TINY, Answer, Lab, Planned, left_behind
from vae_lab.files import CONFIG_ROOT

SWEEPS = sorted(path.stem for path in (CONFIG_ROOT / "sweeps").glob("*.yaml"))


def refused(lab: Lab, *words: str) -> str:
    """Gives the one line with which a line is refused before anything is written."""
    before = left_behind(Path())
    code, out, err = lab(*words)
    assert (code, out, len(err.splitlines())) == (2, "", 1), err
    assert left_behind(Path()) == before
    return err.removeprefix("vae-lab: ")


def own_file(folder: Path, path: str, text: str) -> Path:
    file = folder / "own" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


# Swept groups of sweeps and studies


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["-m", "sweeps=depth,latent_size"], ["depth", "latent_size"]),
        (["sweeps=depth,latent_size"], ["depth", "latent_size"]),
        (["-m", "experiments=reference,recommended"], ["reference", "recommended"]),
        (["-m", "sweeps=choice(depth,seeds)"], ["depth", "seeds"]),
        (["-m", "sweeps=glob(*)"], SWEEPS),
        (["-m", "sweeps=glob(*,exclude=d*)"], [name for name in SWEEPS if name != "depth"]),
        (["-m", "sweeps=null,depth", "seed=0,1"], ["seed", "depth"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_each_of_several_sweeps_is_a_study_of_its_own(
    lab: Lab, planned: Planned, words: list[str], names: list[str]
) -> None:
    code, _, err = lab(*TINY, *words)
    assert code == 0, err
    assert [name for name, *_ in planned] == names


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-m", "sweeps=depth,depht"], "sweeps=depht: no such option; did you mean depth?"),
        (["-m", "sweeps=glob(zzz)"], "sweeps=glob(zzz): must be one value at least."),
        (["-m", "sweeps=interval(0,1)"], "sweeps=interval(0,1): this sweep takes lists"),
        (["-m", "sweep.cross={sweeps:[depth]}"], "sweep"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_one_of_several_sweeps_is_named_before_the_first_is_run(
    lab: Lab, folder: Path, planned: Planned, words: list[str], message: str
) -> None:
    code, _, err = lab(*TINY, *words)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1
    assert planned == []
    assert left_behind(folder) == []


def test_a_group_of_studies_is_no_axis(lab: Lab, folder: Path) -> None:
    own_file(
        folder,
        "sweeps/all.yaml",
        "# @package _global_\nsweep: {cross: {sweeps: [depth, seeds]}}\nhydra: {mode: MULTIRUN}\n",
    )
    assert refused(lab, "--config-dir", "own", *TINY, "sweeps=all").startswith("sweep: sweeps: is no axis")


def test_the_worst_of_several_studies_is_the_exit_code(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from vae_lab.jobs.lines import multirun

    names = []

    def failing(master: Any, *_: Any) -> None:
        names.append(master.hydra.runtime.choices.sweeps)
        if names[-1] == "depth":
            raise multirun.MultirunError("1 of 3 runs failed:")

    monkeypatch.setattr(multirun, "run_multirun", failing)
    assert lab(*TINY, "-m", "sweeps=depth,seeds")[0] == 1
    assert names == ["depth", "seeds"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("tracking.study=x", "tracking.study: unknown key"),
        ("tracking.run_name=x", "tracking.run_name=x: is for a single run; the runs of a multirun are"),
    ],
)
def test_a_name_that_a_multirun_does_not_take_is_refused(
    lab: Lab, folder: Path, word: str, message: str
) -> None:
    assert message in refused(lab, "-m", *TINY, "seed=0,1", word)


# Hydra's parts in a study's YAML


STACKED = """\
# @package _global_
defaults:
  - override /hydra/launcher: stacked
  - override /sweeps: seeds
hydra: {launcher: {workers: 3}}
"""


def test_a_study_chooses_its_launcher(lab: Lab, folder: Path, planned: Planned) -> None:
    own_file(folder, "experiments/own.yaml", STACKED)
    code, _, err = lab("--config-dir", "own", *TINY, "experiments=own")
    assert code == 0, err
    ((_, launcher, _),) = planned
    assert (launcher.stack, launcher.workers) == (16, 3)
    code, _, err = lab("--config-dir", "own", *TINY, "experiments=own", "hydra/launcher=workers")
    assert code == 0, err
    assert planned[-1][1].stack == 1


@pytest.mark.parametrize(
    "word",
    [
        *("hydra/launcher=ray", "hydra/launcher=workers", "hydra.launcher.workers=3"),
        *("++hydra.launcher.workers=3", "hydra.launcher={workers:3}", "hydra={launcher:{workers:3}}"),
        *("hydra/sweeper=basic", "hydra.sweeper.params=null", "hydra.sweep.dir=out", "max_seeds=30"),
    ],
)
def test_what_only_a_multirun_heeds_is_refused_for_a_single_run(lab: Lab, word: str) -> None:
    expected = f"{word}: is of a multirun; add -m, or leave it out.\n"
    assert refused(lab, *TINY, "seed=3", word) == expected
    assert refused(lab, *TINY, word, "hydra.mode=RUN") == expected


@pytest.mark.parametrize("line", [("-m", "seed=0,1"), ("experiments=own",), ("hydra.mode=MULTIRUN",)])
def test_a_launcher_is_taken_by_whatever_is_a_multirun(
    lab: Lab, folder: Path, planned: Planned, line: tuple[str, ...]
) -> None:
    own_file(folder, "experiments/own.yaml", STACKED)
    words = ("hydra/launcher=stacked", "hydra.launcher.workers=2")
    code, _, err = lab("--config-dir", "own", *TINY, *line, *words)
    assert code == 0, err
    assert planned[-1][1].workers == 2


@pytest.mark.parametrize(
    "part", ["hydra/launcher: basic", "hydra/sweeper: basic", "hydra/job_logging: default"]
)
def test_a_study_chooses_any_of_hydras_parts(lab: Lab, folder: Path, part: str) -> None:
    own_file(folder, "experiments/own.yaml", f"# @package _global_\ndefaults:\n  - override /{part}\n")
    code, out, err = lab("--config-dir", "own", "experiments=own", "--cfg", "hydra")
    assert code == 0, err
    group, option = part.split(": ")
    assert f"{group}: {option}" in out  # among the choices


# A group of which nothing is chosen


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["-m", "scheduler=null,cosine"], ["scheduler=none vae L3 Z15 s0", "scheduler=cosine vae L3 Z15 s0"]),
        (["-m", "scheduler=none,cosine"], ["scheduler=none vae L3 Z15 s0", "scheduler=cosine vae L3 Z15 s0"]),
        (
            ["-m", "scheduler=choice(cosine,none)"],
            ["scheduler=cosine vae L3 Z15 s0", "scheduler=none vae L3 Z15 s0"],
        ),
        (["-m", "scheduler=null", "seed=0,1"], ["vae L3 Z15 s0", "vae L3 Z15 s1"]),
        (
            ["experiments=own"],
            ["scheduler=none vae L3 Z15 s0", "scheduler=cosine vae L3 Z15 s0", "still vae L3 Z3 s0"],
        ),
        (
            ["experiments=own", "sweeps=null", "seed=0,1", "scheduler=cosine"],
            ["vae L3 Z15 s0", "vae L3 Z15 s1"],
        ),
    ],
    ids=lambda value: " ".join(value),
)
def test_no_schedule_is_a_value_like_any_other(
    lab: Lab, folder: Path, planned: Planned, words: list[str], names: list[str]
) -> None:
    own_file(
        folder,
        "experiments/own.yaml",
        "# @package _global_\ndefaults:\n  - override /sweeps: own\nhydra: {mode: MULTIRUN}\n",
    )
    own_file(
        folder,
        "sweeps/own.yaml",
        "# @package _global_\nsweep:\n  one_at_a_time: {scheduler: [null, cosine]}\n"
        "  also: {still: {scheduler: null, model.latent_size: 3}}\n",
    )
    code, _, err = lab("--config-dir", "own", *TINY, *words)
    assert code == 0, err
    assert [job.name for job in planned[0][2]] == names


@pytest.mark.parametrize(
    "word", ["scheduler=null", "scheduler=none", "sweeps=null", "experiments=null", "~scheduler"]
)
def test_nothing_can_be_chosen_of_a_group_that_needs_nothing(answer: Answer, word: str) -> None:
    assert answer(*TINY, word) == ""


@pytest.mark.parametrize("option", ["null", "none"])
def test_a_study_takes_the_schedule_away_again(lab: Lab, folder: Path, option: str) -> None:
    own_file(
        folder,
        "experiments/own.yaml",
        f"# @package _global_\ndefaults:\n  - override /scheduler: {option}\n",
    )
    code, out, err = lab("--config-dir", "own", "experiments=own", "--cfg", "job")
    assert (code, err) == (0, "")
    assert "scheduler: null" in out


def test_null_is_no_option_of_a_group_that_needs_one(answer: Answer) -> None:
    assert "model=null: no such option. Valid: cvae, vae." in answer(*TINY, "model=null")
    assert "model=null: no such option. Valid: cvae, vae." in answer(*TINY, "-m", "model=vae,null")
