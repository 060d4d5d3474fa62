"""Searches without training that go on: what a killed, a finished and a failing one find again."""

from collections.abc import Callable, Container
from pathlib import Path

import optuna
import pytest
from omegaconf import DictConfig
from optuna.trial import TrialState

from tests.conftest import SMALL
from tests.search.bowl import RATE, SIZES, loss
from vae_lab import config
from vae_lab.jobs.search.engine import Order, Rules, Search
from vae_lab.jobs.search.rules import digest, rules_of
from vae_lab.jobs.search.space import Space
from vae_lab.jobs.search.telling import searched as searched_so_far
from vae_lab.jobs.search.trials import Trials
from vae_lab.studies.searched import Searched, Step


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


def orders(rules: Rules, restarts: Container[int], fails_at: int | None = None) -> list[Order]:
    """The orders of a search that is made anew on its storage after so many of them.

    With `fails_at`, every third trial fails on its way to that epoch.
    """
    storage = optuna.storages.InMemoryStorage()
    search, ordered = Search(Space((RATE, SIZES)), rules, storage), []
    while (order := search.next()) is not None:
        ordered.append(order)
        if order.number % 3 == 1 and order.until == fails_at:
            search.failed(order.number)
        else:
            search.told(order.number, [loss(order)])
        if len(ordered) in restarts:
            search = Search(Space((RATE, SIZES)), rules, storage)
    for number in search.ladder.paused():
        search.stop(number)
    assert Search(Space((RATE, SIZES)), rules, storage).next() is None
    return ordered


@pytest.mark.parametrize("sampler", ["forecast", "qmc", "nsgaii"])
def test_a_search_stopped_in_the_middle_makes_the_same_orders(sampler: str) -> None:
    rules = Rules(length=9, trials=30, epochs=90, sampler=sampler)
    whole = orders(rules, restarts=set())
    assert len(whole) > 30
    assert orders(rules, restarts={7, 12, 20, 29}) == whole


@pytest.mark.parametrize(
    ("pruner", "fails_at"),
    [("forecast", 1), ("forecast", 3), ("forecast", 9), ("halving", 3), ("median", 1), ("none", 9)],
)
def test_epochs_of_trials_that_failed_are_spent_when_it_goes_on(pruner: str, fails_at: int) -> None:
    rules = Rules(length=9, trials=30, epochs=60, sampler="random", pruner=pruner)
    whole = orders(rules, restarts=set(), fails_at=fails_at)
    assert orders(rules, restarts=range(100), fails_at=fails_at) == whole


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


def test_trials_that_another_process_added_meanwhile_are_not_told() -> None:
    storage, rules = optuna.storages.InMemoryStorage(), Rules(length=3, trials=9)
    search, other = (Search(Space((RATE, SIZES)), rules, storage) for _ in range(2))
    for one in (search, other, search):
        order = one.next()
        assert order is not None
        one.told(order.number, [loss(order)])
    names = {0: "first", 2: "third"}
    told = searched_so_far(search, ["test/loss"], names.__getitem__)
    assert [(step.run, step.trial) for step in told.steps] == [("first", 0), ("third", 2)]


def test_trials_whose_runs_have_one_name_are_told_apart() -> None:
    steps = [Step("a", 1, [9.0], 1, 0), Step("a", 1, [8.0], 2, 1), Step("a", 3, [5.0], 4, 0)]
    told = Searched(["test/loss"], ["minimize"], 3, 8, 2, steps)
    assert [(step.trial, step.epoch) for step in told.newest()] == [(1, 1), (0, 3)]
    assert [step.trial for step in told.best_ends()] == [0]


@pytest.mark.parametrize(
    ("further", "goes_on"),
    [
        (("search.trials=9", "search.epochs=99"), True),
        (("search.eta=1.9",), True),  # with the same rungs
        (("search.pruner=halving", "search.eta=3"), False),
        (("+search.sampler_options.n_ei_candidates=5",), False),
        (("search.pruner=median",), False),
        (("search.seed=7",), False),
    ],
)
def test_a_command_goes_on_with_the_search_of_the_same_rules(
    composed: Callable[..., DictConfig], further: tuple[str, ...], goes_on: bool
) -> None:
    assert (named(composed, *further) == named(composed)) == goes_on


@pytest.mark.parametrize(
    ("pruner", "option", "values"),
    [
        ("halving", "search.eta", (3, 1.9)),  # the rungs are the same
        ("median", "+search.pruner_options.n_startup_trials", (2, 3)),
    ],
)
def test_options_of_a_pruner_tell_searches_apart(
    composed: Callable[..., DictConfig], pruner: str, option: str, values: tuple[float, float]
) -> None:
    one, other = (named(composed, f"search.pruner={pruner}", f"{option}={value}") for value in values)
    assert one != other


def named(composed: Callable[..., DictConfig], *overrides: str) -> str:
    """By what a search with these settings is known, over a learning rate, with pauses at epochs 1 and 2."""
    settings = config.checked(composed(*SMALL, "search.sampler=tpe", *overrides))
    return digest(Space((RATE,)), settings, rules_of(settings), [])
