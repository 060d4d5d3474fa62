"""The states of a study's runs are counted once and said alike everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.studies.test_status import run
from vae_lab.report import tables
from vae_lab.report.conclusion import description
from vae_lab.report.page.contents import gather
from vae_lab.studies.plan import Plan
from vae_lab.studies.status import states_in_words
from vae_lab.studies.study import Study
from vae_lab.tracking import Store, StoredRun

IN_WORDS = "2 of 6 runs finished, 1 interrupted, 1 failed, 2 missing"


@pytest.fixture
def study() -> Study:
    """Six planned runs: two finished (one at its second attempt), one failed, one interrupted."""
    plan = Plan("study", question="Why?", runs=[(key, f"run {key}") for key in "abcdef"])
    runs = [run("a", "FINISHED"), run("b", "FAILED", error="disk full"), run("b", "FINISHED")]
    runs += [run("c", "KILLED", error="interrupted"), run("d", "FAILED", error="diverged")]
    return Study(StoredRun("parent", "1", "study", "KILLED", {}, {}, {}, 1), plan, runs)


def test_every_place_says_the_planned_finished_interrupted_and_failed_runs(
    study: Study, database: Path
) -> None:
    assert states_in_words(study) == IN_WORDS
    assert f"Why? {IN_WORDS}." in description(study, [])
    assert gather(Store.open(f"sqlite:///{database}"), study).state == IN_WORDS


def test_a_table_tells_interrupted_from_failed_and_counts_no_attempt_that_another_made_good(
    study: Study,
) -> None:
    (table,) = tables.study_tables(study)
    columns = {column.heading: [row[i].value for row in table.rows] for i, column in enumerate(table.columns)}
    assert columns["failed"] == [1.0]
    assert columns["interrupted"] == [1.0]
    assert table.note.endswith("Failed: run d (diverged). Interrupted: run c.")
