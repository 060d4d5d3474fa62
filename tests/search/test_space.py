"""The space of a search: how config and command line say it, and which values its points have."""

from typing import Any

import optuna
import pytest
from omegaconf import DictConfig, OmegaConf

from tests.search.bowl import RATE
from vae_lab.errors import UserError
from vae_lab.jobs.grammar import PARSER
from vae_lab.jobs.search.engine import Rules, Search
from vae_lab.jobs.search.reading import space_of
from vae_lab.jobs.search.space import Dimension, Space

KIND = Dimension("optimizer", choices=("adam", "sgd"))


def node(**given: object) -> DictConfig:
    return OmegaConf.create({"space": {}, "conditional": [], **given})


def spaces(*line: str, **given: object) -> tuple[Space, dict[str, str]]:
    return space_of(node(**given), PARSER.parse_overrides([*line]))


def test_the_line_goes_before_the_file() -> None:
    space, fixed = spaces(
        "optimizer.lr=tag(log,interval(1e-4,1e-2))",
        "model.layers=3",
        "+optimizer.betas=[0.9,0.99],[0.5,0.9]",
        space={"model.layers": "1,2,3", "optimizer.lr": [1e-3, 1e-2], "model.latent_size": "range(2,10)"},
    )
    assert {dim.key: dim.size() for dim in space.dimensions} == {
        "optimizer.lr": float("inf"),
        "model.latent_size": 8,
        "+optimizer.betas": 2,
    }
    assert fixed == {"model.layers": "3"}


def test_a_condition_is_there_only_where_it_holds() -> None:
    conditional = [{"where": {"optimizer": "sgd"}, "space": {"optimizer.momentum": "interval(0.5,0.9)"}}]
    space, _ = spaces("optimizer=adam,sgd", conditional=conditional)
    search = Search(space, Rules(length=3, trials=12, sampler="random", pruner="none", epochs=36))
    orders = list(iter(search.next, None))
    assert len(orders) == 12
    assert {
        ("optimizer.momentum" in order.values) for order in orders if order.values["optimizer"] == "sgd"
    } == {True}
    assert {
        ("optimizer.momentum" in order.values) for order in orders if order.values["optimizer"] == "adam"
    } == {False}


@pytest.mark.parametrize("sampler", ["forecast", "random", "grid", "tpe"])
def test_a_range_of_decimals_has_its_values_and_no_others(sampler: str) -> None:
    space, _ = spaces("objective.beta=range(0.1,0.6,0.1)")
    search = Search(space, Rules(length=3, trials=12, sampler=sampler, pruner="none", epochs=36))
    orders = list(iter(search.next, None))
    assert sorted(float(str(order.values["objective.beta"])) for order in orders) == [0.1, 0.2, 0.3, 0.4, 0.5]


@pytest.mark.parametrize("beta", [0.3, 0.1 + 2 * 0.1])
def test_a_condition_on_a_decimal_holds_wherever_a_point_has_it(beta: float) -> None:
    conditional = [{"where": {"objective.beta": beta}, "space": {"model.layers": "1,2"}}]
    space, _ = spaces("objective.beta=range(0.1,0.6,0.1)", conditional=conditional)
    search = Search(space, Rules(length=3, trials=12, pruner="none", epochs=36))
    orders = list(iter(search.next, None))
    assert len(orders) == 6
    for order in orders:
        assert ("model.layers" in order.values) == (order.values["objective.beta"] == 0.3)


def test_a_range_of_halves_in_steps_of_one_keeps_its_halves() -> None:
    (dim,) = spaces("objective.beta=range(0.5,4)")[0].dimensions
    assert dim.values() == [0.5, 1.5, 2.5, 3.5]
    search = Search(Space((dim,)), Rules(length=3, trials=9, pruner="none", epochs=27))
    orders = list(iter(search.next, None))
    assert {order.values["objective.beta"] for order in orders} == {*dim.values()}


SIZE_BY_KIND = [
    {"where": {"optimizer": "adam"}, "space": {"train.batch_size": "choice(32,64)"}},
    {"where": {"optimizer": "sgd"}, "space": {"train.batch_size": "choice(128,256)"}},
]


@pytest.mark.parametrize("sampler", ["forecast", "random", "tpe", "nsgaii"])
def test_a_key_below_two_conditions_has_the_values_of_the_one_that_holds(sampler: str) -> None:
    space, _ = spaces("optimizer=adam,sgd", "model.layers=range(1,5)", conditional=SIZE_BY_KIND)
    storage = optuna.storages.InMemoryStorage()
    search = Search(space, Rules(length=3, trials=16, sampler=sampler, epochs=48), storage)
    while (order := search.next()) is not None:
        sizes = (32, 64) if order.values["optimizer"] == "adam" else (128, 256)
        assert order.values["train.batch_size"] in sizes
        search.told(order.number, [float(str(order.values["train.batch_size"])) / order.until])
    assert len({tuple(sorted(point.items())) for point in search.points.values()}) == 16
    assert Search(space, search.rules, storage).points == search.points


MOMENTUM = Dimension("optimizer.momentum", low=0.5, high=0.9)
IN_A_FILE: dict[str, Any] = {
    "space": {"optimizer": "choice(adam,sgd)", "optimizer.lr": "tag(log,interval(1e-4,1e-2))"},
    "conditional": [{"where": {"optimizer": "sgd"}, "space": {"optimizer.momentum": "interval(0.5,0.9)"}}],
}


