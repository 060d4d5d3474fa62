"""The trials of a search in Optuna's storage, each whole from its first moment or not there at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import optuna
from optuna.pruners import BasePruner
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from vae_lab.jobs.search.proposals import without_remarks

# User attributes of a trial.
REACHED = "epoch "  # with the epoch: the objectives' values there, and epochs spent by then
PASSED = "passed"  # the last epoch at which Optuna's pruner did not stop it
FINGERPRINT = "fingerprint"  # of its run: its values are those of this code and these data


def study_of_today(
    storage: BaseStorage, name: str, is_of_today: Callable[[FrozenTrial], bool]
) -> tuple[str, int]:
    """Returns the study in a storage whose trials are all of today's code and data.

    Where code or data change, a search begins anew in a study beside the first, with a number after its name;
    where they change back, the first is gone on with.

    Args:
        storage: Optuna's.
        name: Of the first study.
        is_of_today: Whether a trial's run would come to the same result now.

    Returns:
        Its name, a new one if there is none, and how many trials the studies before it have.
    """
    ids = {study.study_name: study._study_id for study in storage.get_all_studies()}
    study, others, place = name, 0, 1
    while study in ids:
        trials = storage.get_all_trials(ids[study], deepcopy=False)
        if all(map(is_of_today, trials)):
            break
        others, place = others + len(trials), place + 1
        study = f"{name}-{place}"
    return study, others


class Trials:
    """The book of a search. What is said twice is kept once, so whoever goes on may say it again.

    Args:
        storage: Optuna's, or its address.
        name: Of the study there, which is made if it is not there yet.
        directions: `minimize` or `maximize` of each objective.
        pruner: Of Optuna's, which is asked after every report; None for none.
    """

    def __init__(
        self,
        storage: BaseStorage | str,
        name: str,
        directions: Sequence[str],
        pruner: BasePruner | None = None,
    ) -> None:
        self.storage = optuna.storages.get_storage(storage)
        self.study = optuna.create_study(
            storage=self.storage,
            study_name=name,
            directions=[StudyDirection[direction.upper()] for direction in directions],
            pruner=pruner or optuna.pruners.NopPruner(),
            sampler=optuna.samplers.RandomSampler(),  # is never asked
            load_if_exists=True,
        )
        self.prunes = pruner is not None
        self.signs = [1 if direction == "minimize" else -1 for direction in directions]

    def name_objectives(self, names: Sequence[str]) -> None:
        """Says what each objective is called in Optuna's own tables and dashboard."""
        with without_remarks():
            self.study.set_metric_names(list(names))

    def all(self) -> list[FrozenTrial]:
        """Returns all trials in the order of their numbers."""
        return self.study.get_trials(deepcopy=False)

    def add(self, trial: FrozenTrial, fingerprint: str = "") -> int:
        """Adds a trial that is running, with the fingerprint of its run, and returns its number."""
        trial.set_user_attr(FINGERPRINT, fingerprint)
        return self.storage.get_trial_number_from_id(self.storage.create_new_trial(self._study_id(), trial))

    def reached(self, trial: FrozenTrial) -> dict[int, list[float]]:
        """Returns where a trial has paused: the values by epoch, and last the epochs of all spent by then."""
        epochs = sorted(int(key.removeprefix(REACHED)) for key in trial.user_attrs if key.startswith(REACHED))
        return {epoch: trial.user_attrs[f"{REACHED}{epoch}"] for epoch in epochs}

    def latest(self, trial: FrozenTrial) -> list[float]:
        """Returns the objectives' values where a trial has paused last."""
        reached = self.reached(trial)
        return reached[max(reached)][:-1]

    def lowered(self, values: Sequence[float]) -> list[float]:
        """Returns values so that the lower ones are the better ones."""
        return [sign * value for sign, value in zip(self.signs, values, strict=True)]

    def report(self, number: int, epoch: int, values: Sequence[float], spent: int) -> None:
        """Notes the values of a trial after an epoch, and how many epochs all have taken by then."""
        trial_id = self._id(number)
        if len(values) == 1:  # Optuna knows values in between of one objective only
            self.storage.set_trial_intermediate_value(trial_id, epoch, values[0])
        self.storage.set_trial_user_attr(trial_id, f"{REACHED}{epoch}", [*values, spent])

    def is_given_up(self, number: int) -> bool:
        """Returns whether Optuna's pruner stops a trial where it has paused; that it does not is noted."""
        if not self.prunes:
            return False
        trial_id = self._id(number)
        trial = self.storage.get_trial(trial_id)
        if self.study.pruner.prune(self.study, trial):
            return True
        self.storage.set_trial_user_attr(trial_id, PASSED, trial.last_step)
        return False

    def has_passed(self, trial: FrozenTrial) -> bool:
        """Returns whether Optuna's pruner let a trial go on from where it paused last."""
        return trial.user_attrs.get(PASSED) == max(self.reached(trial), default=None)

    def complete(self, number: int, values: Sequence[float]) -> None:
        """Notes that a trial has its full length."""
        self.study.tell(number, [*values], skip_if_finished=True)

    def stop(self, number: int) -> None:
        """Notes that a trial is not trained any further."""
        self.study.tell(number, state=TrialState.PRUNED, skip_if_finished=True)

    def fail(self, number: int) -> None:
        """Notes that a trial failed."""
        self.study.tell(number, state=TrialState.FAIL, skip_if_finished=True)

    def _id(self, number: int) -> int:
        return self.storage.get_trial_id_from_study_id_trial_number(self._study_id(), number)

    def _study_id(self) -> int:
        return self.storage.get_study_id_from_name(self.study.study_name)
