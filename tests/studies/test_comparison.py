import json
import math
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from vae_lab.config.references import parse_reference
from vae_lab.errors import UserError
from vae_lab.studies.comparison import (
    Group,
    comparisons,
    groups_by_family,
    key_name,
    reference_values,
    requested_metrics,
)
from vae_lab.studies.names import find_parents
from vae_lab.studies.plan import PLAN_FILE, Oracle, Plan
from vae_lab.studies.study import Study, load_study
from vae_lab.tracking import ERROR, FINGERPRINT, PROCESS, STUDY, StoredRun
from vae_lab.tracking.processes import this_process
from vae_lab.tracking.records import Points


def record(status: str = "FINISHED", loss: float = 100.0, **params: str) -> StoredRun:
    named = {key.replace("__", "."): value for key, value in params.items()}
    metrics = {"test/loss": loss} if status == "FINISHED" else {}
    return StoredRun("id", "1", "name", status, named, metrics, {}, 0)


def study(plan: Plan, *runs: StoredRun) -> Study:
    return Study(record(), plan, list(runs))


ONE_AT_A_TIME = Plan(
    name="ablations",
    cross={"model": ["vae", "cvae"]},
    one_at_a_time={"model.layers": ["2", "3"], "model.latent_size": ["10", "15"]},
    replicate={"seed": ["0"]},
    base={"model.layers": "3", "model.latent_size": "15"},
)


def run(model: str, layers: int, latent: int, seed: int = 0, status: str = "FINISHED") -> StoredRun:
    return record(
        status, model=model, model__layers=str(layers), model__latent_size=str(latent), seed=str(seed)
    )


def test_each_axis_gets_a_table_and_the_base_stands_in_both() -> None:
    runs = [
        run(model, layers, latent)
        for model in ("cvae", "vae")  # in any order, as runs side by side end
        for layers, latent in ((3, 15), (2, 15), (3, 10))
    ]
    depth, latent = comparisons(study(ONE_AT_A_TIME, *runs))
    assert depth.title == "Depth (model.layers)"
    assert [tuple(group.keys.values()) for group in depth.groups] == [
        *[("vae", "2"), ("vae", "3")],
        *[("cvae", "2"), ("cvae", "3")],
    ]
    assert [group.keys["model.latent_size"] for group in latent.groups] == ["10", "15", "10", "15"]
    assert latent.within == ("model",)


def test_rows_are_compared_within_their_family_and_drawn_along_the_last_key() -> None:
    runs = [
        run(model, layers, latent)
        for model in ("vae", "cvae")
        for layers, latent in ((3, 15), (2, 15), (3, 10))
    ]
    tables = comparisons(study(ONE_AT_A_TIME, *runs))
    assert [len(rows) for rows in groups_by_family(tables).values()] == [4, 4]
    assert list(groups_by_family(tables)) == [("vae",), ("cvae",)]
    assert [[group.keys["model.layers"] for group in line] for line in tables[0].lines()] == [["2", "3"]] * 2


def test_numbers_are_ordered_by_size() -> None:
    plan = Plan(name="x", cross={"model.latent_size": ["5", "10", "100"]})
    runs = [record(model__latent_size=size) for size in ("100", "5", "10")]
    (table,) = comparisons(study(plan, *runs))
    assert [group.keys["model.latent_size"] for group in table.groups] == ["5", "10", "100"]


def test_names_stand_as_planned_whatever_ran_first_and_others_as_they_came() -> None:
    runs = [record(model=name) for name in ("late", "cvae", "vae")]
    (table,) = comparisons(study(Plan(name="x", cross={"model": ["vae", "cvae"]}), *runs))
    assert [group.keys["model"] for group in table.groups] == ["vae", "cvae", "late"]


def test_replicates_share_a_row_and_failures_are_counted() -> None:
    runs = [run("vae", 3, 15, seed) for seed in range(3)] + [run("vae", 3, 15, 3, status="FAILED")]
    depth, _ = comparisons(study(ONE_AT_A_TIME, *runs))
    (group,) = depth.groups
    assert (len(group.finished), len(group.failed)) == (3, 1)
    assert group.values("test/loss") == [100.0] * 3