def test_only_a_key_below_two_conditions_has_a_name_of_its_own_in_the_storage() -> None:
    space, _ = spaces(space=IN_A_FILE["space"], conditional=[*SIZE_BY_KIND, *IN_A_FILE["conditional"]])
    search, names = Search(space, Rules(length=3, sampler="random", pruner="none", epochs=60)), set[str]()
    while (order := search.next()) is not None:
        names |= {*search.trials.all()[order.number].params}
    sizes = {f"train.batch_size where optimizer={kind}" for kind in ("adam", "sgd")}
    assert names == {"optimizer", "optimizer.lr", "optimizer.momentum"} | sizes


@pytest.mark.parametrize(
    ("line", "varied", "below", "fixed"),
    [
        ([], [KIND, RATE], [MOMENTUM], {}),
        (["optimizer=sgd"], [RATE, MOMENTUM], [], {"optimizer": "sgd"}),
        (["optimizer=adam"], [RATE], [], {"optimizer": "adam"}),
        (["optimizer=adam,adamw"], [KIND._replace(choices=("adam", "adamw")), RATE], [], {}),
        (["optimizer.momentum=0.9"], [KIND, RATE], [Dimension("optimizer.momentum", (0.9,))], {}),
        (["+optimizer.momentum=0.9"], [KIND, RATE], [Dimension("+optimizer.momentum", (0.9,))], {}),
        (["optimizer.momentum=0.6,0.7"], [KIND, RATE], [Dimension("optimizer.momentum", (0.6, 0.7))], {}),
        (
            ["optimizer=sgd", "optimizer.momentum=0.9"],
            [RATE],
            [],
            {"optimizer": "sgd", "optimizer.momentum": "0.9"},
        ),
        (
            ["optimizer=sgd", "optimizer.momentum=0.6,0.7"],
            [RATE, Dimension("optimizer.momentum", (0.6, 0.7))],
            [],
            {"optimizer": "sgd"},
        ),
        (
            ["optimizer=adam", "optimizer.momentum=0.9"],  # which Adam has not: refused when it is composed
            [RATE],
            [],
            {"optimizer": "adam", "optimizer.momentum": "0.9"},
        ),
    ],
)
def test_the_line_narrows_what_a_file_has_under_conditions(
    line: list[str], varied: list[Dimension], below: list[Dimension], fixed: dict[str, str]
) -> None:
    space, of_all = spaces(*line, **IN_A_FILE)
    assert [*space.dimensions] == varied
    assert [dim for condition in space.conditions for dim in condition.dimensions] == below
    assert [condition.where for condition in space.conditions] == [{"optimizer": "sgd"}] * bool(below)
    assert of_all == fixed


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("optimizer.lr=interval(1,1)", "must be two finite numbers, the lower one first"),
        ("optimizer.lr=tag(log,interval(0,1))", "with tag(log,...) must be above 0"),
        ("optimizer.lr=tag(fast,interval(1,2))", "must be log"),
        ("model.layers=range(4,1)", "the lower one first"),
        ("model.layers=tag(log,range(1,9,2))", "must be 1, or an interval"),
        ("objective.beta=range(0.5,inf)", "must be finite numbers"),
        ("objective.beta=tag(log,range(0.5,9))", "must be whole numbers, or an interval"),
        ("seed=0,1", "does not vary the seed"),
        ("search.trials=3,4", "is of the search as a whole"),
        ("seeds=2,3", "is of the search as a whole"),
        ("++tracking.experiment=a,b", "is of the search as a whole"),
        ("study.name=a,b", "is of the search as a whole"),
        ("model.layers=3", "nothing varies"),
        ("model=glob(*)", "must be choice(a,b)"),
    ],
)
def test_what_is_no_space_is_said_in_one_line(line: str, rule: str) -> None:
    with pytest.raises(UserError) as raised:
        spaces(line)
    assert rule in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"space": {"model.layers": 3}}, "is one value"),
        ({"space": {"model.layers": "range("}}, "must be choice(a,b)"),
        ({"conditional": [{"where": {}}]}, "must be a mapping such as"),
        (
            {"conditional": [{"where": {"data": "mnist"}, "space": {"model.layers": "1,2"}}]},
            "must be one of model",
        ),
        (
            {"conditional": [{"where": {"model": "rnn"}, "space": {"model.layers": "1,2"}}]},
            "must be one of vae, cvae",
        ),
        (
            {"conditional": [{"where": {"width": 9}, "space": {"model.layers": "1,2"}}]}
            | {"space": {"width": "range(2,9)"}},
            "must be one of those from 2 to 8",
        ),
        (
            {"conditional": [{"where": {"model": "vae"}, "space": {"width": "3,4"}}]}
            | {"space": {"width": "range(2,9)"}},
            "is in search.space already",
        ),
        (
            {"space": {"width": "range(2,9)"}}
            | {
                "conditional": [
                    {"where": {"model": "vae"}, "space": {"model.layers": "1,2"}},
                    {"where": {"width": 3}, "space": {"model.layers": "1,3"}},
                ]
            },
            "model.layers: has other values in search.conditional[0], which can hold at the same time",
        ),
    ],
)
def test_of_a_file_too(given: dict[str, object], rule: str) -> None:
    with pytest.raises(UserError) as raised:
        spaces("model=vae,cvae", **given)
    assert rule in str(raised.value)
