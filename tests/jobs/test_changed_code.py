"""Runs whose code, packages or machine change between the moment they are stopped and their going on."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from tests.conftest import SMALL
from vae_lab import devices, interruption, machine, tracking
from vae_lab.jobs.crews.crew import Queue, RunsTogether, train_all
from vae_lab.jobs.crews.workers import Threads
from vae_lab.jobs.job import job_of
from vae_lab.jobs.parts import prepared
from vae_lab.jobs.progress import open_display
from vae_lab.jobs.runs import ran_on
from vae_lab.jobs.runs.reports import Reached
from vae_lab.jobs.runs.run import Run
from vae_lab.studies.status import states_in_words
from vae_lab.studies.study import load_study
from vae_lab.tracking import Store

Lab = Callable[..., tuple[int, str, str]]
FOUR = (*SMALL, "train.epochs=4", "evaluation.pictures=false", "model.hidden_size=4")


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch, lab: Lab) -> Callable[..., None]:
    """A command that is stopped, as by Ctrl-C, when a run has finished its second epoch."""
    reach = Run.reach

    def recorded(self: Run, reached: Reached) -> None:
        reach(self, reached)
        if reached.checkpoint.epoch == 2:
            interruption.request()

    def stop(*line: str) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Run, "reach", recorded)
            assert lab(*line)[0] == 130

    return stop


def test_runs_of_other_code_leave_an_interrupted_study_and_are_trained_anew(
    lab: Lab, stopped: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = [*FOUR, "-m", "seed=0", "study.name=changed"]
    stopped(*line)
    (before,) = load_study(Store.open(), "changed").runs
    monkeypatch.setattr(prepared, "_code_of_training", lambda *_: "other code")
    code, _, err = lab(*line)
    assert code == 0, err
    assert "changed since 1 of its runs were made: they leave the study and are trained anew" in err
    store = Store.open()
    study = load_study(store, "changed")
    assert len(store.tagged(tracking.KIND, tracking.SWEEP)) == 1
    assert states_in_words(study) == "1 of 1 runs finished"
    old = store.record(before.run_id)
    assert (old.status, old.tags[tracking.SUPERSEDED]) == ("KILLED", study.parent.run_id)
    assert tracking.member_tag(study.parent.run_id) not in old.tags
    code, _, err = lab(*line)
    assert "1 of 1 runs are there already" in err


def test_a_run_of_the_same_settings_and_other_code_is_trained_anew_and_says_why(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = [*SMALL, "train.epochs=1", "evaluation.pictures=false", "model.hidden_size=4"]
    assert "trained anew" not in lab(*line)[2]
    (before,) = Store.open().records()
    monkeypatch.setattr(prepared, "_code_of_training", lambda *_: "other code")
    code, _, err = lab(*line)
    assert code == 0
    assert f"with other code or other data (run {before.run_id}): it is trained anew." in err
    assert "is there already" in lab(*line)[2]


def test_a_run_says_what_each_of_its_epochs_ran_on(
    lab: Lab, stopped: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(*FOUR)
    (before,) = Store.open().records()
    earlier = json.loads(before.tags[tracking.ENVIRONMENT])
    describe = machine.describe
    monkeypatch.setattr(machine, "describe", lambda device: describe(device) | {"torch": "9.9"})
    monkeypatch.setattr(ran_on, "_code_of_evaluation", lambda: "other")
    commit = {"mlflow.source.git.commit": "c0ffee", "vae_lab.uncommitted_changes": "true"}
    monkeypatch.setattr(tracking, "code_tags", lambda: commit, raising=False)
    assert lab(*FOUR)[0] == 0
    (run,) = Store.open().records()
    assert run.run_id == before.run_id
    facts = json.loads(run.tags[tracking.ENVIRONMENT])
    assert facts["torch"] == f"{earlier['torch']} to epoch 2, then 9.9"
    assert facts["code of the evaluation"] == f"{earlier['code of the evaluation']} to epoch 2, then other"
    assert facts["Python"] == earlier["Python"]
    assert facts["instructions"] == earlier["instructions"]
    assert run.tags["mlflow.source.git.commit"].endswith(" to epoch 2, then c0ffee")
    assert run.tags["vae_lab.uncommitted_changes"].endswith("true")


def test_a_run_that_is_trained_in_segments_says_at_each_what_its_epochs_before_ran_on(
    composed: Callable[..., DictConfig], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(composed(*FOUR), FOUR, {})

    def train(*segments: int) -> Run:
        run = Run(job)
        with open_display(1, 4):
            train_all(Threads(1, threads=1), Queue([RunsTogether([run], until) for until in segments]))
        return run

    train(1, 2).fail(KeyboardInterrupt())
    describe = machine.describe
    earlier = describe(devices.resolve("cpu"))["torch"]
    monkeypatch.setattr(machine, "describe", lambda device: describe(device) | {"torch": "9.9"})
    train(3, 4)
    (run,) = Store.open().records()
    assert json.loads(run.tags[tracking.ENVIRONMENT])["torch"] == f"{earlier} to epoch 2, then 9.9"


def test_measures_that_other_code_adds_are_told_from_the_epochs(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lab(*FOUR)[0] == 0
    monkeypatch.setattr(ran_on, "_code_of_evaluation", lambda: "other")
    assert lab(*FOUR, "evaluation.posterior_draws=2")[0] == 0
    (run,) = Store.open().records()
    assert run.tags[tracking.ENVIRONMENT].count(" to epoch 4, then other") == 1


def test_an_epoch_that_never_was_ran_on_nothing() -> None:
    assert ran_on.changed({"GPU": "H200"}, {}, 3) == {"GPU": "H200 to epoch 3, then not recorded"}
    before = {tracking.ENVIRONMENT: '{"torch": "0.1"}'}
    device = devices.resolve("cpu")
    assert "0.1" not in ran_on.went_on(before, ran_on.ran_on(device), 0)[tracking.ENVIRONMENT]
    assert "0.1 to epoch 3" in ran_on.went_on(before, ran_on.ran_on(device), 3)[tracking.ENVIRONMENT]


def test_whatever_a_step_of_training_imports_is_code_of_the_training() -> None:
    """Another version of a module that were not would give other results under the same fingerprint."""
    harmless = {"vae_lab.errors", "vae_lab.interruption", "vae_lab.data"}  # of data a run has the checksum
    names = {module.__name__ for module in prepared.TRAINING_PATH}
    for module in prepared.TRAINING_PATH:
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("vae_lab"):
                inside = [f"vae_lab.{alias.name}" for alias in node.names]
                imported = inside if node.module == "vae_lab" else [node.module]
                assert {*imported} <= names | harmless, f"{module.__name__} imports {imported}"
