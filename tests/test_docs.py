"""Every command of README and docs works: those of `vae-lab` run, in one folder, with less to do.

They run in the order of the pages, on the small digits, with fewer points, seeds and epochs (`FEWER`,
`SHORT`), equal ones once. Only read by whoever would run them are:

- lines of `vae-lab train` that a text mentions, which are composed as they stand;
- `vae-lab ui` and `server`, which serve until they are stopped (run in tests/browser and tests/server);
- `make`, `python -m` and `pytest`, which install, fetch and measure for minutes or hours;
- `pip`, and MLflow's and `curl` (tests/trained/onnx loads and serves the same models).

Words that name a cluster are left out: tests/jobs trains on Ray, nothing on Slurm. The files and commands of
extending.md run in tests/own, those of search.md in tests/search, programs and the notebook in tests/trained
and tests/server.
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
import subprocess
import tomllib
import warnings
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

from tests.conftest import trained
from tests.guide import NAME, lines, pages, scaled, trains, words_of
from tests.house import ROOT
from vae_lab.cli.group import NAMES, commands
from vae_lab.cli.train import run_hydra

PAGES = {page.name: page for page in pages()}
ELSEWHERE = {"extending.md", "search.md"}  # need the files that stand in them: tests/own, tests/search
SERVE = {"ui", "server"}  # until they are stopped
MEASURED = (
    "evaluation=quick",
    "evaluation.posterior_draws=2",
    "evaluation.samples=100",
    "evaluation.judges=1",
)
SLURM = (  # wants another package and a cluster
    *("hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=60"),
    "+hydra.launcher.additional_parameters.requeue=true",
)
FEWER = {  # words of a command, and what stands in their place to make it quick
    **dict.fromkeys(("seeds=10", "seeds=auto", "seeds=2"), ("seeds=1",)),
    "seed=0,1,2": ("seed=0,1",),
    "mnist": ("digits",),
    "hydra/launcher=ray": (),  # tests/jobs opens a cluster
    **dict.fromkeys(SLURM, ()),
    "evaluation=full": MEASURED,
    "evaluation=annealed": ("evaluation=quick", "evaluation.annealed_images=2", "evaluation.temperatures=4"),
    "experiments=reference": ("experiments=reference", "model.layers=2,3", "model.latent_size=15"),
    "experiments=latent_oracle": ("experiments=latent_oracle", "model.latent_size=2,5"),
    "experiments=why_depth": ("experiments=why_depth", "model.init=default,orthogonal", "optimizer.lr=0.001"),
}
SHORT = (
    *("data=digits", "model.hidden_size=16", "train.epochs=1", "train.device=cpu"),
    "evaluation.pictures=false",
)
IN_PLACE = {  # of what a reader puts in
    r"\bSTUDY --importance": "'model x layers x seed' --importance",  # wants every combination
    r"\b(STUDY|RUN_OR_STUDY|NAME)\b": "reference",
    r"\bRUN\b": "reference:best",
    r"train \.\.\.": "train experiments=reference",
    r"\bOLD\b": "sqlite:///old.db",
    r"\bNEW\b": "sqlite:///mlflow.db",
    r"\bFOLDER\b": "folder",
    r"\bN\b": "10",
    r"\bann/": "",  # whose study it is, in a store of several people
}
EXPORTED = ["RAY_worker_niceness", *(f"MLFLOW_TRACKING_{name}" for name in ("URI", "USERNAME", "PASSWORD"))]
SHOWN = {  # first lines of what is neither a command, nor a file, nor a program
    "doctor.md": ["✗ fault=kl_mean cvae L3 Z15 s0: 2 faults, 2 notes  (made with fault=kl_mean)"],
    "extending.md": ["my_models.py", "also:"],
    "giving_away.md": ['# {"predictions": {"images": [[[[0.0, 0.01, ...]]]]}}'],
    "scale.md": [
        "#!/bin/bash",
        'head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
        "kubectl exec -it HEAD-POD -- vae-lab train experiments=reference hydra/launcher=",
    ],
    "server.md": ["[mlflow]"],
    "reliability.md": ["http://127.0.0.1:5000 takes no records (connection refused): training goes on, they"],
    "statistics.md": ["study:", "1 + tanh(c d_i / r_i)."],
}
PROGRAMS = {"doctor.md": 1, "giving_away.md": 1, "server.md": 1}  # run in tests/trained and tests/server

pytestmark = pytest.mark.timeout(900)


def once(given: Iterable[list[str]]) -> list[list[str]]:
    """The lines without those that have the words of an earlier one."""
    return [*{frozenset(words): words for words in given}.values()]


def quick(words: list[str]) -> list[str]:
    """The words of a command with less to do."""
    if words[0] == "evaluate":
        return scaled(words, FEWER, MEASURED)
    if words[0] not in ("train", "plan") or "--help" in words:
        return scaled(words, FEWER)
    study = any(word.startswith("experiments=") for word in words)
    return scaled(words, FEWER, (*SHORT, "seeds=1") if study else SHORT)


def of_the_lab(**where: bool) -> list[list[str]]:
    """The commands of `vae-lab` on all pages but `ELSEWHERE`."""
    own = [page for name, page in PAGES.items() if name not in ELSEWHERE]
    return [words for page in own for words in lines(page, "vae-lab", IN_PLACE, **where)]


TRAINING = once(quick(words) for words in of_the_lab(text=False) if trains(words))
COMPOSED = once(words for words in of_the_lab(blocks=False) if trains(words))
ASKING = once(quick(words) for words in of_the_lab() if not trains(words))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every command has run that trains."""
    folder = tmp_path_factory.mktemp("docs")
    for words in TRAINING:
        trained(folder, *words[1:])
    Image.new("RGB", (40, 30), "white").save(folder / "image.png")
    return folder


