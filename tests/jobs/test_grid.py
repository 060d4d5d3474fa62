from collections.abc import Callable

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from vae_lab.errors import UserError
from vae_lab.jobs.lines.grid import axes, jobs

Compose = Callable[..., DictConfig]
ALONE: dict[str, object] = {"one_at_a_time": {}, "replicate": {}}
PARSER = OverridesParser.create()
REPORT = {
    "cross": {"model": ["vae", "cvae"]},
    "one_at_a_time": {"model.layers": [2, 3, 4], "model.latent_size": [10, 15, 30]},
    "replicate": {"seed": [0]},
}


def names(
    sweep: dict[str, object], composed: Compose, *overrides: str, seeds: int | None = None
) -> list[str]:
    varied = axes(
        OmegaConf.create({"cross": {}, "one_at_a_time": {}, "replicate": {}} | sweep),
        PARSER.parse_overrides(list(overrides)),
        PARSER,
        seeds,
    )
    points = jobs(varied, lambda values: composed(*values), {"optimizer": "adam"})
    return [point.name for point in points]


def test_the_reports_sweep_is_ten_runs_with_each_base_once(composed: Compose) -> None:
    assert names(REPORT, composed) == [
        f"{model} {rest} s0"
        for model in ("vae", "cvae")
        for rest in ("L3 Z15", "L2 Z15", "L4 Z15", "L3 Z10", "L3 Z30")
    ]


def test_seeds_go_round_so_that_every_configuration_runs_once_first(composed: Compose) -> None:
    planned = names({"cross": {"model": "vae,cvae"}}, composed, "seed=0,1")
    assert planned == ["vae L3 Z15 s0", "cvae L3 Z15 s0", "vae L3 Z15 s1", "cvae L3 Z15 s1"]


def test_a_value_on_the_command_line_replaces_its_axis(composed: Compose) -> None:
    assert names(REPORT, composed, "model=vae", "model.layers=2") == [
        *["vae L2 Z15 s0", "vae L2 Z10 s0", "vae L2 Z30 s0"]
    ]
    assert names({"one_at_a_time": {"model.layers": "2,3"}}, composed, "model.layers=range(3,6)") == [
        *["vae L3 Z15 s0", "vae L4 Z15 s0", "vae L5 Z15 s0"]
    ]


def test_other_lists_on_the_command_line_are_crossed(composed: Compose) -> None:
    planned = names({"one_at_a_time": {"model.layers": [2, 3]}}, composed, "objective.beta=1,4")
    assert planned == [
        "beta=1 vae L3 Z15 s0",
        "beta=1 vae L2 Z15 s0",
        "beta=4 vae L3 Z15 s0",
        "beta=4 vae L2 Z15 s0",
    ]


def test_the_base_is_trained_once_and_named_like_its_neighbours(composed: Compose) -> None:
    assert names({"one_at_a_time": {"objective.beta": [1, 4]}}, composed) == [
        *["beta=1 vae L3 Z15 s0", "beta=4 vae L3 Z15 s0"]
    ]
    assert names({"one_at_a_time": {"optimizer": ["adam", "sgd"]}}, composed) == [
        *["optimizer=adam vae L3 Z15 s0", "optimizer=sgd vae L3 Z15 s0"]
    ]


def test_a_number_of_seeds_replicates_every_point(composed: Compose) -> None:
    assert len(names(REPORT, composed, seeds=3)) == 30
    assert names({}, composed, "seed=7", seeds=3) == ["vae L3 Z15 s7"]


def test_lists_texts_and_nulls_are_values(composed: Compose) -> None:
    values = {"model.hidden_size": [[8, 8, 8], 16], "data.root": [None, "/x"]}
    assert len(names({"cross": values}, composed)) == 4


def test_the_first_invalid_point_stops_the_sweep(composed: Compose) -> None:
    with pytest.raises(UserError, match=r"model\.layers=0: must be"):
        names({"cross": {"model.layers": [3, 0]}}, composed)
    with pytest.raises(UserError, match="empty list"):
        names({"cross": {"model.layers": []}}, composed)
    with pytest.raises(UserError, match=r"takes lists, choice\(\.\.\.\) and range\(\.\.\.\) only"):
        names({}, composed, "objective.beta=interval(0,1)")


