from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from vae_lab import config
from vae_lab.errors import UserError
from vae_lab.files import CONFIG_ROOT
from vae_lab.jobs.job import Job
from vae_lab.jobs.lines.grid import axes as axes_of
from vae_lab.jobs.lines.grid import jobs
from vae_lab.jobs.lines.rounds import Round, plan_of
from vae_lab.jobs.parts.built import build_optimizer, build_schedule
from vae_lab.studies import claims
from vae_lab.studies.comparison import comparisons
from vae_lab.studies.plan import Plan
from vae_lab.studies.study import POINT, Study, load_study, with_point
from vae_lab.tracking import Store, StoredRun

Lab = Callable[..., tuple[int, str, str]]
Compose = Callable[..., DictConfig]
PARSER = OverridesParser.create()
STUDIES = sorted(path.stem for path in (CONFIG_ROOT / "experiments").glob("*.yaml"))


def points(composed: Compose, study: str, *overrides: str, seeds: int | None = None) -> list[Job]:
    master = composed(f"experiments={study}", *overrides)
    axes = axes_of(master.sweep, PARSER.parse_overrides(list(overrides)), PARSER, seeds)
    return jobs(axes, lambda values: composed(f"experiments={study}", *values))


@pytest.mark.parametrize("study", STUDIES)
def test_every_point_of_every_study_is_valid_and_has_a_name_of_its_own(study: str, composed: Compose) -> None:
    found = points(composed, study, seeds=1)
    assert found
    assert len({point.name for point in found}) == len(found)
    assert all(len(point.name) <= 60 for point in found)


@pytest.mark.parametrize("study", STUDIES)
def test_every_claim_of_every_study_finds_its_runs_among_those_planned(study: str, composed: Compose) -> None:
    found = points(composed, study, seeds=2)
    master = composed(f"experiments={study}")
    axes = axes_of(master.sweep, [], PARSER, 2)
    plan = plan_of(master, Round(axes, {(point.name, ""): point for point in found}), study, False)
    metrics = [each.metric for each in claims.parse(plan.claims)]
    runs = [
        StoredRun(
            str(i), "1", point.name, "FINISHED", config.parameters(point.settings), made_up(i, metrics), {}, i
        )
        for i, point in enumerate(found)
    ]
    if plan.claims:
        verdicts = claims.judge_study(Study(runs[0], plan, [with_point(run, plan) for run in runs]))
        assert [each.n for each in verdicts] == [2] * len(plan.claims)
    assert set(plan.also) == set(master.sweep.also)


def made_up(number: int, metrics: list[str]) -> dict[str, float]:
    return {metric: float(37 * number % 97) for metric in metrics}


def named(sweep: dict[str, Any], composed: Compose, *overrides: str) -> list[str]:
    whole = OmegaConf.create({"cross": {}, "one_at_a_time": {}, "replicate": {}, "also": {}} | sweep)
    axes = axes_of(whole, PARSER.parse_overrides(list(overrides)), PARSER)
    return [job.name for job in jobs(axes, lambda values: composed(*values))]


WIDE = {"also": {"wide": {"model.hidden_size": 800, "model.latent_size": 20}}}


def test_a_named_point_stands_beside_the_base_in_every_family(composed: Compose) -> None:
    assert named(WIDE | {"cross": {"model": ["vae", "cvae"]}}, composed) == [
        *["vae L3 Z15 s0", "wide vae L3 Z20 s0", "cvae L3 Z15 s0", "wide cvae L3 Z20 s0"]
    ]


def test_a_named_point_goes_before_what_is_crossed_and_comes_once(composed: Compose) -> None:
    sweep = {
        "cross": {"model.layers": [2, 4]},
        "also": {"half": {"model.layers": 2, "model.encoder_layers": 4}},
    }
    assert named(sweep, composed) == ["vae L2 Z15 s0", "half vae L4+2 Z15 s0", "vae L4 Z15 s0"]


def test_a_value_on_the_command_line_goes_before_a_named_point(composed: Compose) -> None:
    assert named(WIDE, composed, "model.latent_size=3") == ["vae L3 Z3 s0", "wide vae L3 Z3 s0"]


def test_a_named_point_that_another_axis_has_too_is_trained_once(composed: Compose) -> None:
    sweep = {"one_at_a_time": {"model.latent_size": [15, 30]}, "also": {"large": {"model.latent_size": 30}}}
    whole = OmegaConf.create({"cross": {}, "replicate": {}} | sweep)
    planned = jobs(axes_of(whole, [], PARSER), lambda values: composed(*values))
    assert [(job.name, job.points) for job in planned] == [
        *[("vae L3 Z15 s0", ()), ("vae L3 Z30 s0", ("large",))]
    ]


def test_of_many_keys_only_the_one_that_leaves_the_base_is_in_the_name(composed: Compose) -> None:
    sweep = {"one_at_a_time": {"model.init": ["default", "xavier"], "objective.beta": [1, 2]}}
    assert named(sweep, composed) == ["vae L3 Z15 s0", "init=xavier vae L3 Z15 s0", "beta=2 vae L3 Z15 s0"]


