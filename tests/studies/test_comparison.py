import pytest

from vae_lab.errors import UserError
from vae_lab.studies.comparison import (
    Group,
    Study,
    comparisons,
    key_name,
    reference_values,
    requested_metrics,
)
from vae_lab.studies.plan import Plan
from vae_lab.tracking import StoredRun


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
    assert (len(group.finished), len(group.lost)) == (3, 1)
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
    plan = Plan(name="x", reference=reference)

    def found(**params: str) -> list[float] | None:
        return reference_values(plan, Group({}, [record("FINISHED", 100.0, **params)], []))

    assert found(model="vae", model__layers="3", data="mnist") == [150.0, 108.9]
    assert found(model="vae", model__layers="2", data="mnist") is None
    assert found(model="vae", model__layers="3", data="digits") is None


def test_any_logged_metric_can_be_shown_and_others_are_named() -> None:
    (measure,) = requested_metrics(["test/loss"], [record()])
    assert measure.heading == "held-out loss"
    with pytest.raises(UserError, match=r"--metric test/los: no run has it; did you mean test/loss\?"):
        requested_metrics(["test/los"], [record()])


def test_a_plan_survives_its_text() -> None:
    assert Plan.from_json(ONE_AT_A_TIME.to_json()) == ONE_AT_A_TIME


def test_keys_are_headed_by_their_last_part() -> None:
    assert [key_name(key) for key in ("model.layers", "train.batch_size", "seed")] == [
        *["layers", "batch size", "seed"]
    ]
