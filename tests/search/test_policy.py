"""Searches without training: spaces, proposals, who goes on, and what a killed search finds again."""

from pathlib import Path

import optuna
import pytest
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial, TrialState, create_trial

from benchmarks import search as benchmark
from vae_lab.errors import UserError
from vae_lab.jobs.grammar import PARSER
from vae_lab.jobs.search.engine import Order, Rules, Search
from vae_lab.jobs.search.space import Dimension, Space, space_of
from vae_lab.jobs.search.trials import Trials

RATE = Dimension("optimizer.lr", low=1e-4, high=1e-2, log=True)
SIZES = Dimension("model.latent_size", low=2, high=9, step=1)
KIND = Dimension("optimizer", choices=("adam", "sgd"))


def node(**given: object) -> DictConfig:
    return OmegaConf.create({"space": {}, "conditional": [], **given})


def spaces(*line: str, **given: object) -> tuple[Space, dict[str, str]]:
    return space_of(node(**given), PARSER.parse_overrides([*line]))


def loss(order: Order) -> float:
    """A bowl around a rate of 1e-3 and size 6, that an epoch's noise-free curve comes down to."""
    rate, size = float(str(order.values["optimizer.lr"])), float(str(order.values["model.latent_size"]))
    return 100 + abs(rate - 1e-3) * 1e3 + abs(size - 6) + 20 / order.until


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


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("optimizer.lr=interval(1,1)", "must be two finite numbers, the lower one first"),
        ("optimizer.lr=tag(log,interval(0,1))", "with tag(log,...) must be above 0"),
        ("optimizer.lr=tag(fast,interval(1,2))", "must be log"),
        ("model.layers=range(4,1)", "the lower one first"),
        ("model.layers=tag(log,range(1,9,2))", "must be 1, or an interval"),
        ("seed=0,1", "does not vary the seed"),
        ("search.trials=3,4", "is of the search as a whole"),
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
    ],
)
def test_of_a_file_too(given: dict[str, object], rule: str) -> None:
    with pytest.raises(UserError) as raised:
        spaces("model=vae,cvae", **given)
    assert rule in str(raised.value)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"sampler": "hope"}, "search.sampler=hope: must be one of bruteforce, cmaes, forecast, gp, grid"),
        ({"pruner": "hope"}, "search.pruner=hope: must be one of hyperband, median"),
        ({"sampler": "grid"}, "optimizer.lr: must be choice(...) or range(...)"),
        ({"sampler": "bruteforce"}, "optimizer.lr: must be choice(...) or range(...)"),
        ({"sampler_options": {"depth": 3}}, "search.sampler_options"),
        ({"pruner": "median", "pruner_options": {"depth": 3}}, "search.pruner_options"),
        ({"pruner_options": {"depth": 3}}, "search.pruner=forecast takes none"),
        ({"pruner": "median", "directions": ("minimize", "minimize")}, "Optuna's pruners take one objective"),
    ],
)
def test_a_way_that_does_not_exist_is_said_in_one_line(options: dict[str, object], rule: str) -> None:
    with pytest.raises(UserError) as raised:
        Search(Space((RATE, SIZES)), Rules(length=9, **options))  # type: ignore[arg-type]
    assert rule in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("sampler", ["forecast", "tpe", "random", "gp", "nsgaii", "cmaes", "qmc"])
def test_every_sampler_proposes_new_points(sampler: str) -> None:
    search = Search(
        Space((RATE, SIZES)), Rules(length=9, trials=6, epochs=54, sampler=sampler, pruner="none")
    )
    while (order := search.next()) is not None:
        search.told(order.number, [loss(order)])
    points = [tuple(values.values()) for values in search.points.values()]
    assert len({*points}) == 6
    assert {trial.state for trial in search.trials.all()} == {TrialState.COMPLETE}


def test_a_grid_ends_when_every_point_was_tried() -> None:
    space = Space((KIND, SIZES._replace(high=3)))
    for sampler in ("grid", "bruteforce", "forecast", "tpe"):
        search = Search(space, Rules(length=3, trials=60, epochs=180, sampler=sampler, pruner="none"))
        while (order := search.next()) is not None:
            search.told(order.number, [float(order.number)])
        assert len(search.points) == 4, sampler


@pytest.mark.parametrize("pruner", ["forecast", "halving", "median", "successivehalving", "hyperband"])
def test_a_pruner_saves_epochs_and_stops_nobody_twice(pruner: str) -> None:
    search = Search(
        Space((RATE, SIZES)), Rules(length=27, trials=20, epochs=400, sampler="random", pruner=pruner)
    )
    length: dict[int, int] = {}
    while (order := search.next()) is not None:
        length[order.number] = order.until
        search.told(order.number, [loss(order)])
    for number in search.ladder.paused():
        search.stop(number)
    states = [trial.state for trial in search.trials.all()]
    assert TrialState.RUNNING not in states
    assert TrialState.COMPLETE in states
    assert sum(length.values()) == search.ladder.spent <= 400


@pytest.mark.parametrize("pruner", ["forecast", "halving"])
def test_the_smallest_budget_is_enough_for_one_trial_of_full_length(pruner: str) -> None:
    search = Search(Space((RATE, SIZES)), Rules(length=9, trials=4, pruner=pruner))
    while (order := search.next()) is not None:
        search.told(order.number, [loss(order)])
    assert search.best() is not None
    assert search.ladder.spent <= search.rules.budget == 9