@pytest.mark.parametrize(
    ("also", "message"),
    [
        ({"base": {"seed": 1}}, "sweep.also: base: a point's name must be"),
        ({"a/b": {"seed": 1}}, "sweep.also: a/b: a point's name must be"),
        ({"wide": {}}, "sweep.also.wide: must map keys to one value each"),
        ({"wide": 3}, "sweep.also.wide: must map keys to one value each"),
        ({"wide": {"model.layers": 0}}, "model.layers=0: must be"),
    ],
)
def test_a_wrong_named_point_is_told(also: dict[str, Any], message: str, composed: Compose) -> None:
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        named({"also": also}, composed)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["study.oracle.points=[ridge]"], "study.oracle.points=ridge: no such point in sweep.also"),
        (["study.oracle.shares=[1.5]"], "study.oracle.shares=1.5: must be between 0 and 1"),
        (["+study.oracle.size=3"], "study.oracle.size: unknown key"),
    ],
)
def test_a_wrong_oracle_is_told(overrides: list[str], message: str, composed: Compose) -> None:
    with pytest.raises(UserError) as raised:
        config.checked(composed("experiments=latent_oracle", *overrides))
    assert message in str(raised.value)


OWN = """\
# @package _global_
# Is a wide network better than the base, and do a log's epochs agree with ours?
study:
  name: width
  reference:
    source: a log
    metric: train/loss
    at: [1, 2, 9]
    conditions: {data: digits}
    note: What the log does otherwise.
    values: [{model: vae, model.hidden_size: 4, epochs: [50.0, 40.0]}]
    landmarks: [{source: a paper, metric: test/loss, epochs: 1000, value: 20.5}]
  claims:
    - {id: W, text: Wide is better., metric: test/loss, expect: better, explanation: width,
       of: {point: wide}, than: {point: base}}
model: {hidden_size: 4}
sweep:
  also: {wide: {model.hidden_size: 64}}
  replicate: {seed: [0, 1, 2, 3, 4, 5]}
hydra: {mode: MULTIRUN}
"""


def test_a_study_shows_its_points_its_explanation_and_published_numbers(lab: Lab, folder: Path) -> None:
    (folder / "own" / "experiments").mkdir(parents=True)
    (folder / "own" / "experiments" / "width.yaml").write_text(OWN)
    code, out, err = lab(
        *("--config-dir", "own", "experiments=width", "data=digits"),
        *("train.epochs=2", "train.device=cpu", "evaluation.pictures=false"),
    )
    assert code == 0, err
    assert "What explains it  “width” survives." in out
    store = Store.open()
    study = load_study(store, "width")
    (both,) = comparisons(study)
    assert [group.keys[POINT] for group in both.groups] == ["base", "wide"]
    wide = [run for run in study.runs if run.params["model.hidden_size"] == "64"]
    assert {run.params[POINT] for run in wide} == {"wide"}

    page = store.download(study.parent.run_id, "report.html").read_text()
    assert "“width” survives." in page
    assert "What the log does otherwise." in page
    published = store.download(study.parent.run_id, "tables/published.csv").read_text()
    histories = [store.history(run.run_id, "train/loss") for run in both.groups[0].finished]
    mean = sum(each[0] for each in histories) / 6
    assert f"{mean - 50.0}"[:8] in published
    assert "a paper,test/loss,1000.0,20.5" in published


def test_named_points_leave_the_tables_of_the_axes_alone() -> None:
    plan = Plan(
        "p",
        one_at_a_time={"model.latent_size": ["4", "15"]},
        also={"wide": {"model.hidden_size": "64", "model.latent_size": "4"}},
        base={"model.latent_size": "15", "model.hidden_size": "16"},
    )
    settings = [("15", "16"), ("4", "16"), ("4", "64")]
    runs = [
        StoredRun(str(i), "1", "r", "FINISHED", {"model.latent_size": z, "model.hidden_size": h}, {}, {}, i)
        for i, (z, h) in enumerate(settings)
    ]
    study = Study(runs[0], plan, [with_point(run, plan) for run in runs])
    latent, named = comparisons(study)
    assert [[run.run_id for run in group.finished] for group in latent.groups] == [["1"], ["0"]]
    assert [(group.keys[POINT], group.finished[0].run_id) for group in named.groups] == [
        *[("base", "0"), ("wide", "2")]
    ]
    assert POINT not in study.runs[1].params


def test_the_log_beside_burda2016_meets_the_studys_own_runs(composed: Compose) -> None:
    found = points(composed, "burda2016")
    settings = config.checked(composed("experiments=burda2016"))
    reference = settings.study.reference
    assert len(reference["values"][0]["epochs"]) == settings.train.epochs == 40
    params = config.parameters(found[0].settings)
    assert all(params[key] == str(value) for key, value in reference["conditions"].items())
    rates = []
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = build_optimizer(settings, [weight])
    schedule = build_schedule(settings, optimizer)
    assert schedule is not None
    for _ in range(40):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    stages = [1e-3 * 10 ** (-i / 7) for i in range(4) for _ in range(3**i)]
    assert rates == pytest.approx(stages)
    assert optimizer.param_groups[0]["eps"] == 1e-4
