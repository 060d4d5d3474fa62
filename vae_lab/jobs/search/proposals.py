"""What a search tries next: Optuna's samplers by name, asked over what is known of the trials so far."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.samplers import BaseSampler, BruteForceSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from vae_lab.errors import UserError, quoted
from vae_lab.jobs.search.pool import ForecastSampler, Judge
from vae_lab.jobs.search.space import Space, Value, by_key, key_of
from vae_lab.seeding import derive_seed

SEQUENCE = "sequence"  # user attribute of a trial: what its sampler kept for the whole study by then
TRIES = 10  # of a sampler for a point that is new
FOR_GRIDS = (optuna.samplers.GridSampler, BruteForceSampler)  # which take finite spaces only
ONE_SEED = ("QMCSampler",)  # whose points are one sequence
OWN = {"sampler": {"forecast": ForecastSampler}}  # beside those of Optuna
TPE = {
    "multivariate": True,
    "group": True,
    "constant_liar": True,
}  # for spaces with conditions, for trials at once

optuna.logging.set_verbosity(optuna.logging.ERROR)


@contextmanager
def without_remarks() -> Iterator[None]:
    """Leaves out Optuna's remarks that a class or an argument may change, which are for who names it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=optuna.exceptions.ExperimentalWarning)
        yield


def named(kind: str, name: str, module: Any, base: type) -> type[Any]:
    """Returns a class of Optuna by its name, with or without what it is at the end: `tpe`, `TPESampler`.

    Raises:
        UserError: There is none of that name.

    >>> named("sampler", "tpe", optuna.samplers, BaseSampler).__name__
    'TPESampler'
    """
    members = {item: getattr(module, item) for item in module.__all__}
    classes = {
        short(item): member
        for item, member in members.items()
        if inspect.isclass(member) and issubclass(member, base) and not inspect.isabstract(member)
    }
    classes |= OWN.get(kind, {})
    if (chosen := classes.get(short(name))) is None:
        raise UserError(f"search.{kind}={quoted(name)}: must be one of {', '.join(sorted(classes))}.")
    return chosen


def short(name: str) -> str:
    """Returns the short name of a class of Optuna.

    >>> short("SuccessiveHalvingPruner"), short("TPESampler")
    ('successivehalving', 'tpe')
    """
    return name.lower().removesuffix("sampler").removesuffix("pruner").replace("_", "")


