"""What a search did, as its parent run keeps it: the steps of its trials, and what mattered by fANOVA."""

from __future__ import annotations

from collections.abc import Callable

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState, create_trial

from vae_lab.jobs.search.engine import Search
from vae_lab.jobs.search.forecast import Forecast, Seen
from vae_lab.jobs.search.proposals import without_remarks
from vae_lab.studies.searched import Searched, Step

LEAST = 8  # trials from which the importance of keys is told


def searched(search: Search, metrics: list[str], name_of: Callable[[int], str]) -> Searched:
    """Returns a search as it is by now, without trials that another process added meanwhile.

    Args:
        search: It.
        metrics: The objectives.
        name_of: Returns the name of a trial's run.
    """
    rules = search.rules
    steps = [
        Step(name_of(trial.number), epoch, values, int(spent))
        for trial in search.trials.all()
        if trial.number in search.points
        for epoch, (*values, spent) in search.trials.reached(trial).items()
    ]
    return Searched(
        metrics=metrics,
        directions=[*rules.directions],
        length=rules.length,
        budget=rules.budget,
        trials=rules.trials,
        steps=sorted(steps, key=lambda step: (step.spent, step.run)),
        importance={
            metric: shares for place, metric in enumerate(metrics) if (shares := _shares(search, place))
        },
    )


def _shares(search: Search, objective: int) -> dict[str, float]:
    """Returns what each key explains of what trials may come to; empty if there are few trials."""
    rungs, climbers = search.ladder.rungs, search.ladder.climbers
    points = {number: search.space.encoded(search.points[number]) for number in climbers}
    seen = [
        Seen(number, points[number], rungs[rung], climbers[number].values[rung][objective])
        for number, rung in search.ladder.in_order()
    ]
    followed = [climber.number for climber in climbers.values() if climber.values]
    if len(followed) < LEAST:
        return {}
    expected = Forecast(rungs[-1]).bounds(seen, [points[n] for n in followed], followed, [], boldness=0)
    desk = optuna.create_study(sampler=optuna.samplers.RandomSampler())
    for trial in search.trials.all():
        if trial.number in followed:
            desk.add_trial(
                create_trial(
                    state=TrialState.COMPLETE,
                    value=float(expected[followed.index(trial.number)]),
                    params=trial.params,
                    distributions=trial.distributions,
                )
            )
    with without_remarks():
        shares = get_param_importances(desk, evaluator=FanovaImportanceEvaluator(seed=0))
    return {key.lstrip("+"): float(share) for key, share in shares.items()}
