"""A project's folder is moved, renamed, copied, shared or made read-only."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
import requests

from tests.misuse.conftest import TINY, VAE_LAB, Lab, browsed
from vae_lab import load
from vae_lab.cli import train
from vae_lab.tracking import KIND, RUN, SWEEP, Store, reader

STUDY = ("train", "-m", *TINY, "seed=0,1", "study.name=moved")


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project's folder with a study, that has another name and place since; its first one is beside it."""
    root = tmp_path_factory.mktemp("projects")
    (root / "first").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root / "first")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert train.run_hydra(list(STUDY[1:])) == 0
        patch.chdir(root)
        (root / "first").rename(root / "größere Läufe 100%")
    return root / "größere Läufe 100%"


@pytest.fixture
def elsewhere(moved: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the moved folder, in which the test is."""
    shutil.copytree(moved, folder / "copy")
    monkeypatch.chdir(folder / "copy")
    return folder / "copy"


def content(folder: Path) -> dict[str, str]:
    """A digest of every file in a folder."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_a_moved_folder_is_read_where_it_is(
    moved: Path, folder: Path, command: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(moved)
    before = content(moved)
    for line in (
        ["compare", "moved"],
        ["status", "moved"],
        ["status"],
        ["report", "moved", "--output", f"{folder}/p.html"],
    ):
        code, out, err = command(*line)
        assert (code, err) == (0, ""), line
        assert out
    code, _, err = command("verdict", "moved")
    assert "no artifact" not in err
    run = reader().tagged(KIND, RUN)[0].run_id
    assert load(run).latent_size == 15
    file = reader().download(run, "model/model.pt")
    assert file == moved / "mlflow_artifacts" / run / "artifacts" / "model" / "model.pt"
    assert Store.open().download(run, "model/model.pt") == file
    assert content(moved) == before
    assert [path.name for path in moved.parent.iterdir()] == [moved.name]


def test_a_moved_study_is_widened_and_measured_where_it_is(
    moved: Path, folder: Path, command: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(moved, folder / "again")
    gone = folder / "again"
    monkeypatch.chdir(gone)
    assert (
        command("evaluate", "moved", "evaluation=quick", "evaluation.posterior_draws=1", "train.device=cpu")[
            0
        ]
        == 0
    )
    gone = gone.rename(folder / "moved again")
    monkeypatch.chdir(gone)
    assert command(*STUDY[:-2], "seed=0,1,2", STUDY[-1])[0] == 0
    assert sorted(path.name for path in folder.iterdir()) == ["moved again"]
    store = Store.open()
    for run in (*store.tagged(KIND, RUN), *store.tagged(KIND, SWEEP)):
        place = store.client.get_run(run.run_id).info.artifact_uri  # as MLflow's own client and UI see it
        assert place == (gone / "mlflow_artifacts" / run.run_id / "artifacts").as_uri()
        assert store.client.list_artifacts(run.run_id)
    assert store.experiment("vae_lab").artifact_location == (gone / "mlflow_artifacts").as_uri()


def test_what_is_done_in_a_copy_leaves_the_original_as_it_was(
    moved: Path, elsewhere: Path, command: Lab
) -> None:
    before = content(moved)
    run = reader().tagged(KIND, RUN)[0].run_id
    assert reader().download(run, "config.yaml").is_relative_to(elsewhere)
    assert (
        command("evaluate", "moved", "evaluation=quick", "evaluation.posterior_draws=1", "train.device=cpu")[
            0
        ]
        == 0
    )
    assert command(*STUDY[:-2], "seed=0,1,2", STUDY[-1])[0] == 0
    assert content(moved) == before
    assert [path.name for path in moved.parent.iterdir()] == [moved.name]
    copied, original = (len(list((place / "mlflow_artifacts").iterdir())) for place in (elsewhere, moved))
    assert copied == original + 2


def test_a_database_that_was_copied_alone_finds_what_it_needs_and_writes_beside_itself(
    elsewhere: Path, folder: Path, command: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store.open().settle()
    shutil.copy(elsewhere / "mlflow.db", folder)
    before = content(elsewhere)
    monkeypatch.chdir(folder)
    assert command("compare", "moved")[0] == 0
    assert not (folder / "mlflow_artifacts").exists()
    assert command(*STUDY[:-2], "seed=0,1,2", STUDY[-1])[0] == 0
    assert command("report", "moved", "--output", "page.html")[0] == 0
    assert content(elsewhere) == before


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_an_interrupted_run_goes_on_after_its_last_epoch_where_its_folder_is(
    folder: Path, database: Path, how: str
) -> None:
    """By processes of their own: MLflow's client keeps in mind where a run's artifacts lay."""
    first, second = folder / "first", folder / "second"
    first.mkdir()
    shutil.copy(database, first)
    line = [*VAE_LAB, "train", *TINY, "train.epochs=20", "evaluation.pictures=true"]
    with subprocess.Popen(line, cwd=first, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "epoch 3/" not in process.stderr.readline():
            assert process.poll() is None
        process.kill()
    if how == "moved":
        first.rename(second)
    else:
        shutil.copytree(first, second)
    before = content(first)
    for place in (second, first) if how == "copied" else (second,):
        done = subprocess.run(line, cwd=place, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "goes on after epoch" in done.stderr
        assert place == first or content(first) == before
        store = Store.open(f"sqlite:///{place / 'mlflow.db'}")
        [run] = store.records()
        assert run.status == "FINISHED"
        losses = store.client.get_metric_history(run.run_id, "test/loss")
        assert sorted(point.step for point in losses) == list(range(1, 21))
        pictures = store.client.list_artifacts(run.run_id, "images")
        assert len(pictures) == 2 * 2 * 21  # samples and reconstructions, large and small, of every epoch
    assert first.exists() == (how == "copied")


def test_the_ui_shows_the_artifacts_of_a_copy_and_those_of_experiments_that_are_made_in_it(
    elsewhere: Path, folder: Path
) -> None:
    """By MLflow's own server, with its own way to an artifact."""
    [run, _] = reader().tagged(KIND, RUN)
    with browsed() as address:
        asked = requests.get(
            f"{address}/get-artifact", {"path": "config.yaml", "run_uuid": run.run_id}, timeout=60
        )
        answer = requests.post(
            f"{address}/api/2.0/mlflow/experiments/create", json={"name": "made"}, timeout=60
        )
    config = elsewhere / "mlflow_artifacts" / run.run_id / "artifacts" / "config.yaml"
    assert asked.text == config.read_text()
    experiment = answer.json()["experiment_id"]
    with Store.open().start("made", "run", kind=RUN).artifacts() as scratch:
        (scratch / "note.txt").write_text("kept")
    assert len(list((elsewhere / "mlflow_artifacts" / experiment).glob("*/artifacts/note.txt"))) == 1