def built(kind: str, of: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    """Returns a sampler or pruner of these options.

    Raises:
        UserError: It does not take them.
    """
    try:
        return of(**options)
    except (TypeError, ValueError, ImportError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"search.{kind}_options={quoted(str(dict(options)))}: {first}") from None


class Proposals:
    """Asks a sampler for points that no trial has yet.

    A sampler is made anew for each point, with a seed of its own that follows from that of the search and the
    number of the trial; what it keeps for the whole study, such as its place in a sequence, comes from the
    trial before. So a search that was killed goes on with the points that it would have had. It is asked in a
    study in memory, where a trial that pauses stands as pruned at its last epoch, since that is what a
    sampler can learn from, while in the storage it is still running.

    Args:
        space: What varies.
        sampler: Its name, such as `forecast`, `tpe`, `random`, `gp`, `nsgaii`, `cmaes`, `qmc`, `grid`.
        options: What it is made with.
        seed: Of the search.
        directions: `minimize` or `maximize` of each objective.
        judge: Says how good new trials may become, for the sampler `forecast`.

    Raises:
        UserError: The sampler does not exist, or not with these options or objectives.
    """

    def __init__(
        self,
        space: Space,
        sampler: str,
        options: Mapping[str, Any],
        seed: int,
        directions: Sequence[str],
        judge: Judge,
    ) -> None:
        self.space = space
        self.directions = [StudyDirection[direction.upper()] for direction in directions]
        self.options, self.seed, self.judge = dict(options), seed, judge
        self.kind = named("sampler", sampler, optuna.samplers, BaseSampler)
        if self.kind in FOR_GRIDS:
            self._grid()
        with without_remarks():
            self._sampler(0)

    def propose(
        self,
        trials: Iterable[FrozenTrial],
        paused: Mapping[int, Sequence[float]],
        is_new: Callable[[dict[str, Value]], bool],
    ) -> FrozenTrial | None:
        """Returns a trial to be run, with all its values; None if no point of a finite space is new.

        Args:
            trials: All so far, in the order of their numbers.
            paused: The numbers of those that wait on a rung, with their objectives there.
            is_new: Whether no trial has these values.
        """
        trials = [*trials]
        seen = [_as_learned(trial, paused.get(trial.number)) for trial in trials]
        number, sequence = len(seen), trials[-1].user_attrs.get(SEQUENCE, {}) if trials else {}
        last = BruteForceSampler if math.isfinite(self.space.size()) else RandomSampler
        for attempt in range(2 * TRIES):
            seed = derive_seed(self.seed, "proposal", number, attempt)
            with without_remarks():
                sampler = self._sampler(seed) if attempt < TRIES else last(seed=seed % 2**32)
                trial = self._asked(sampler, seen, sequence)
            if is_new(by_key(trial.params)):
                return trial
            sequence = trial.user_attrs.get(SEQUENCE, {})
        return None

    def _asked(
        self, sampler: BaseSampler, seen: Sequence[FrozenTrial], sequence: Mapping[str, Any]
    ) -> FrozenTrial:
        """Returns what a sampler proposes after these trials, with what it keeps from now on."""
        storage = optuna.storages.InMemoryStorage()
        desk = optuna.create_study(storage=storage, sampler=sampler, directions=self.directions)
        study_id = storage.get_study_id_from_name(desk.study_name)
        for key, value in sequence.items():
            storage.set_study_system_attr(study_id, key, value)
        desk.add_trials(seen)
        values = self.space.suggested(desk.ask())
        asked, now = desk.trials[-1], storage.get_study_system_attrs(study_id)
        return create_trial(
            state=TrialState.RUNNING,
            params={name: values[key_of(name)] for name in asked.params},
            distributions=asked.distributions,
            user_attrs={SEQUENCE: now} if now else {},
            system_attrs=asked.system_attrs,
        )

    def _sampler(self, seed: int) -> BaseSampler:
        options = dict(self.options)
        taken = inspect.signature(self.kind).parameters
        if self.kind.__name__ == "TPESampler":
            options = TPE | options
        if self.kind is ForecastSampler:
            options |= {"space": self.space, "judge": self.judge}
        if "search_space" in taken and "search_space" not in options:
            options["search_space"] = self._grid()
        if "seed" in taken:
            options.setdefault("seed", (self.seed if self.kind.__name__ in ONE_SEED else seed) % 2**32)
        sampler: BaseSampler = built("sampler", self.kind, options)
        return sampler

    def _grid(self) -> dict[str, list[Value]]:
        """Returns every value of every dimension, for samplers that go through a grid."""
        endless = [dim.key for dim in self.space.dimensions if not dim.is_finite()]
        if endless or self.space.conditions:
            reason = endless[0] if endless else "search.conditional"
            raise UserError(
                f"search.sampler={self.kind.__name__}: {reason}: must be choice(...) or range(...)."
            )
        return {dim.key: dim.values() for dim in self.space.dimensions}


def _as_learned(trial: FrozenTrial, paused: Sequence[float] | None) -> FrozenTrial:
    """Returns a trial as samplers learn from it.

    One that pauses stands as stopped there; of several objectives, where Optuna knows no values in between,
    as complete. One that failed stands as stopped before it had any.
    """
    state, values = trial.state, trial.values
    if paused is not None and len(paused) > 1:
        state, values = TrialState.COMPLETE, [*paused]
    elif paused is not None or state == TrialState.FAIL:
        state = TrialState.PRUNED
    return create_trial(
        state=state,
        values=values if state == TrialState.COMPLETE else None,
        params=trial.params,
        distributions=trial.distributions,
        system_attrs=trial.system_attrs,
        intermediate_values={} if trial.state == TrialState.FAIL else trial.intermediate_values,
    )
