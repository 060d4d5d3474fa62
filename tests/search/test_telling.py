"""What a search says of itself: how its trials ended, for how many epochs, and what mattered."""

import pytest

from tests.search.bowl import RATE, SIZES, loss
from vae_lab.jobs.search.engine import Order, Rules, Search
from vae_lab.jobs.search.space import Condition, Dimension, Space
from vae_lab.jobs.search.telling import LEAST, searched
from vae_lab.report.searches import importance_table, sentence, trials_table
from vae_lab.studies.searched import Searched

METRIC = "test/loss"
A, B = (Dimension(f"model.{name}", low=-1.0, high=1.0) for name in ("a", "b"))
KIND = Dimension("optimizer", choices=("adam", "sgd"))
MOMENTUM = Dimension("optimizer.momentum", low=0.5, high=0.9)
ALL_WHOLE = Rules(length=1, trials=60, epochs=60, sampler="random", pruner="none")


def number(order: Order, key: str) -> float:
    return float(str(order.values[key]))


def shown(search: Search) -> Searched:
    """What a search says, as it is read again."""
    return Searched.from_json(searched(search, [METRIC], str).to_json())


def test_what_only_two_keys_together_explain_is_not_shared_out_among_them() -> None:
    search = Search(Space((A, B)), ALL_WHOLE)
    while (order := search.next()) is not None:
        search.told(order.number, [100 + 10 * number(order, A.key) * number(order, B.key)])
    result = shown(search)
    alone = [share for share in result.importance[METRIC].values() if share is not None]
    assert len(alone) == 2
    assert sum(alone) < 0.7  # by the finite forest; of the function itself it is 0
    assert result.together[METRIC] == pytest.approx(1 - sum(alone))
    table = importance_table(result)
    assert table is not None
    assert [row[0].value for row in table.rows][-1] == "several keys together"
    assert sum(float(str(row[1].value)) for row in table.rows) == pytest.approx(100)


def test_a_key_that_not_every_trial_has_is_named() -> None:
    search = Search(Space((KIND, RATE), (Condition({KIND.key: "sgd"}, (MOMENTUM,)),)), ALL_WHOLE)
    while (order := search.next()) is not None:
        search.told(order.number, [100 + number(order, RATE.key) * 1e3])
    result = shown(search)
    assert result.importance[METRIC][MOMENTUM.key] is None
    table = importance_table(result)
    assert table is not None
    assert table.note.endswith(
        "Not every trial has momentum: what such keys explain is part of the last row."
    )


@pytest.mark.parametrize("pruner", ["none", "forecast"])
def test_keys_that_change_nothing_have_no_shares(pruner: str) -> None:
    search = Search(Space((A, B)), Rules(length=3, trials=12, epochs=30, sampler="random", pruner=pruner))
    while (order := search.next()) is not None:
        search.told(order.number, [100 + 20 / order.until])
    result = shown(search)
    assert len(result.newest()) >= LEAST
    assert result.importance == {}
    assert importance_table(result) is None


def test_failed_and_left_trials_are_not_said_to_be_stopped() -> None:
    search = Search(Space((RATE, SIZES)), Rules(length=3, trials=10, epochs=18, sampler="random"))
    while (order := search.next()) is not None:
        if order.number % 4 == 1:
            search.failed(order.number)
        elif order.number == 2:
            search.leave(order.number)
        else:
            search.told(order.number, [loss(order)])
    for waiting in search.ladder.paused():
        search.stop(waiting)
    result = shown(search)
    states = [*result.states.values()]
    assert len(states) == 10
    assert [result.states[str(trial)] for trial in (1, 2, 5, 9)] == ["failed", "left", "failed", "failed"]
    whole, stopped = len(result.whole()), states.count("stopped")
    assert (states.count("whole"), whole + stopped) == (whole, 6)
    assert whole > 0 < stopped
    assert result.spent == 18
    share = 100 * result.spent / 30
    assert sentence(result) == (
        f"10 trials took {result.spent} epochs, {share:.0f} % of what all whole ones take: {whole} of full "
        f"length (3 epochs), {stopped} stopped before, 3 failed, 1 left before their end. The command of a "
        "run that was stopped trains it to its end. The command of the search goes on with those that were "
        "left."
    )


def test_epochs_of_trials_that_failed_before_any_pause_are_counted() -> None:
    search = Search(Space((RATE, SIZES)), Rules(length=3, trials=3, epochs=9, sampler="random"))
    while (order := search.next()) is not None:
        search.failed(order.number)
    result = shown(search)
    assert result.steps == []
    assert sentence(result) == (
        "3 trials took 3 epochs, 33 % of what all whole ones take: 0 of full length (3 epochs), 3 failed."
    )


def test_a_search_of_an_earlier_version_is_said_without_what_it_does_not_know() -> None:
    text = (
        '{"metrics": ["test/loss"], "directions": ["minimize"], "length": 3, "budget": 9, "trials": 4,'
        ' "steps": [{"run": "a", "epoch": 3, "values": [5.0], "spent": 3},'
        ' {"run": "b", "epoch": 1, "values": [6.0], "spent": 4}],'
        ' "importance": {"test/loss": {"model.layers": 1.0}}}'
    )
    earlier = Searched.from_json(text)
    assert importance_table(earlier) is None  # its shares are of what keys explain alone
    assert sentence(earlier) == (
        "2 trials took 4 epochs, 67 % of what all whole ones take: 1 of full length (3 epochs)."
    )
    assert len(trials_table(earlier).rows) == 2