def test_of_two_objectives_the_front_goes_on() -> None:
    rules = Rules(length=9, trials=12, epochs=60, directions=("minimize", "maximize"))
    search = Search(Space((RATE, SIZES)), rules)
    while (order := search.next()) is not None:
        search.told(order.number, [loss(order), float(str(order.values["model.latent_size"]))])
    complete = [trial for trial in search.trials.all() if trial.state == TrialState.COMPLETE]
    assert {len(trial.values) for trial in complete} == {2}
    assert search.trials.study.best_trials


def searched(storage: str, *, killed: bool) -> list[tuple[int, int, float]]:
    """Runs a search, which is made anew on its storage between any two calls if it is killed all the time."""
    told: list[tuple[int, int, float]] = []

    def made() -> Search:
        return Search(Space((RATE, SIZES)), Rules(length=9, trials=6, epochs=30), storage)

    search = made()
    while (order := search.next()) is not None:
        if killed:
            search = made()
            again = search.next()
            assert again == order
        search.told(order.number, [loss(order)])
        told.append((order.number, order.until, loss(order)))
        search = made() if killed else search
    for number in search.ladder.paused():
        search.stop(number)
    assert TrialState.RUNNING not in [trial.state for trial in search.trials.all()]
    return told


def test_a_search_killed_between_any_two_calls_goes_on_as_if_it_were_not(tmp_path: Path) -> None:
    whole = searched(f"sqlite:///{tmp_path}/whole.db", killed=False)
    assert searched(f"sqlite:///{tmp_path}/parts.db", killed=True) == whole


def orders(rules: Rules, restarts: set[int]) -> list[Order]:
    """The orders of a search that is made anew on its storage after so many of them."""
    storage = optuna.storages.InMemoryStorage()
    search, ordered = Search(Space((RATE, SIZES)), rules, storage), []
    while (order := search.next()) is not None:
        ordered.append(order)
        search.told(order.number, [loss(order)])
        if len(ordered) in restarts:
            search = Search(Space((RATE, SIZES)), rules, storage)
    return ordered


@pytest.mark.parametrize("sampler", ["forecast", "qmc", "nsgaii"])
def test_a_search_stopped_in_the_middle_makes_the_same_orders(sampler: str) -> None:
    rules = Rules(length=9, trials=30, epochs=90, sampler=sampler)
    whole = orders(rules, restarts=set())
    assert len(whole) > 30
    assert orders(rules, restarts={7, 12, 20, 29}) == whole


class KilledError(Exception):
    """The process of a search ends."""


def killed(*_: object) -> None:
    raise KilledError


@pytest.mark.parametrize(
    ("pruner", "call", "state"),
    [
        ("none", "complete", TrialState.COMPLETE),
        ("forecast", "complete", TrialState.COMPLETE),
        ("median", "stop", TrialState.PRUNED),
        ("median", "is_given_up", TrialState.PRUNED),
    ],
)
def test_what_a_killed_search_did_not_say_of_a_trial_is_said_when_it_goes_on(
    pruner: str, call: str, state: TrialState, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = optuna.storages.InMemoryStorage()
    options = {"n_startup_trials": 1} if pruner == "median" else {}
    rules = Rules(length=9, trials=20, epochs=180, sampler="random", pruner=pruner, pruner_options=options)
    undisturbed = {order.number: order.until for order in orders(rules, restarts=set())}
    search = Search(Space((RATE, SIZES)), rules, storage)
    with monkeypatch.context() as patch:
        while (order := search.next()) is not None:
            is_last = undisturbed[order.number] == order.until and (order.until == 9) == (call == "complete")
            if is_last:
                patch.setattr(Trials, call, killed)
                with pytest.raises(KilledError):
                    search.told(order.number, [loss(order)])
                break
            search.told(order.number, [loss(order)])
    assert order is not None
    again = Search(Space((RATE, SIZES)), rules, storage)
    assert again.trials.all()[order.number].state == state
    assert order.number not in again.ladder.paused()


def test_a_trial_has_its_own_number_when_another_process_adds_one_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    storage = optuna.storages.InMemoryStorage()
    create = storage.create_new_trial

    def create_two(study_id: int, template_trial: FrozenTrial | None = None) -> int:
        trial_id = create(study_id, template_trial)
        create(study_id, template_trial)
        return trial_id

    trials = Trials(storage, "search", ["minimize"])
    monkeypatch.setattr(storage, "create_new_trial", create_two)
    assert trials.add(create_trial(state=TrialState.RUNNING)) == 0


def test_a_trial_that_a_pruner_let_go_on_is_not_asked_about_again() -> None:
    storage = optuna.storages.InMemoryStorage()
    rules = Rules(length=3, pruner="median", epochs=60, pruner_options={"n_startup_trials": 1})
    search = Search(Space((RATE, SIZES)), rules, storage)
    first, second = search.next(), search.next()
    assert first is not None
    assert second is not None
    search.told(first.number, [200.0])
    search.told(second.number, [100.0])
    while search.ladder.climbers[second.number].height < 2:
        order = search.next()
        assert order is not None
        if order.number == second.number:
            search.told(order.number, [90.0])
    again = Search(Space((RATE, SIZES)), rules, storage)  # for which the first would be above the median
    assert again.trials.all()[first.number].state == TrialState.RUNNING


def test_the_recorded_grid_is_searched_within_the_bar() -> None:
    grid = benchmark.read(benchmark.GRIDS / "digits.csv")
    whole = len(grid.curves) * grid.epochs
    result = benchmark.replay(grid, Rules(length=grid.epochs, trials=len(grid.curves), epochs=whole // 4))
    assert result.loss - grid.best <= benchmark.NEAR
    assert result.epochs <= whole / 4
