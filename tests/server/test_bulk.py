"""Many runs at once through `vae-lab server`: as MLflow's client reads them, and closed where its API is."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import requests
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from tests.server.team import TeamServer, work_as
from vae_lab.errors import LabError, UserError
from vae_lab.tracking import KIND, RUN, Store
from vae_lab.tracking.bulk import client, questions
from vae_lab.tracking.records import member_tag
from vae_lab.tracking.tagging import tag_runs

TAG = "vae_lab.in.bulk"
EVE = {"username": "eve of bulk", "password": "a password of eve's"}
ODD = {"nan": math.nan, "up": math.inf, "down": -math.inf, "tiny": 5e-324}


@pytest.fixture(scope="module")
def runs(_team: TeamServer) -> Iterator[list[str]]:
    """Seven runs in two experiments, of which eve may not see the second."""
    with pytest.MonkeyPatch.context() as patch:
        if _team.process is None:
            _team.start()
        work_as(patch, "admin", _team.password)
        client = Store.open(_team.address).client
        open_one, hidden = (client.create_experiment(f"{name} in bulk") for name in ("open", "hidden"))
        run_ids = []
        for number in range(7):
            tags = {KIND: RUN, TAG: "it's" if number % 2 else 'a "b"', member_tag("p"): "1"}
            place = hidden if number > 3 else open_one
            run_id = client.create_run(place, 1000 + number // 2, tags, run_name=f"run {number}").info.run_id
            metrics = [Metric(f"odd/{key}", value, 1, 1) for key, value in ODD.items()]
            metrics += [Metric("test/loss", 100.0 - step, 7 - step, step) for step in (2, 0, 1)]
            metrics += [Metric("test/loss", 5.0, 99, 1)]  # the step was logged again
            params = [Param("model.layers", str(number)), Param("empty", ""), Param("sign", "é|<b>'\"")]
            client.log_batch(run_id, metrics, params, [RunTag("mlflow.note.content", "two\nlines")])
            if number:
                client.set_terminated(run_id, "FAILED" if number == 1 else "FINISHED")
            run_ids.append(run_id)
        client.delete_run(run_ids.pop())
        assert _team.administrate("POST", "2.0/mlflow/users/create", **EVE) == 200
        denied = {"username": EVE["username"], "resource_type": "experiment", "resource_id": hidden}
        grant = "3.0/mlflow/users/permissions/grant"
        assert _team.administrate("POST", grant, **denied, permission="DENY") == 200
        yield run_ids


def as_mlflow(store: Store) -> Store:
    """The same store as it is where the server does not answer about many runs at once."""
    plain = Store(store.uri)
    vars(plain)["bulk"] = None
    return plain


def answers(store: Store, runs: list[str]) -> dict[str, str]:
    """What a store says of the runs; as text, since NaN equals nothing."""
    return {
        "tagged": repr(store.tagged(TAG, "it's")),
        "any": repr(sorted(store.any_tagged(TAG, ["it's", 'a "b"', "none"]), key=lambda run: run.run_id)),
        "members": repr(store.members("p")),
        "running": repr(store.members("p", running=True)),
        "unmeasured": repr([run.tags for run in store.members("p", measured=False)]),
        "nobody": repr(store.any_tagged(TAG, [])),
    }


@pytest.mark.parametrize("largest", [2, 1000])
def test_runs_and_curves_are_those_of_mlflows_client(
    team: TeamServer, runs: list[str], monkeypatch: pytest.MonkeyPatch, largest: int
) -> None:
    for name in ("LARGEST", "RUNS_AT_ONCE", "CURVES_AT_ONCE"):
        monkeypatch.setattr(client, name, min(largest, getattr(client, name)))
    work_as(monkeypatch, "admin", team.password)
    store = Store.open(team.address)
    assert store.bulk is not None
    assert answers(store, runs) == answers(as_mlflow(store), runs)
    assert len(store.members("p")) == 6
    names = ("test/loss", "odd/nan", "odd/up", "absent")
    points, by_client = store.points([*runs, "nobody"], names), as_mlflow(store).points(runs, names)
    assert points.keys() == by_client.keys() == {*runs}
    for run_id in runs:
        assert repr(sorted(points[run_id].items())) == repr(sorted(by_client[run_id].items()))
    assert points[runs[0]]["test/loss"] == {0: 100.0, 1: 5.0, 2: 98.0}


def test_whom_mlflow_shows_no_runs_gets_none_and_whom_it_lets_change_none_changes_none(
    team: TeamServer, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    work_as(monkeypatch, EVE["username"], EVE["password"])
    store = Store.open(team.address)
    assert store.bulk is not None
    assert answers(store, runs) == answers(as_mlflow(store), runs)
    assert len(store.members("p")) == 4
    assert store.points(runs, ["test/loss"]).keys() == {*runs[:4]}
    with pytest.raises(UserError, match="HTTP error 403"):
        tag_runs(store, runs[4:], "vae_lab.taken", "1")
    work_as(monkeypatch, "admin", team.password)
    assert store.tagged("vae_lab.taken", "1") == []
    for path in (questions.OFFER, questions.RUNS):
        for who in (None, ("admin", "?")):
            answer = requests.post(f"{team.address}{path}", json={"run_ids": runs}, auth=who, timeout=60)
            assert answer.status_code == 401


def test_a_tag_for_many_runs_arrives_at_all_and_replaces_the_one_before(
    team: TeamServer, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    work_as(monkeypatch, "admin", team.password)
    store = Store.open(team.address)
    for value in ("1", "it's"):
        tag_runs(store, [*runs, "nobody"], "vae_lab.of.all", value)
        assert {run.run_id for run in as_mlflow(store).tagged("vae_lab.of.all", value)} == {*runs}
    with pytest.raises(MlflowException, match="key: begins with vae_lab"):
        tag_runs(store, runs, "mlflow.runName", "all alike")


@pytest.mark.parametrize(
    ("path", "content"),
    [
        (questions.RUNS, {"run_ids": ["a"] * (questions.LARGEST + 1)}),
        (questions.POINTS, {"run_ids": "all", "metrics": []}),
        (questions.IDS, {"key": "a"}),
        (questions.TAG, {"run_ids": [], "key": "mlflow.user", "value": "eve"}),
    ],
)
def test_what_is_no_question_is_refused(
    team: TeamServer, runs: list[str], path: str, content: dict[str, object]
) -> None:
    who = ("admin", team.password)
    answer = requests.post(f"{team.address}{path}", json=content, auth=who, timeout=60)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


def test_an_answer_of_another_form_is_told_and_another_format_is_not_asked(
    team: TeamServer, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    work_as(monkeypatch, "admin", team.password)
    store = Store.open(team.address)
    monkeypatch.setattr(client, "Runs", questions.Offer)
    with pytest.raises(LabError, match="not of the lab's form"):
        store.members("p")
    monkeypatch.setattr(client, "FORMAT", 2)
    assert Store.open(team.address).bulk is None
