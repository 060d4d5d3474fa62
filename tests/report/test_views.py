import base64
import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.studies.test_comparison import ONE_AT_A_TIME, record, run, study
from vae_lab.report import views
from vae_lab.studies.comparison import comparisons
from vae_lab.studies.plan import Plan
from vae_lab.studies.study import load_study
from vae_lab.tracking import Store
from vae_lab.tracking.provenance import user


def stored_views(store: Store, experiment_id: str) -> dict[str, dict[str, Any]]:
    """The saved views of an experiment: key to title and state."""
    saved = {}
    for key, value in store.client.get_experiment(experiment_id).tags.items():
        if key.startswith(views.VIEW_TAG):
            envelope = json.loads(value)
            packed = envelope["state"].removeprefix("deflate;")
            state = json.loads(zlib.decompress(base64.b64decode(packed)))
            saved[key.removeprefix(views.VIEW_TAG)] = {"title": envelope["name"], "state": state}
    return saved


def test_every_question_of_a_study_has_a_view_that_finds_its_runs(ablations: Path) -> None:
    store = Store.open(f"sqlite:///{ablations / 'mlflow.db'}")
    loaded = load_study(store, "ablations")
    saved = stored_views(store, loaded.parent.experiment_id)
    assert {key: view["title"] for key, view in saved.items()} == {
        f"ablations-model-layers-{user()}": "1 What depth does",
        f"ablations-model-latent-size-{user()}": "2 What latent size does",
        f"ablations-all-{user()}": "3 All runs by held-out loss",
    }
    counts = [len(store.records(view["state"]["searchFilter"])) for _, view in sorted(saved.items())]
    assert counts == [10, 6, 6]


def test_every_logged_metric_and_picture_has_a_card(ablations: Path) -> None:
    store = Store.open(f"sqlite:///{ablations / 'mlflow.db'}")
    loaded = load_study(store, "ablations")
    state = stored_views(store, loaded.parent.experiment_id)[f"ablations-all-{user()}"]["state"]
    carded = {card.get("metricKey") for card in state["compareRunCharts"]}
    logged = {metric for trained in loaded.runs for metric in trained.metrics}
    assert logged <= carded


def test_any_name_makes_a_view_that_can_be_read() -> None:
    name = "\"a\" {{ 1 }} 'b' <i> \\ é"
    plan = Plan(name=name, cross={"model": ["vae", name]}, one_at_a_time={name: ["1"]}, base={name: name})
    odd = study(plan, record("FINISHED", 100.0, model=name, **{name: "1"}))
    for view in views.study_views(odd):
        state = views.view_state(view, odd)
        assert state["searchFilter"] == view.where
        assert f"params.`{name}`" in state["selectedColumns"]
        assert state["compareRunCharts"][0]["xaxis"]["key"] == view.axis


def test_views_of_more_runs_than_the_ui_loads_say_so_and_begin_with_every_configuration() -> None:
    def view_of(seeds: int) -> views.View:
        seeded = [run("vae", layers, 15, seed) for layers in (2, 3, 4) for seed in range(seeds)]
        named = [replace(trained, run_id=f"{i:06}") for i, trained in enumerate(seeded)]
        return views.study_views(study(ONE_AT_A_TIME, *named))[0]

    few, many = view_of(33), view_of(40)
    assert (few.title, few.order) == ("1 What depth does", "tags.`mlflow.runName`")
    assert many.title == "1 What depth does, seed by seed: the first 100 of 120 runs"
    assert many.order == "params.`seed`"
    assert many[2:4] == few[2:4]


def test_the_view_of_all_runs_says_how_many_the_ui_leaves_out() -> None:
    def title(count: int) -> str:
        runs = [replace(run("vae", 3, 15, seed), run_id=str(seed)) for seed in range(count)]
        return views.study_views(study(ONE_AT_A_TIME, *runs))[-1].title

    assert title(100).endswith("All runs, best first")
    assert title(1200).endswith("All runs, best first: the best 100 of 1,200")


def test_runs_whose_losses_do_not_compare_have_no_best_one() -> None:
    runs = [record(model="vae", model__layers="3", objective__beta=beta) for beta in "14" for _ in range(60)]
    plan = Plan("x", cross={"objective.beta": ["1", "4"]})
    assert views.study_views(study(plan, *runs))[-1].title.endswith(
        "All runs by held-out loss: the first 100 of 120"
    )
    assert views.study_views(study(plan, *runs[:9]))[-1].title.endswith("All runs, best first")


def test_colours_tell_families_apart_and_every_run_of_a_family() -> None:
    runs = [run(model, layers, 15) for model in ("vae", "cvae") for layers in (2, 3, 4)]
    named = [replace(trained, run_id=str(i)) for i, trained in enumerate(runs)]
    shades = views.colours(comparisons(study(ONE_AT_A_TIME, *named)))
    assert len(set(shades.values())) == 6
    assert all(len(shade) == 7 and shade.startswith("#") for shade in shades.values())


def test_the_answer_is_one_line_with_the_losses_in_order() -> None:
    plan = Plan(name="x", cross={"model": ["vae"], "model.layers": ["2", "3"]})
    runs = [
        record("FINISHED", loss, model="vae", model__layers=layers)
        for loss, layers in ((110.0, "3"), (104.5, "2"))
    ]
    (comparison,) = comparisons(study(plan, *runs))
    assert views.answer(comparison) == "vae: held-out loss 104.50, 110.00 for layers 2, 3"


def test_a_link_carries_the_view_and_the_machine_learning_page() -> None:
    view = views.View("depth", "1 What depth does", "model.layers", "")
    assert views.page("7", view) == (
        "#/experiments/7/runs?workflowType=machine_learning&compareRunsMode=CHART&viewStateShareKey=depth"
    )
