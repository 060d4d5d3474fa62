from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vae_lab.errors import UserError
from vae_lab.studies.plan import Plan
from vae_lab.studies.study import Study, load_study
from vae_lab.tracking import FAULT, KIND, RUN, Reader, Store, StoredRun, reader
from vae_lab.trained.reference import best_run, chosen_run, run_or_study


@pytest.fixture(scope="module", params=["tables", "client"])
def store(uri: str, request: pytest.FixtureRequest) -> Reader:
    return reader(uri) if request.param == "tables" else Store.open(uri)


def test_a_run_is_known_by_its_id_and_its_name(store: Reader) -> None:
    run = next(run for run in store.tagged(KIND, RUN) if run.name == "cvae L4 Z15 s0")
    for name in (run.run_id, run.run_id[:8], run.name, f"reference:{run.name}", f"reference:{run.run_id}"):
        assert chosen_run(store, name).run == run, name


def test_where_a_study_or_a_run_will_do_both_are_known(store: Reader) -> None:
    parent, best = load_study(store, "reference").parent, chosen_run(store, "reference:best").run
    assert run_or_study(store, "reference") == "reference"
    assert run_or_study(store, parent.run_id) == parent.run_id
    for name in ("reference:best", best.name, best.run_id[:8]):
        assert run_or_study(store, name) == best.run_id, name
    with pytest.raises(UserError, match="no run of that id or name"):
        run_or_study(store, "referense")


def test_the_best_run_is_that_with_the_lowest_held_out_loss(store: Reader) -> None:
    study = load_study(store, "reference")
    choice = chosen_run(store, "reference:best")
    assert choice.run.metrics["test/loss"] == min(run.metrics["test/loss"] for run in study.runs)
    assert choice.reason == "lowest held-out loss of 5 VAEs and 5 CVAEs of reference"
    assert chosen_run(store, f"{study.parent.run_id[:8]}:best:test/negative_elbo").run == choice.run


def test_a_run_that_was_given_a_fault_is_no_best_one(store: Reader) -> None:
    study = load_study(store, "reference")
    best = best_run(study, "reference").run
    faulty = replace(best, tags={**best.tags, FAULT: "kl_mean"})
    runs = [faulty if run is best else run for run in study.runs]
    second = best_run(study._replace(runs=runs), "reference").run
    assert second.metrics["test/loss"] > best.metrics["test/loss"]
    with pytest.raises(UserError, match="every finished run was given a fault"):
        best_run(study._replace(runs=[faulty]), "reference")


WRONG = [
    (
        "reference",
        "reference: is a study of 10 runs; which of them? Valid: reference:best, reference:best:METRIC,",
    ),
    ("referense:best", "referense:best: no run of that id or name in "),
    ("referense:best", "did you mean reference:best? Valid: "),
    ("vae L3 Z16 s0", "did you mean vae L3 Z15 s0?"),
    ("reference:vae L9 Z15 s0", "reference:vae L9 Z15 s0: no such run; did you mean vae L"),
    ("reference:best:test/lss", "reference:best:test/lss: no finished run has it; did you mean test/loss?"),
    ("reference:best:test/kl", "neither a low nor a high value of it is better"),
    ("", "is no name. Valid: a run's id or name, STUDY:best, STUDY:RUN_NAME."),
    ("0123456789ab", "0123456789ab: no run of that id or name"),
]


@pytest.mark.parametrize(("name", "message"), WRONG)
def test_a_name_that_is_none_is_answered_with_those_that_are(store: Reader, name: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as raised:
        chosen_run(store, name)
    assert len(str(raised.value).splitlines()) == 1


def run(number: int, **metrics: float) -> StoredRun:
    params = {"model.conditional": "False", "objective.beta": "1.0", "model.latent_size": "15"}
    found = {name.replace("__", "/"): value for name, value in metrics.items()}
    return StoredRun(str(number), "1", f"run {number}", "FINISHED", params, found, {}, number)


def study(*runs: StoredRun) -> Study:
    return Study(runs[0], Plan("mine"), [*runs])


def test_a_metric_has_its_own_direction_and_what_is_not_finite_is_left_out() -> None:
    runs = [
        run(1, eval__coverage=0.4),
        run(2, eval__coverage=0.6),
        run(3, eval__coverage=float("nan")),
        run(4),
    ]
    choice = best_run(study(*runs), "mine", "eval/coverage")
    assert (choice.run.name, choice.reason) == ("run 2", "highest coverage of 2 runs of mine")


def test_losses_that_cannot_be_compared_are_not() -> None:
    one, two = (run(number, test__loss=9.0, test__negative_elbo=8.0 + number) for number in (1, 2))
    weighted = replace(two, params={**two.params, "objective.beta": "4.0"})
    with pytest.raises(UserError, match=re.escape("differ in objective.beta. Valid: test/negative_elbo.")):
        best_run(study(one, weighted), "mine")
    assert best_run(study(one, weighted), "mine", "test/negative_elbo").run is one


def test_unfinished_runs_are_not_the_best() -> None:
    stopped = replace(run(1, test__loss=1.0), status="KILLED")
    assert best_run(study(stopped, run(2, test__loss=2.0)), "mine").run.name == "run 2"
    with pytest.raises(UserError, match=r"mine: none of its runs has finished\. See: vae-lab status mine"):
        best_run(study(stopped), "mine")


def test_a_name_of_several_results_is_answered_with_their_ids(
    reference: Path, tmp_path: Path, database: Path
) -> None:
    shutil.copy(database, tmp_path / "mlflow.db")
    store = Store.open(f"sqlite:///{tmp_path / 'mlflow.db'}")
    tags: list[dict[str, Any]] = [{"vae_lab.fingerprint": "a"}, {"vae_lab.fingerprint": "a"}]
    recorders = [store.start("lab", "twin", kind=RUN, tags=tag) for tag in tags]
    for recorder in recorders:
        recorder.finish("FINISHED")
    assert chosen_run(reader(store.uri), "twin").run.run_id in {one.run_id for one in recorders}
    other = store.start("lab", "twin", kind=RUN, tags={"vae_lab.fingerprint": "b", "vae_lab.study": "mine"})
    other.finish("FINISHED")
    message = "twin: 3 runs of different results have this name. Valid: their ids or STUDY:NAME: "
    with pytest.raises(UserError, match=re.escape(message)) as raised:
        chosen_run(reader(store.uri), "twin")
    assert f"{other.run_id[:12]} (mine, " in str(raised.value)


def test_a_run_that_has_not_finished_has_no_model(tmp_path: Path, database: Path) -> None:
    shutil.copy(database, tmp_path / "mlflow.db")
    store = Store.open(f"sqlite:///{tmp_path / 'mlflow.db'}")
    store.start("lab", "a: b", kind=RUN)
    with pytest.raises(UserError, match="a: b: is RUNNING; only finished runs have a model"):
        chosen_run(reader(store.uri), "a: b")


def test_a_name_is_found_without_pytorch_and_mlflow(uri: str) -> None:
    program = (
        "import sys; from vae_lab.tracking import reader; from vae_lab.trained.reference import chosen_run; "
        f"chosen_run(reader({uri!r}), 'reference:best'); print(*sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert not {"torch", "mlflow"} & {*out.split()}
