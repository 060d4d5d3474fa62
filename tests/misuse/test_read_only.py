"""A store, a home folder or a cache that can only be read."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests

from tests.conftest import trained
from tests.misuse.conftest import TINY, Lab, browsed
from vae_lab import files, load
from vae_lab.tracking import KIND, PROCESS, RUN, reader


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study of two runs."""
    return trained(tmp_path_factory.mktemp("study"), "-m", *TINY, "seed=0,1", "study.name=kept")


@pytest.fixture
def shared(study: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the study's folder, in which the test is."""
    shutil.copytree(study, folder / "shared")
    monkeypatch.chdir(folder / "shared")
    return folder / "shared"


@pytest.fixture
def mount_read_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Mounts a folder so that nobody can write there; root writes past all permissions."""
    places = []

    def mount(place: Path) -> None:
        for options in (["--bind", str(place), str(place)], ["-o", "remount,ro,bind", str(place)]):
            mounted = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
            if mounted.returncode:
                pytest.skip(f"no folder can be mounted as read-only here: {mounted.stderr.strip()}")
            places.append(place)
        monkeypatch.chdir(place)  # into what is mounted there

    yield mount
    monkeypatch.chdir(folder)
    for place in set(places):
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_store_that_can_only_be_read_is_read_and_nothing_is_left_to_be_delivered(
    shared: Path, folder: Path, command: Lab, mount_read_only: Callable[[Path], None]
) -> None:
    mount_read_only(shared)
    assert command("compare", "kept")[::2] == (0, "")
    assert command("status", "kept")[::2] == (0, "")
    assert command("report", "kept", "--output", str(folder / "page.html"))[::2] == (0, "")
    command("verdict", "kept")
    assert load(reader().tagged(KIND, RUN)[0].run_id).latent_size == 15
    only_read = f"vae-lab: {shared / 'mlflow.db'}: this store can only be read: "
    for line in (
        ("evaluate", "kept", "evaluation=full", "train.device=cpu"),
        ("train", *TINY, "seed=7"),
        ("train", "-m", *TINY, "seed=0,1,7", "study.name=kept"),
    ):
        code, _, err = command(*line)
        assert code == 1, line
        [message] = [said for said in err.splitlines() if said.startswith("vae-lab: ")]
        assert message.startswith(only_read), line
    assert command("sync") == (0, "No records wait.\n", "")
    state = files.state_folder("spool")
    assert [file for file in state.rglob("*") if file.suffix in (".record", ".refused")] == []


def test_a_run_of_a_dead_process_is_shown_as_interrupted_where_it_cannot_be_marked(
    shared: Path, command: Lab, mount_read_only: Callable[[Path], None]
) -> None:
    with closing(sqlite3.connect("mlflow.db")) as database:
        database.execute("UPDATE runs SET status = 'RUNNING'")
        database.execute("UPDATE tags SET value = json_set(value, '$.born', '0') WHERE key = ?", (PROCESS,))
        database.commit()
    mount_read_only(shared)
    code, out, err = command("status", "kept")
    assert (code, err) == (0, "")
    assert "0 of 2 runs finished, 2 interrupted" in out
    assert command("sync") == (0, "No records wait.\n", "")


def test_reading_needs_neither_a_home_nor_a_cache_and_what_needs_one_names_the_way_out(
    study: Path, folder: Path, command: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "file").write_text("no folder can be made below it, by root neither")
    for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "HOME"):
        monkeypatch.setenv(name, str(folder / "file" / "below"))
    monkeypatch.chdir(study)
    assert command("compare", "kept")[::2] == (0, "")
    assert command("status")[::2] == (0, "")
    assert command("report", "kept", "--output", str(folder / "page.html"))[::2] == (0, "")
    assert load(reader().tagged(KIND, RUN)[0].run_id).latent_size == 15
    monkeypatch.chdir(folder)
    code, _, err = command("train", *TINY)
    assert code == 1
    assert "the store cannot be made" in err
    assert err.endswith("Choose another folder for the cache with XDG_CACHE_HOME.\n")


def test_the_ui_over_a_moved_store_that_can_only_be_read_shows_its_artifacts(
    shared: Path, mount_read_only: Callable[[Path], None]
) -> None:
    [run, _] = reader().tagged(KIND, RUN)
    mount_read_only(shared)
    with browsed() as address:
        wanted = {"path": "config.yaml", "run_uuid": run.run_id}
        asked = requests.get(f"{address}/get-artifact", wanted, timeout=60)
        tagged = {"run_id": run.run_id, "key": "seen", "value": "yes"}
        changed = requests.post(f"{address}/api/2.0/mlflow/runs/set-tag", json=tagged, timeout=60)
    assert asked.text == reader().download(run.run_id, "config.yaml").read_text()
    assert changed.status_code == 200  # in a copy, as the command says
    assert "seen" not in reader().tagged(KIND, RUN)[0].tags
