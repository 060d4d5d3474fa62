"""Studies of one name that several people, or several experiments, have."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import vae_lab
from tests.misuse.conftest import Lab, command
from vae_lab import tracking
from vae_lab.errors import UserError
from vae_lab.jobs.lines import multirun
from vae_lab.report.views import study_views
from vae_lab.studies.names import UnknownStudyError, find_parents, unambiguous_name
from vae_lab.studies.plan import PLAN_FILE, Plan
from vae_lab.studies.study import load_study
from vae_lab.tracking import COMMAND, OWNER, STUDY, SWEEP, Reader, Store
from vae_lab.tracking.provenance import user

__all__ = ["command"]  # a fixture
Multirun = Callable[..., str]


@pytest.fixture
def store(database: Path, folder: Path) -> Store:
    shutil.copy(database, folder / "mlflow.db")
    return Store.open()


@pytest.fixture
def started(store: Store) -> Multirun:
    """Records a multirun without runs; gives the id of its parent run."""

    def start(
        owner: str, experiment: str = "vae_lab", study: str = "reference", end: str = "FINISHED"
    ) -> str:
        tags = {STUDY: study, COMMAND: "vae-lab train", OWNER: owner}
        recorder = store.start(experiment, study, kind=SWEEP, tags=tags)
        with recorder.artifacts() as folder:
            (folder / PLAN_FILE).write_text(Plan(study).to_json())
        recorder.finish(end or "FINISHED")
        return recorder.run_id

    return start


@pytest.fixture(params=["tables", "client"])
def reader(request: pytest.FixtureRequest, store: Store) -> Reader:
    """The store as commands read it, and as they read a server."""
    return store if request.param == "client" else tracking.reader()


def meant(reader: Reader, name: str) -> str:
    return load_study(reader, name).parent.run_id


def test_a_name_is_the_readers_own_study_and_that_of_others_is_mentioned(
    started: Multirun, reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "vae_lab")
    own = started(user())
    assert meant(reader, "reference") == own
    assert caplog.text == ""
    anns = started("ann")
    assert meant(reader, "reference") == own
    assert f"taken for {user()}/reference; the name is also that of ann/reference." in caplog.text
    assert meant(reader, "ann/reference") == anns
    assert meant(reader, anns[:12]) == anns
    newer = started("ann")
    assert [parent.run_id for parent in find_parents(reader, "ann/reference")] == [newer, anns]


def test_a_name_that_is_none_of_the_readers_is_one_line_with_those_that_it_may_mean(
    started: Multirun, reader: Reader
) -> None:
    anns, bobs = started("ann"), started("bob")
    for name in ("reference", "vae_lab/reference"):
        with pytest.raises(UserError) as several:
            meant(reader, name)
        assert not isinstance(several.value, UnknownStudyError)
        valid = str(several.value).partition("2 studies have this name. Valid: ")[2].strip(".").split(", ")
        assert {meant(reader, name) for name in valid} == {anns, bobs}
    for name in ("reference:best", "reference"):  # no run has that name either
        with pytest.raises(UserError, match="2 studies have this name"):
            vae_lab.load(name)
    with pytest.raises(UnknownStudyError, match="did you mean reference"):
        meant(reader, "carol/referense")


def test_a_name_is_one_within_the_experiment_that_the_reader_trains_in(
    started: Multirun, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = started(user(), "second")
    assert meant(reader, "reference") == elsewhere
    here = started("ann")
    assert meant(reader, "reference") == here
    assert meant(reader, "second/reference") == elsewhere
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "second")
    assert meant(reader, "reference") == elsewhere
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", reader.record(here).experiment_id)
    assert meant(reader, "reference") == here


def test_every_study_has_a_name_of_its_own_or_is_called_by_its_id(started: Multirun, reader: Reader) -> None:
    alone = started("ann", study="alone")
    assert unambiguous_name(reader, reader.record(alone)) == "alone"
    crossed = [started(owner, experiment) for owner in ("ann", "bob") for experiment in ("one", "two")]
    for run_id in [*crossed, started("carol", "three"), started("ann", "three")]:
        name = unambiguous_name(reader, reader.record(run_id))
        assert meant(reader, name) == run_id
    assert unambiguous_name(reader, reader.record(crossed[0])) == crossed[0][:12]


def test_the_lists_show_owners_and_experiments_where_they_differ(started: Multirun, command: Lab) -> None:
    started(user())
    for words in (("status",), ("compare",)):
        assert not {"owner", "experiment"} & set(command(*words)[1].split())
    started("ann")
    started("ann", "second", "depth")
    for words in (("status",), ("compare",)):
        _, out, _ = command(*words)
        heading, *lines = out.splitlines()
        assert heading.split()[2:4] == ["owner", "experiment"]
        anns = {tuple(line.split()[3:5]) for line in lines if "ann" in line.split()}
        assert anns == {("ann", "vae_lab"), ("ann", "second")}
    assert command("status", "ann/reference")[1].startswith("reference of ann: ")
    assert command("status", "reference")[1].startswith("reference: ")
    assert command("status", "depth")[1].startswith("depth of ann: ")


def test_nobody_goes_on_with_the_unfinished_study_of_somebody_else(started: Multirun, store: Store) -> None:
    tags = {STUDY: "reference", COMMAND: "vae-lab train"}
    started("ann", end="KILLED")
    started(user(), "second", end="KILLED")
    assert multirun._unfinished(store, "vae_lab", tags) is None
    own = started(user(), end="KILLED")
    unfinished = multirun._unfinished(store, "vae_lab", tags)
    assert unfinished is not None
    assert unfinished[0].run_id == own
    unfinished[1].release()


def test_the_saved_views_of_two_people_do_not_replace_each_other(started: Multirun, store: Store) -> None:
    studies = [load_study(store, started(owner)) for owner in ("ann", "bob")]
    assert not {view.key for view in study_views(studies[0])} & {view.key for view in study_views(studies[1])}
