"""MLflow's environment variables: followed as MLflow does, or refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.misuse.conftest import TINY, Lab
from tests.misuse.test_asked_for import refused
from vae_lab.errors import UserError
from vae_lab.tracking import Store
from vae_lab.tracking.environment import experiment_name


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, database: Path) -> Store:
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    file.write_bytes(database.read_bytes())
    opened = Store.open(f"sqlite:///{file}")
    opened.client.create_experiment("theirs")
    return opened


def test_the_config_goes_before_the_variables_and_they_before_the_default(store: Store) -> None:
    variables = {"MLFLOW_EXPERIMENT_NAME": "/Shared/mine"}
    assert experiment_name(store, "ours", variables) == "ours"
    assert experiment_name(store, None, variables) == "/Shared/mine"
    assert experiment_name(store, None, {}) == "vae_lab"


def test_an_experiment_is_named_by_its_number_too(store: Store) -> None:
    theirs = store.client.get_experiment_by_name("theirs")
    assert theirs is not None
    number = theirs.experiment_id
    assert experiment_name(store, None, {"MLFLOW_EXPERIMENT_ID": number}) == "theirs"
    both = {"MLFLOW_EXPERIMENT_ID": number, "MLFLOW_EXPERIMENT_NAME": "theirs"}
    assert experiment_name(store, None, both) == "theirs"
    with pytest.raises(UserError, match="is the experiment theirs, and MLFLOW_EXPERIMENT_NAME names mine"):
        experiment_name(store, None, both | {"MLFLOW_EXPERIMENT_NAME": "mine"})
    with pytest.raises(UserError, match="MLFLOW_EXPERIMENT_ID=77: no such experiment in "):
        experiment_name(store, None, {"MLFLOW_EXPERIMENT_ID": "77"})


@pytest.mark.parametrize("words", [[], ["-m", "seed=0,1"]])
def test_a_run_to_go_on_with_is_refused(
    lab: Lab, folder: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "8c1f")
    message = refused(lab, *TINY, *words)
    assert message.startswith(
        "MLFLOW_RUN_ID=8c1f: would be ignored, since every run of the lab is one that it "
    )


def test_a_multirun_follows_the_variables_and_loses_nothing_of_its_records(
    lab: Lab, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "/Shared/mine")
    monkeypatch.setenv(
        "MLFLOW_ENABLE_ASYNC_LOGGING", "true"
    )  # else MLflow says that it has what it has not yet
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    code, _, err = lab("-m", *TINY, "seed=0,1")
    assert code == 0, err
    assert "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING: is not followed" in caplog.text
    store = Store.open()
    experiment = store.client.get_experiment_by_name("/Shared/mine")
    assert experiment is not None
    records = store.records()
    assert {run.experiment_id for run in records} == {experiment.experiment_id}
    assert [run.status for run in records] == ["FINISHED"] * 3
    assert sum("test/loss" in run.metrics for run in records) == 2