def test_a_grid_is_one_table_over_its_keys() -> None:
    plan = Plan(name="grid", cross={"model": ["vae"], "objective.beta": ["1", "2"]})
    (table,) = comparisons(study(plan, *[record(model="vae", objective__beta=beta) for beta in "12"]))
    assert table.by == ("model", "objective.beta")


def test_other_keys_can_be_asked_for() -> None:
    runs = [run("vae", 3, 15, seed) for seed in range(2)]
    (table,) = comparisons(study(ONE_AT_A_TIME, *runs), by=["seed"])
    assert [group.keys for group in table.groups] == [{"seed": "0"}, {"seed": "1"}]
    with pytest.raises(UserError, match=r"--by model\.layer: .* did you mean model\.layers\?"):
        comparisons(study(ONE_AT_A_TIME, *runs), by=["model.layer"])


def test_a_published_value_needs_the_same_configuration_and_conditions() -> None:
    reference = {
        "conditions": {"data": "mnist"},
        "values": [{"model": "vae", "model.layers": 3, "epochs": [150.0, 108.9]}],
    }
    plan = Plan(name="x", reference=parse_reference(reference))

    def published(**params: str) -> list[float] | None:
        return reference_values(plan, Group({}, [record("FINISHED", 100.0, **params)], []))

    assert published(model="vae", model__layers="3", data="mnist") == [150.0, 108.9]
    assert published(model="vae", model__layers="2", data="mnist") is None
    assert published(model="vae", model__layers="3", data="digits") is None


def test_no_published_value_of_one_configuration_stands_beside_an_average_over_several() -> None:
    values = [{"model.layers": layers, "epochs": [100.0 + layers]} for layers in (2, 3, 4)]
    plan = Plan(
        name="x",
        cross={"model": ["vae"], "model.layers": [*"234"]},
        replicate={"seed": [*"01"]},
        reference=parse_reference({"conditions": {"data": "mnist"}, "values": values}),
    )
    runs = [
        record(model="vae", model__layers=layers, data="mnist", seed=seed)
        for layers in "234"
        for seed in "01"
    ]
    for by, published in (("model", [None]), ("model.layers", [[102.0], [103.0], [104.0]])):
        (table,) = comparisons(study(plan, *runs), by=[by])
        assert [reference_values(plan, group) for group in table.groups] == published
    elsewhere = record(model="vae", model__layers="2", data="digits", seed="2")
    assert reference_values(plan, Group({}, [*runs[:2], elsewhere], [])) is None


