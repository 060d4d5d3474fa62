"""A search without its training: what is tried next and how far, told what came of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import optuna
from optuna.pruners import BasePruner
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from vae_lab.errors import UserError
from vae_lab.jobs.search.ladder import NEW, Ladder, geometric
from vae_lab.jobs.search.objectives import Direction
from vae_lab.jobs.search.policies import Foresight, Halving, Point, Policy
from vae_lab.jobs.search.proposals import Proposals, built, named
from vae_lab.jobs.search.space import Space, Value, by_key
from vae_lab.jobs.search.trials import Trials

OWN_PRUNERS = ("forecast", "halving", "none")
SHARE = 0.25  # of what all trials would take at full length: the budget where none is given

Identity = Callable[[Mapping[str, Value]], Hashable | None]


class Rules(NamedTuple):
    """How a search goes about it."""

    length: int  # epochs of a whole run
    directions: tuple[Direction, ...] = ("minimize",)
    trials: int = 60
    epochs: int | None = None
    first: int = 1
    eta: float = 3
    sampler: str = "forecast"
    sampler_options: Mapping[str, Any] = {}
    pruner: str = "forecast"
    pruner_options: Mapping[str, Any] = {}
    seed: int = 0

    @property
    def budget(self) -> int:
        """Epochs of all runs together."""
        return self.epochs or max(self.length, round(self.trials * self.length * SHARE))

    @property
    def rungs(self) -> list[int]:
        """The epochs at which runs pause."""
        return [self.length] if self.pruner == "none" else geometric(self.first, self.length, self.eta)


class Order(NamedTuple):
    """What is to be trained next: a trial's point, up to an epoch."""

    number: int
    values: Mapping[str, Value]
    until: int