@pytest.mark.parametrize("plus", ["+", "++"])
def test_a_key_is_the_same_key_with_and_without_a_plus(plus: str, composed: Compose) -> None:
    decays = axes(
        OmegaConf.create({"cross": {}, "one_at_a_time": {}, "replicate": {}}),
        PARSER.parse_overrides(["optimizer=sgd", f"{plus}optimizer.weight_decay=0,0.1"]),
        PARSER,
    )
    assert decays.cross == {"optimizer.weight_decay": ["0", "0.1"]}
    points = jobs(decays, lambda values: composed(*values))
    assert [point.name for point in points] == [
        "weight_decay=0 vae L3 Z15 s0",
        "weight_decay=0.1 vae L3 Z15 s0",
    ]
    assert points[1].overrides == ("optimizer=sgd", f"{plus}optimizer.weight_decay=0.1")
    assert names({"cross": {f"{plus}optimizer.weight_decay": [0, 0.1]}}, composed, "optimizer=sgd") == [
        *["weight_decay=0 vae L3 Z15 s0", "weight_decay=0.1 vae L3 Z15 s0"]
    ]


def test_a_forced_key_replaces_its_axis(composed: Compose) -> None:
    sizes: dict[str, object] = {"one_at_a_time": {"model.latent_size": [10, 15]}}
    assert names(sizes, composed, "++model.latent_size=2,3") == [
        "vae L3 Z15 s0",
        "vae L3 Z2 s0",
        "vae L3 Z3 s0",
    ]
    assert names({"replicate": {"seed": [0]}}, composed, "++seed=0,1") == ["vae L3 Z15 s0", "vae L3 Z15 s1"]


def composing(composed: Compose, options: dict[str, list[str]]) -> Callable[[list[str]], DictConfig]:
    """Composes with options of one's own of the group `model`."""
    return lambda line: composed(*[part for word in line for part in options.get(word, [word])])


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        ("model=vae", "model._target_=my_models.VAE", "vae"),
        ("model._target_=a.Ladder", "model._target_=b.Ladder", "ladder"),
        ("model.hidden_size=5", "model.hidden_size=9", "vae"),
        ("model.layers=2", "model.layers=4", "vae"),
    ],
)
def test_models_of_one_name_are_refused_before_they_are_averaged(
    composed: Compose, first: str, second: str, name: str
) -> None:
    varied = axes(OmegaConf.create({"cross": {"model": ["one", "two"]}, **ALONE}), [], PARSER)
    compose = composing(composed, {"model=one": [first], "model=two": [second]})
    with pytest.raises(UserError, match=f"^model=one and model=two: .* of one name, {name}, and would"):
        jobs(varied, compose)


def test_models_that_keys_or_names_tell_apart_can_be_varied(composed: Compose) -> None:
    options = {"model=one": ["model._target_=my_models.One"]}
    varied = axes(OmegaConf.create({"cross": {"model": ["vae", "cvae", "one"]}, **ALONE}), [], PARSER)
    points = jobs(varied, composing(composed, options))
    assert [point.name for point in points] == ["vae L3 Z15 s0", "cvae L3 Z15 s0", "one L3 Z15 s0"]
    assert names({"also": {"wide": {"model": "vae", "model.hidden_size": 9}}}, composed) == [
        *["vae L3 Z15 s0", "wide vae L3 Z15 s0"]
    ]
    assert len(names({"cross": {"model._target_": ["a.Ladder", "b.Ladder"]}}, composed)) == 2


@pytest.mark.parametrize(
    "line",
    ["seeds=2,3", "max_seeds=5,9", "reuse=finished,never", "study.name=a,b", "+tracking.experiment=a,b"],
)
def test_a_key_that_no_run_is_told_apart_by_is_no_axis(line: str, composed: Compose) -> None:
    with pytest.raises(UserError, match=r"is of the multirun as a whole; give one value") as raised:
        names({}, composed, line)
    assert str(raised.value).startswith(line)
    key = line.partition("=")[0].lstrip("+")
    for kind in ("cross", "one_at_a_time", "replicate"):
        with pytest.raises(UserError, match=rf"^sweep: {key}: is of the multirun"):
            names({kind: {key: [1, 2]}}, composed)
    with pytest.raises(UserError, match=rf"^sweep: {key}: is of the multirun"):
        names({"also": {"other": {key: 1}}}, composed)


def test_a_fault_and_an_option_of_the_evaluation_are_axes(composed: Compose) -> None:
    assert names({}, composed, "fault=none,kl_mean") == [
        *["fault=none vae L3 Z15 s0", "fault=kl_mean vae L3 Z15 s0"]
    ]
    assert len(names({}, composed, "evaluation.active_threshold=0.01,0.1")) == 2


@pytest.mark.parametrize(
    "sweep", [{"cross": {"train.threads": [1, 2]}}, {"also": {"b": {"train.threads": 2}}}]
)
def test_runs_that_share_the_cores_have_one_number_of_threads(
    sweep: dict[str, object], composed: Compose
) -> None:
    assert len(names({}, composed, "train.threads=2", "seed=0,1")) == 2
    with pytest.raises(UserError, match=r"^train\.threads=(1|null),2: is of all runs together") as raised:
        names(sweep, composed)
    assert "\n" not in str(raised.value)