def test_conditions_and_values_of_a_reference_are_compared_by_value() -> None:
    """A run records 1.0, null and True, where a YAML says 1, null and true."""
    reference = {
        "conditions": {"objective.beta": 1, "scheduler": None, "model.conditional": True},
        "values": [{"optimizer.lr": 1e-3, "epochs": [108.9]}],
    }
    plan = Plan(name="x", reference=parse_reference(reference))
    run = record(optimizer__lr="0.001", objective__beta="1.0", scheduler="null", model__conditional="True")
    assert reference_values(plan, Group({}, [run], [])) == [108.9]
    scheduled = replace(run, params={**run.params, "scheduler": "steplr"})
    assert reference_values(plan, Group({}, [scheduled], [])) is None


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (3, r"study\.reference=3: must be a mapping with source, metric, at"),
        ({"sauce": "x"}, r"study\.reference\.sauce: unknown key; did you mean source\?"),
        ({"note": 3}, r"study\.reference\.note=3: must be a text\."),
        ({"at": [1, 0], "metric": "x"}, r"must be a list of epochs from 1 \(.* - at `\$\[1\]`\)"),
        ({"conditions": {"model": ["vae"]}}, r"must be parameters with one value each, as in \{model: vae\}"),
        ({"values": [{"model": "vae"}]}, r"values=\{'model': 'vae'\}: must be .* whose epochs are a list"),
        ({"values": [{"epochs": []}]}, r"values=.*: must be .* whose epochs are a list"),
        ({"values": [{"epochs": [1.0], "model": ["vae"]}]}, r"values=.*: must be .* one value each"),
        ({"values": [{"epochs": [math.nan]}]}, r"values=.*: must be .* whose epochs are a list"),
        (
            {"landmarks": [{"source": "x"}]},
            r"landmarks=.*: must be mappings of source, metric, value and epochs",
        ),
    ],
)
def test_a_reference_of_another_form_is_named_with_the_rule(reference: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_reference(reference)


def test_any_logged_metric_can_be_shown_and_others_are_named() -> None:
    (measure,) = requested_metrics(["test/loss"], [record()])
    assert measure.heading == "held-out loss"
    with pytest.raises(UserError, match=r"--metric test/los: no run has it; did you mean test/loss\?"):
        requested_metrics(["test/los"], [record()])


def test_a_plan_survives_its_text() -> None:
    assert Plan.from_json(ONE_AT_A_TIME.to_json()) == ONE_AT_A_TIME
    whole = msgspec.structs.replace(
        ONE_AT_A_TIME,
        reference=parse_reference({"source": "report", "values": [{"model": "vae", "epochs": [150, 1.5]}]}),
        oracle=Oracle("test/loss", [0.9], ["wide"]),
        runs=[("0123", "vae L2 s0")],
    )
    assert Plan.from_json(whole.to_json()) == whole


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"name": "x", "cross": {"seed": 3}}', r"Expected `array`, got `int` - at `\$\.cross"),
        ('{"name": "x", "runs": [["a"]]}', r"Expected `array` of length 2, got 1 - at `\$\.runs\[0\]"),
        ('{"name": "x", "a\\nb": 1}', r"unknown field `a\\nb`"),
        ('{"name": "x", "reference": {"at": [1]}}', r"study\.reference\.metric: must be given"),
        ('{"name": "x", "oracle": {"metric": "y", "shares": [2], "points": []}}', r"`float` < 1\.0"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_a_plan_of_another_form_is_one_line_that_names_the_key_and_the_rule(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Plan.from_json(text)
    assert len(str(caught.value).splitlines()) == 1


class Shelf:
    """Two multiruns of one name, the newest first, as a command that only reads sees them."""

    uri = "http://shelf"

    def __init__(self, folder: Path, runs: list[StoredRun]) -> None:
        self._folder, self._runs = folder, runs
        plan = Plan("mine", runs=[("a", "first"), ("b", "second")])
        (folder / PLAN_FILE).write_text(plan.to_json())

    def tagged(self, key: str, value: str) -> list[StoredRun]:
        return [replace(record(), run_id=run_id, tags={STUDY: "mine"}) for run_id in ("newer1", "older1")]

    def members(self, parent_run_id: str, **_wanted: bool) -> list[StoredRun]:
        return self._runs

    def history(self, run_id: str, metric: str) -> list[float]:
        return []

    def experiments(self) -> dict[str, str]:
        return {}

    def record(self, run_id: str) -> StoredRun:
        return replace(record(), run_id=run_id)

    def points(self, run_ids: Collection[str], metrics: Collection[str]) -> Points:
        return {}

    def download(self, run_id: str, path: str) -> Path:
        return self._folder / path


def named(name: str, fingerprint: str, process: str = "") -> StoredRun:
    tags = {FINGERPRINT: fingerprint} | ({PROCESS: process} if process else {})
    return replace(record("RUNNING" if process else "FINISHED"), name=name, tags=tags)


def test_a_run_whose_process_is_gone_is_interrupted_for_the_reader_who_writes_nothing(tmp_path: Path) -> None:
    dead = json.dumps({**json.loads(this_process()), "born": "1"})
    runs = [named("second", "b"), named("first", "a", dead)]
    loaded = load_study(Shelf(tmp_path, runs), "mine")
    assert [(run.name, run.status) for run in loaded.runs] == [("first", "KILLED"), ("second", "FINISHED")]
    assert "ended without closing it" in loaded.runs[0].tags[ERROR]
    assert runs[1].status == "RUNNING"


def test_a_study_is_its_newest_multirun_and_an_older_one_is_named_by_its_id(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, [])
    assert find_parents(shelf, "mine")[0].run_id == "newer1"
    assert [parent.run_id for parent in find_parents(shelf, "older1")] == ["older1"]
    with pytest.raises(
        UserError, match="mien: no such study or parent run in http://shelf; did you mean mine"
    ):
        load_study(shelf, "mien")


def test_keys_are_headed_by_their_last_part() -> None:
    assert [key_name(key) for key in ("model.layers", "train.batch_size", "seed")] == [
        *["layers", "batch size", "seed"]
    ]
