"""Many runs that a server answers with in parts are those that MLflow's client reads one after the other."""

from __future__ import annotations

import math

import msgspec
import pytest
from mlflow.entities import Metric, Param, RunTag

from tests.server.conftest import Server
from vae_lab.errors import LabError
from vae_lab.tracking import KIND, RUN, Store
from vae_lab.tracking.bulk import any_server
from vae_lab.tracking.client_reader import stored_run
from vae_lab.tracking.tagging import tag_runs

TAG = "vae_lab.in.parts"
ODD = {"nan": math.nan, "up": math.inf, "down": -math.inf, "tiny": 5e-324}


@pytest.fixture(scope="module")
def store(_server: Server) -> Store:
    """A store behind a server, with seven runs of a tag, of which one is under way and one failed."""
    if not _server.running:
        _server.start()
    store = Store.open(_server.address)
    experiment = store.experiment("in parts").experiment_id
    for number in range(7):
        tags = {KIND: RUN, TAG: "it's"}
        run = store.client.create_run(experiment, 1000 + number // 2, tags, run_name=f"run {number}")
        store.client.log_batch(
            run.info.run_id,
            metrics=[
                *(Metric(f"odd/{key}", value, 1, 1) for key, value in ODD.items()),
                *(Metric("test/loss", 100.0 - step, 9 - step, step) for step in range(3)),
            ],
            params=[Param("model.layers", str(number)), Param("empty", ""), Param("sign", "é|<b>'\"")],
            tags=[RunTag("mlflow.note.content", "two\nlines")],
        )
        if number:
            store.client.set_terminated(run.info.run_id, "FAILED" if number == 1 else "FINISHED")
    return store


@pytest.mark.parametrize("largest", [2, 250])
def test_runs_come_whole_and_in_mlflows_order(
    store: Store, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(any_server, "LARGEST", largest)
    experiments = [experiment.experiment_id for experiment in store.client.search_experiments()]
    by_client = store.client.search_runs(experiments, f"tags.`{TAG}` LIKE '%'")
    assert len(by_client) == 7
    read = store.tagged(TAG, "it's")
    assert repr(read) == repr([stored_run(run) for run in by_client])  # NaN equals nothing
    assert store.bulk is None
    assert [run.run_id for run in store.records() if TAG in run.tags] == [run.run_id for run in read]


@pytest.mark.parametrize("longest", [2, 2500])
def test_curves_of_many_runs_are_whole(store: Store, longest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(any_server, "CURVES", 3)
    monkeypatch.setattr(any_server, "LONGEST", longest)
    runs = [run.run_id for run in store.tagged(TAG, "it's")]
    points = store.points(runs, ["test/loss", "odd/nan", "odd/up", "absent"])
    expected = {"test/loss": {0: 100.0, 1: 99.0, 2: 98.0}, "odd/nan": {1: math.nan}, "odd/up": {1: math.inf}}
    assert points.keys() == {*runs}
    for run_id in runs:
        assert repr({key: dict(sorted(points[run_id][key].items())) for key in expected}) == repr(expected)
        assert points[run_id].keys() == expected.keys()


def test_an_answer_of_another_form_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(any_server, "_decode", msgspec.json.Decoder(list[int]).decode)
    with pytest.raises(LabError, match="not of MLflow's form"):
        store.records()


def test_a_tag_for_many_runs_arrives_at_all(store: Store) -> None:
    runs = store.tagged(TAG, "it's")
    tag_runs(store, [run.run_id for run in runs], "vae_lab.taken", "1")
    assert {run.run_id for run in store.tagged("vae_lab.taken", "1")} == {run.run_id for run in runs}
