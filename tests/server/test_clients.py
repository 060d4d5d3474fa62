"""Whoever works with a team's server: users and passwords, who may what, and whose a study is."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.conftest import SMALL
from tests.server.team import TeamServer, work_as
from tests.server.test_outage import assert_complete, record_epochs
from vae_lab import tracking
from vae_lab.cli.group import commands
from vae_lab.tracking import RUN, Store
from vae_lab.tracking.spool import backlogs

USERS = "2.0/mlflow/users"
Lab = Callable[..., tuple[int, str, str]]
PASSWORDS = {"dora": "dora's pl@nted/s3cret", "bob": "bob's pl@nted/s3cret"}
STUDY = ("-m", *SMALL, "train.epochs=1", "seed=0,1", "study.name=shared")


@pytest.fixture
def users(team: TeamServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> TeamServer:
    """A server that knows the users of `PASSWORDS`; the environment names none of them."""
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    for name, password in PASSWORDS.items():
        if team.administrate("POST", f"{USERS}/create", username=name, password=password) != 200:  # is there
            changed = team.administrate("PATCH", f"{USERS}/update-password", username=name, password=password)
            assert changed == 200
    monkeypatch.setenv("MLFLOW_TRACKING_URI", team.address)
    return team


def write_credentials(folder: Path, name: str, password: str) -> Path:
    """Writes MLflow's own file of credentials and returns it."""
    file = folder / "home" / ".mlflow" / "credentials"
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = ("[mlflow]", f"mlflow_tracking_username = {name}", f"mlflow_tracking_password = {password}")
    file.write_text("\n".join(lines))
    return file


def tell(*words: str) -> Result:
    return CliRunner().invoke(commands, words)


def secrets_in(*folders: Path) -> Iterator[Path]:
    """The files in folders that hold a password."""
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if any(password.encode() in content for password in PASSWORDS.values()):
            yield path


def test_two_people_of_a_team_train_compare_and_share_runs_and_no_password_is_kept(
    users: TeamServer, lab: Lab, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_as(monkeypatch, "dora", PASSWORDS["dora"])
    code, out, err = lab(*STUDY)
    assert code == 0, err
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    credentials = write_credentials(folder, "bob", PASSWORDS["bob"])
    code, out, err = lab(*STUDY)
    assert code == 0, err
    assert "2 of 2 runs are there already (2 of dora), nothing is left to train" in err
    assert "vae-lab compare bob/shared" in out
    said = out + err
    questions = (
        *(("status",), ("compare", "shared"), ("status", "dora/shared"), ("report", "shared"), ("sync",)),
        *(("ui",), ("sample", "dora/shared:best"), ("evaluate", "shared", "evaluation.samples=0")),
    )
    for words in questions:
        result = tell(*words)
        assert result.exit_code == 0, (words, result.output, result.exception)
        said += result.output
    assert [line.split()[3] for line in tell("status").output.splitlines() if " shared " in line] == [
        "dora",
        "bob",
    ]
    assert " by bob" in (folder / "shared.md").read_text()
    credentials.unlink()
    (folder / "said.txt").write_text(said)
    state = Path(os.environ["XDG_STATE_HOME"])
    assert [*secrets_in(folder, state, users.folder)] == []


@pytest.mark.parametrize("password", ["", "not the password"])
def test_whoever_the_server_does_not_know_is_told_so_before_anything_is_trained(
    users: TeamServer, lab: Lab, folder: Path, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    if password:
        work_as(monkeypatch, "dora", password)
    code, out, err = lab(*SMALL)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert (
        "HTTP error 401 (You are not authenticated). Give a user that it knows, and the password, in" in err
    )
    for words in (("compare",), ("status",), ("ui",), ("register", "shared:best"), ("evaluate", "shared")):
        result = tell(*words)
        assert "HTTP error 401" in str(result.exception) + result.output, words
        assert getattr(result.exception, "exit_code", 0) == 2, words
    assert not list(backlogs(tracking.spool_folder(os.environ["MLFLOW_TRACKING_URI"])))


def test_a_password_that_changes_in_the_middle_of_a_run_loses_nothing(
    users: TeamServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_credentials(folder, "dora", PASSWORDS["dora"])
    store = Store.open(users.address)
    recorder = store.start("lab", "changed", kind=RUN)
    record_epochs(recorder, range(5))
    store.courier.settle_all()
    tomorrow = "a password of tomorrow"
    assert users.administrate("PATCH", f"{USERS}/update-password", username="dora", password=tomorrow) == 200
    record_epochs(recorder, range(5, 20))
    while not store.courier.away:
        time.sleep(0.02)
    recorder.finish("FINISHED")
    assert list(backlogs(tracking.spool_folder(store.uri))) != []
    write_credentials(folder, "dora", tomorrow)  # is read for each request
    while list(backlogs(tracking.spool_folder(store.uri))):
        time.sleep(0.05)
    assert_complete(store, recorder.run_id, 20)
    assert store.record(recorder.run_id).status == "FINISHED"
