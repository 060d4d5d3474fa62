"""Searches without training: proposals, and who goes on."""

from collections.abc import Sequence

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from benchmarks import search as benchmark
from tests.search.bowl import RATE, SIZES, loss
from vae_lab.errors import UserError
from vae_lab.jobs.search.engine import Rules, Search
from vae_lab.jobs.search.forecast import Numbers
from vae_lab.jobs.search.objectives import Direction
from vae_lab.jobs.search.pool import ForecastSampler
from vae_lab.jobs.search.space import Dimension, Space
from vae_lab.jobs.search.trials import Trials

KIND = Dimension("optimizer", choices=("adam", "sgd"))


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


@pytest.mark.parametrize(
    "directions", [("minimize",), ("maximize",), ("minimize", "maximize"), ("maximize", "maximize")]
)
def test_the_forecast_draws_near_the_best_whichever_way_is_better(
    directions: tuple[Direction, ...],
) -> None:
    width = Dimension("width", low=0, high=1)  # 1 is best for every objective
    desk = optuna.create_study(directions=directions, sampler=optuna.samplers.RandomSampler())
    signs = [1 if direction == "maximize" else -1 for direction in directions]
    distributions: dict[str, BaseDistribution] = {"width": optuna.distributions.FloatDistribution(0, 1)}
    for place in np.linspace(0, 1, 21):
        values = [sign * float(place) for sign in signs]
        steps = {1: values[0]} if len(values) == 1 else {}
        params = {"width": float(place)}
        desk.add_trial(
            create_trial(values=values, params=params, distributions=distributions, intermediate_values=steps)
        )
    drawn: list[float] = []

    def judge(points: Sequence[tuple[float, ...]]) -> Numbers:
        drawn.extend(at for (at,) in points)
        return np.zeros(len(points))

    ForecastSampler(Space((width,)), judge, seed=0).before_trial(desk, desk.trials[-1])
    assert np.mean(np.array(drawn) > 0.75) > 0.4  # 0.25 of those at random


def test_a_sampler_learns_the_objectives_of_a_paused_trial_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rules = Rules(length=9, trials=12, epochs=60, directions=("minimize", "maximize"))
    search, learned = Search(Space((RATE, SIZES)), rules), list[object]()
    order = search.next()
    assert order is not None
    search.told(order.number, [3.0, 5.0])
    monkeypatch.setattr(search.proposals, "propose", lambda trials, paused, is_new: learned.append(paused))
    search.next()
    assert learned == [{order.number: [3.0, 5.0]}]


def test_the_recorded_grid_is_searched_within_the_bar() -> None:
    grid = benchmark.read(benchmark.GRIDS / "digits.csv")
    whole = len(grid.curves) * grid.epochs
    result = benchmark.replay(grid, Rules(length=grid.epochs, trials=len(grid.curves), epochs=whole // 4))
    assert result.loss - grid.best <= benchmark.NEAR
    assert result.epochs <= whole / 4