class Search:
    """Asks, and is told; it holds no run. Not safe for several threads.

    Args:
        space: What varies.
        rules: How it goes about it.
        storage: Optuna's, or its address.
        name: Of the study there; one that is there already is gone on with.
        identity: Returns what two points have in common that come to the same run; None for a point that
            cannot be trained.
        fingerprint: Returns that of a point's run, which the trial keeps.

    Raises:
        UserError: A sampler or pruner does not exist, or not with these options or so many objectives.
    """

    def __init__(
        self,
        space: Space,
        rules: Rules,
        storage: BaseStorage | str = "memory",
        name: str = "search",
        identity: Identity = lambda values: tuple(sorted(values.items())),
        fingerprint: Callable[[Mapping[str, Value]], str] = lambda values: "",
    ) -> None:
        self.space, self.rules, self.identity, self.fingerprint = space, rules, identity, fingerprint
        self.ladder = Ladder(rules.rungs, rules.budget)
        foresight = Foresight(self.ladder, self._point, rules.seed)
        self.proposals = Proposals(
            space, rules.sampler, rules.sampler_options, rules.seed, rules.directions, foresight.bounds
        )
        self.policy, pruner = _policy(rules, foresight)
        storage = optuna.storages.InMemoryStorage() if storage == "memory" else storage
        self.trials = Trials(storage, name, rules.directions, pruner)
        self.points: dict[int, dict[str, Value]] = {}
        self._taken: set[Hashable] = set()
        self._exhausted = False
        for trial in self.trials.all():
            self._go_on_with(trial)

    def next(self) -> Order | None:
        """Returns what is to be trained next; None if there is nothing until more is told, or at all."""
        proposed: list[FrozenTrial] = []

        def propose() -> Point | None:
            if not proposed and (trial := self._proposed()) is not None:
                proposed.append(trial)
            return self.space.encoded(by_key(proposed[0].params)) if proposed else None

        begun = (c.number for c in self.ladder.climbers.values() if c.paused and not c.values)
        number = next(begun, None)  # before it was anywhere, its process ended
        if number is None:
            number = self.policy.choose(self.ladder, propose)
        if number is None:
            return None
        if number != NEW:
            segment = self.ladder.go_on(number)
        else:
            number = self.trials.add(proposed[0], self.fingerprint(by_key(proposed[0].params)))
            self._note(number, proposed[0])
            segment = self.ladder.enter(number)
        return Order(number, self.points[number], segment.until)

    def told(self, number: int, values: Sequence[float]) -> bool:
        """Notes the values of a trial where its order ended.

        Returns:
            Whether it is over: it has its full length, or a pruner of Optuna's stops it.
        """
        epoch = self.ladder.rungs[self.ladder.climbers[number].height]
        self.trials.report(number, epoch, values, self.ladder.spent)
        self.ladder.reached(number, self.trials.lowered(values))
        return self._follow_up(number, values)

    def failed(self, number: int) -> None:
        """Notes that a trial failed, and would fail again."""
        self.trials.fail(number)
        self.ladder.drop(number)

    def leave(self, number: int) -> None:
        """Takes a trial out that cannot go on now: whoever goes on with the search goes on with it, too."""
        self.ladder.drop(number)

    def is_over(self, number: int) -> bool:
        """Returns whether a trial is not trained any further."""
        return self.ladder.climbers[number].over

    def whole(self) -> list[int]:
        """Returns the trials of full length."""
        return [
            number
            for number, climber in self.ladder.climbers.items()
            if climber.height == len(self.ladder.rungs)
        ]

    def stop(self, number: int) -> None:
        """Stops a trial where it pauses."""
        self.trials.stop(number)
        self.ladder.drop(number)

    def best(self) -> int | None:
        """Returns the trial that came to the best end; None before any has its full length."""
        top = self.ladder.ranked(len(self.ladder.rungs))
        return top[0] if top else None

    def _proposed(self) -> FrozenTrial | None:
        if self._exhausted or len(self.points) >= self.rules.trials:
            return None
        trials, waiting = self.trials.all(), self.ladder.paused()
        paused = {trial.number: self.trials.latest(trial) for trial in trials if trial.number in waiting}
        trial = self.proposals.propose(trials, paused, self._is_new)
        self._exhausted = trial is None
        return trial

    def _is_new(self, values: Mapping[str, Value]) -> bool:
        identity = self.identity(values)
        return identity is not None and identity not in self._taken

    def _note(self, number: int, trial: FrozenTrial) -> None:
        self.points[number] = by_key(trial.params)
        self._taken.add(self.identity(self.points[number]))

    def _point(self, number: int) -> Point:
        return self.space.encoded(self.points[number])

    def _follow_up(self, number: int, values: Sequence[float]) -> bool:
        """Ends a trial that is over where it has paused with these values; returns whether it is."""
        if self.ladder.climbers[number].over:
            self.trials.complete(number, values)
            return True
        if self.trials.is_given_up(number):
            self.stop(number)
            return True
        return False

    def _go_on_with(self, trial: FrozenTrial) -> None:
        """Takes up a trial of an earlier process: one that was running pauses where it was.

        That process may have ended before it followed up what the trial came to there.
        """
        self._note(trial.number, trial)
        reached = self.trials.reached(trial)
        steps = [reached[rung] for rung in self.ladder.rungs if rung in reached]
        values = [self.trials.lowered(step[:-1]) for step in steps]
        spent, failed = [int(step[-1]) for step in steps], trial.state == TrialState.FAIL
        self.ladder.resume(trial.number, values, spent, failed=failed)
        if trial.state == TrialState.PRUNED:
            self.ladder.drop(trial.number)
        elif trial.state == TrialState.RUNNING and steps and not self.trials.has_passed(trial):
            self._follow_up(trial.number, steps[-1][:-1])


def _policy(rules: Rules, foresight: Foresight) -> tuple[Policy, BasePruner | None]:
    """Returns what decides who goes on, and the pruner of Optuna's beside it."""
    if rules.pruner in OWN_PRUNERS:
        if rules.pruner_options:
            raise UserError(f"search.pruner_options: search.pruner={rules.pruner} takes none.")
        own: dict[str, Policy] = {
            "forecast": foresight,
            "halving": Halving(rules.eta),
            "none": Halving(eta=1),
        }
        return own[rules.pruner], None
    if len(rules.directions) > 1:
        raise UserError(
            f"search.pruner={rules.pruner}: Optuna's pruners take one objective; with several must be one of "
            f"{', '.join(OWN_PRUNERS)}."
        )
    kind = named("pruner", rules.pruner, optuna.pruners, BasePruner)
    return Halving(eta=1), built("pruner", kind, rules.pruner_options)
