"""What a search did, as its parent run keeps it: how its trials went and ended, and what mattered."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState, create_trial

from vae_lab.jobs.search.engine import Search
from vae_lab.jobs.search.forecast import Forecast, Seen
from vae_lab.jobs.search.proposals import without_remarks
from vae_lab.studies.searched import Searched, State, Step

LEAST = 8  # trials from which the importance of keys is told
STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "whole",
    TrialState.PRUNED: "stopped",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "left",
}


def searched(search: Search, metrics: list[str], name_of: Callable[[int], str]) -> Searched:
    """Returns a search as it is by now, without trials that another process added meanwhile.

    Args:
        search: It.
        metrics: The objectives.
        name_of: Returns the name of a trial's run.
    """
    rules = search.rules
    trials = [trial for trial in search.trials.all() if trial.number in search.points]
    steps = [
        Step(name_of(trial.number), epoch, values, int(spent), trial.number)
        for trial in trials
        for epoch, (*values, spent) in search.trials.reached(trial).items()
    ]
    importance = {
        metric: shares for place, metric in enumerate(metrics) if (shares := _shares(search, place))
    }
    return Searched(
        metrics=metrics,
        directions=[*rules.directions],
        length=rules.length,
        budget=rules.budget,
        trials=rules.trials,
        steps=sorted(steps, key=lambda step: (step.spent, step.run)),
        importance=importance,
        together={
            metric: max(0.0, 1 - sum(share for share in shares.values() if share is not None))
            for metric, shares in importance.items()
        },
        spent=search.ladder.spent,
        states={str(trial.number): STATES.get(trial.state, "left") for trial in trials},
    )


def _shares(search: Search, objective: int) -> dict[str, float | None]:
    """Returns what each key explains alone of the variance of what trials may come to.

    None of a key that not every trial has. Empty if there are few trials, if all come to the same, or if
    no key is of all.
    """
    rungs, climbers = search.ladder.rungs, search.ladder.climbers
    points = {number: search.space.encoded(search.points[number]) for number in climbers}
    seen = [
        Seen(number, points[number], rungs[rung], climbers[number].values[rung][objective])
        for number, rung in search.ladder.in_order()
    ]
    followed = [climber.number for climber in climbers.values() if climber.values]
    if len(followed) < LEAST or not _differ(seen):
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
    forest = FanovaImportanceEvaluator(seed=0)
    try:
        with without_remarks():
            shares = get_param_importances(desk, evaluator=forest, normalize=False)
    except RuntimeError:  # none of its trees has any variance
        return {}
    if not shares:
        return {}
    left_out = [dim.key for dim in search.space.all_dimensions() if dim.key not in shares]
    known = {key: float(share) for key, share in shares.items()}
    return {key.lstrip("+~"): share for key, share in [*known.items(), *dict.fromkeys(left_out).items()]}


def _differ(seen: Sequence[Seen]) -> bool:
    """Returns whether trials came to different values after equally many epochs."""
    values: dict[int, set[float]] = {}
    for one in seen:
        values.setdefault(one.epoch, set()).add(one.value)
    return any(len(of_epoch) > 1 for of_epoch in values.values())
