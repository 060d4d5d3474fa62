"""`vae-lab explore`: which models, where the page goes, and what links to it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient

from vae_lab.cli.group import commands
from vae_lab.errors import UserError
from vae_lab.report.page import rendering
from vae_lab.studies.study import load_study
from vae_lab.tracking import EXPLORER_FILE, NOTE, StoredRun, reader
from vae_lab.trained.explorer.choice import chosen_runs, ends

pytestmark = pytest.mark.timeout(240)
ENDS = ["vae L2 Z15 s0", "vae L4 Z15 s0", "vae L3 Z10 s0", "vae L3 Z30 s0"]

SHOWN = ENDS[:2]

Explore = Callable[..., Result]


@pytest.fixture(scope="module")
def store(ablations: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A copy of the small study's store, to which pages are added."""
    copy = shutil.copytree(ablations, tmp_path_factory.mktemp("copy") / "lab")
    return f"sqlite:///{copy / 'mlflow.db'}"


@pytest.fixture
def explore(store: str, folder: Path) -> Explore:
    """`vae-lab explore ...` over the copied store, from an empty folder."""

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(commands, ["explore", "--no-open", "--uri", store, *arguments])

    return run


def test_a_study_shows_the_ends_of_what_it_varies(store: str) -> None:
    study = load_study(reader(store), "ablations")
    assert [run.name for run in ends(study)][:4] == ENDS
    assert len(ends(study)) == len(study.runs)
    assert [run.name for run in chosen_runs(reader(store), "ablations").runs] == ENDS


def test_models_are_chosen_by_name_and_by_id(store: str) -> None:
    runs = load_study(reader(store), "ablations").runs
    choice = chosen_runs(reader(store), "ablations", [runs[3].run_id, runs[0].name, runs[0].run_id])
    assert [run.run_id for run in choice.runs] == [runs[3].run_id, runs[0].run_id]
    alone = chosen_runs(reader(store), "cvae L3 Z30 s0", ["vae L3 Z15 s0"])
    assert ([run.name for run in alone.runs], alone.study) == (["cvae L3 Z30 s0", "vae L3 Z15 s0"], None)


@pytest.fixture
def comma(store: str) -> Iterator[StoredRun]:
    """The first run of the study whose name has commas, as has one with layers of several sizes."""
    client = MlflowClient(store)
    names = {
        run.run_id: run.name for run in load_study(reader(store), "ablations").runs if run.name not in SHOWN
    }
    for run_id, name in names.items():
        client.update_run(run_id, name=f"hidden_size=[32,16,8] {name}")
    yield next(run for run in load_study(reader(store), "ablations").runs if "," in run.name)
    for run_id, name in names.items():
        client.update_run(run_id, name=name)


def test_a_name_with_commas_is_one_of_several_names(store: str, comma: StoredRun) -> None:
    first = "vae L2 Z15 s0"
    for name in ("ablations", first):
        for text in (comma.name, f"{comma.name},{first}", f"{first}, {comma.name} ,{comma.run_id}"):
            runs = [run.name for run in chosen_runs(reader(store), name, [text]).runs]
            assert {*runs, first} == {comma.name, first}, text
    with pytest.raises(UserError, match=r"5 runs; at most 4"):
        chosen_runs(reader(store), "ablations", [f"{comma.name},a,b,c,d"])


def test_what_is_said_of_other_models_can_be_asked_for(
    explore: Explore, store: str, comma: StoredRun
) -> None:
    said = explore("ablations", "--models", ",".join(SHOWN)).output
    (other,) = re.findall(r'--models "(.*),\.\.\."', said)
    assert other == comma.run_id
    assert f"of {comma.name} and" in said
    assert chosen_runs(reader(store), "ablations", [f"{other},{SHOWN[0]}"]).runs[0].run_id == comma.run_id


@pytest.mark.parametrize(
    ("name", "models", "message"),
    [
        ("ablations", ["vae L3 Z15"], "did you mean vae L3 Z15 s0"),
        ("ablations", list("abcde"), "5 runs; at most 4 models stand side by side"),
        ("ablation", [], "no run of that id or name"),
    ],
)
def test_a_wrong_name_is_named(store: str, name: str, models: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        chosen_runs(reader(store), name, models)


def test_a_study_gets_a_page_that_is_kept_and_linked(explore: Explore, store: str, folder: Path) -> None:
    result = explore("ablations", "--models", "vae L2 Z15 s0,cvae L3 Z15 s0")
    assert result.exit_code == 0, result.output
    first, others, kept = result.output.splitlines()
    assert first.startswith(str(folder / "explorer.html"))
    assert first.endswith("MB: vae L2 Z15 s0, cvae L3 Z15 s0")
    assert "and 7 more" in others
    parent = load_study(reader(store), "ablations").parent
    artifact = reader(store).download(parent.run_id, EXPLORER_FILE)
    written = (folder / "explorer.html").read_text(encoding="utf-8")
    assert written.startswith(artifact.read_text(encoding="utf-8"))
    link = f"{parent.run_id}/artifacts/{EXPLORER_FILE}"
    assert link in kept
    assert link in parent.tags[NOTE]
    page = reader(store).download(parent.run_id, rendering.ARTIFACT).read_text(encoding="utf-8")
    assert link in page


def test_a_run_gets_its_own_page_and_a_second_one_takes_its_place(
    explore: Explore, store: str, folder: Path
) -> None:
    assert explore("vae L3 Z15 s0").exit_code == 0
    result = explore("vae L3 Z15 s0")
    assert result.exit_code == 0, result.output
    (run,) = chosen_runs(reader(store), "vae L3 Z15 s0").runs
    assert run.tags[NOTE].count(EXPLORER_FILE) == 1
    assert "Held-out loss" in run.tags[NOTE]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ablations", "--out", "page.txt"], "--out page.txt: the page is HTML"),
        (["ablations", "--out", "no/page.html"], "there is no folder no"),
        (["nothing"], "no run of that id or name"),
    ],
)
def test_mistakes_are_said_before_anything_is_written(
    explore: Explore, folder: Path, arguments: list[str], message: str
) -> None:
    result = explore(*arguments)
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)
    assert not list(folder.iterdir())


def test_a_file_of_others_stays(explore: Explore, folder: Path) -> None:
    (folder / "explorer.html").write_text("mine")
    result = explore("vae L3 Z15 s0")
    assert isinstance(result.exception, UserError)
    assert "choose another name with --out" in str(result.exception)
    assert (folder / "explorer.html").read_text() == "mine"


def test_a_store_that_can_only_be_read_gets_no_page(
    explore: Explore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vae_lab.tracking import Store

    monkeypatch.setattr(Store, "refuses_writes", lambda self: "a read-only file system")
    result = explore("vae L3 Z15 s0")
    assert result.exit_code == 0
    assert "Not kept in" in result.output
    assert (folder / "explorer.html").exists()