@pytest.fixture
def _inside(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lab)
    monkeypatch.setenv("XDG_STATE_HOME", str(lab / "state"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("webbrowser.open", lambda address: True)


@pytest.mark.usefixtures("_inside")
@pytest.mark.parametrize("words", [words for words in ASKING if words[0] not in SERVE], ids=shlex.join)
def test_a_command_answers(words: list[str]) -> None:
    result = CliRunner().invoke(commands, words)
    assert result.exit_code == 0, f"{result.output} {result.exception}"
    assert result.output.strip() or words[0] == "sync"


@pytest.mark.parametrize("words", COMPOSED, ids=shlex.join)
def test_a_command_that_a_text_mentions_would_train(folder: Path, words: list[str]) -> None:
    def do(config: object) -> None: ...

    do.of_multirun = lambda master, grid, launcher: grid(1)  # type: ignore[attr-defined]
    assert run_hydra(words[1:], do) == 0


@pytest.mark.parametrize(
    "file", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda file: file.name
)
def test_the_rows_of_a_table_have_as_many_cells(file: Path) -> None:
    blocks = re.findall(r"(?:^\|.*\n)+", file.read_text(), flags=re.MULTILINE)
    for block in blocks:
        widths = {len(re.findall(r"(?<!\\)\|", re.sub(r"`[^`]*`", "", row))) for row in block.splitlines()}
        assert len(widths) == 1, block


def test_nothing_is_left_over() -> None:
    """A block that is none of these, or a command of another program, is one that no test knows."""
    assert {name: [line[:80] for line in page.shown] for name, page in PAGES.items() if page.shown} == {
        name: [line[:80] for line in shown] for name, shown in SHOWN.items()
    }
    assert {name: len(page.programs) for name, page in PAGES.items() if page.programs} == PROGRAMS
    assert {name for name, page in PAGES.items() if page.files} == ELSEWHERE
    assert len(TRAINING) >= 12
    assert len(ASKING) >= 28


def of_lab(words: list[str]) -> None:
    of_click(commands, words)


def of_mlflow(words: list[str]) -> None:
    with warnings.catch_warnings(action="ignore"):  # of its own type hints
        from mlflow.cli import cli

    of_click(cli, words)


def of_click(group: click.Command, words: list[str]) -> None:
    context = click.Context(group)
    while isinstance(context.command, click.Group):
        name, command, words = context.command.resolve_command(context, words)
        assert command is not None
        context = command.make_context(name, [*words], parent=context)


def of_make(words: list[str]) -> None:
    made = subprocess.run(
        ["make", "--dry-run", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr


def of_python(words: list[str]) -> None:
    """A module that can be run; options are taken by its `parse`."""
    name, *options = words[words.index("-m") + 1 :]
    spec = find_spec(name)
    if spec is not None and spec.submodule_search_locations:
        spec = find_spec(f"{name}.__main__")
    assert spec is not None
    runs = spec.name.endswith(".__main__") or '__name__ == "__main__"' in Path(spec.origin or "").read_text()
    assert runs, f"{name} is no program"
    if options:
        try:
            import_module(spec.name).parse(options)
        except SystemExit as end:
            assert not end.code, "only --help ends without a mistake"  # noqa: PT017


def of_pip(words: list[str]) -> None:
    """Packages: the lab with extras that it has, all that one extra names, or none that any does."""
    assert words[0] == "install"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [Requirement(word) for word in words[1:]]
    if [canonicalize_name(package.name) for package in asked] == [canonicalize_name(project["name"])]:
        assert asked[0].extras <= extras.keys()
        return
    named = [{Requirement(package).name for package in extra} for extra in extras.values()]
    names = {package.name for package in asked}
    assert names in named or not names & {*itertools.chain(*named)}


def of_curl(words: list[str]) -> None:
    assert words[0] == "http://127.0.0.1:5001/invocations", "where `mlflow models serve` is told to serve"
    body = json.loads(words[words.index("-d") + 1].replace(", ...", ""))
    assert body["inputs"].keys() == {"z", "label"}


def of_export(words: list[str]) -> None:
    assert {word.partition("=")[0] for word in words} <= {*EXPORTED}


READERS: dict[str, Callable[[list[str]], None]] = {
    "vae-lab": of_lab,
    "make": of_make,
    "python": of_python,
    "mlflow": of_mlflow,
    "pip": of_pip,
    "curl": of_curl,
    "export": of_export,
}


def only_read() -> list[tuple[str, list[str]]]:
    """Program and words of every command that is not run."""
    given = {
        program: once(words for page in PAGES.values() for words in lines(page, program, IN_PLACE))
        for program in READERS
    }
    given["vae-lab"] = [words for words in ASKING if words[0] in SERVE]
    return [(program, words) for program, commands_given in given.items() for words in commands_given]


def in_words(part: str | list[str]) -> str:
    return part if isinstance(part, str) else shlex.join(part)


@pytest.mark.parametrize(("program", "words"), only_read(), ids=in_words)
def test_a_command_that_is_not_run_would_be_understood(program: str, words: list[str]) -> None:
    READERS[program](words)


def test_the_tests_are_there_and_take_the_options(pytestconfig: pytest.Config) -> None:
    given = [words for page in PAGES.values() for words in lines(page, "pytest", IN_PLACE)]
    assert given
    for word in itertools.chain(*given):
        if word.startswith("--"):
            pytestconfig.getoption(word)
        assert not word.startswith("tests/") or (ROOT / word).exists()


def test_every_program_and_every_name_of_a_command_is_known() -> None:
    given = [words[0] for page in PAGES.values() for words in words_of((*page.commands, *page.mentioned), {})]
    assert {Path(program).name for program in given} <= {*READERS, "pytest"}
    names = [NAME.fullmatch(line) for page in PAGES.values() for line in page.mentioned]
    assert {name[1] for name in names if name} <= {*NAMES}


def test_the_tests_that_the_list_of_misuses_names_are_there() -> None:
    folder = Path(__file__).parent
    named = re.findall(r"`((?:\w+/)*test_\w+\.py)`", (folder / "misuse" / "README.md").read_text())
    homes = {path: folder if "/" in path else folder / "misuse" for path in named}
    assert len(homes) > 9
    assert [path for path, home in homes.items() if not (home / path).is_file()] == []
