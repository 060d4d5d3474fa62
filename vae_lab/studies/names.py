"""Which study a name means where several people, or several experiments, have one of that name."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from vae_lab.errors import UserError, choices, quoted
from vae_lab.tracking import KIND, STUDY, SWEEP, Reader, StoredRun, owner, store_name
from vae_lab.tracking.records import EXPERIMENT, EXPERIMENT_NAME, EXPERIMENT_NUMBER, OWNER

log = logging.getLogger(__name__)

SHORTEST, SHOWN = 6, 12  # letters of an id that stand for it, and that messages show


class UnknownStudyError(UserError):
    """A store has no study of that name, and no parent run of that id."""


def find_parents(store: Reader, name: str) -> list[StoredRun]:
    """Returns the parent runs of a study's multiruns, newest first, or the one parent run with this id.

    A name is one within an experiment: where several have it, that of the reader's experiment is meant, and
    there the reader's own study; what else has the name is mentioned.

    Args:
        store: where they are looked for.
        name: of the study, also as OWNER/STUDY or EXPERIMENT/STUDY; or the parent run's id or its first
            letters, six at least.

    Raises:
        UnknownStudyError: the store has neither.
        UserError: several studies have the name, and none of them is the reader's own.
    """
    parents = store.tagged(KIND, SWEEP)
    if by_name := [parent for parent in parents if parent.tags.get(STUDY) == name]:
        return _of_one_owner(store, name, by_name)
    if by_id := [parent for parent in parents if len(name) >= SHORTEST and parent.run_id.startswith(name)]:
        return by_id[:1]
    experiments = store.experiments() if "/" in name else {}
    if spelled := [parent for parent in parents if name in _spellings(parent, experiments)]:
        return _of_one_owner(store, name, spelled)
    known = {parent.tags.get(STUDY, "") for parent in parents}
    where = store_name(store.uri)
    raise UnknownStudyError(f"{quoted(name)}: no such study or parent run in {where}{choices(name, known)}")


def owner_of(run: StoredRun) -> str:
    """Returns who started a run: the user of its server, else of the machine.

    Examples:
        >>> owner_of(StoredRun("1", "1", "vae s0", "FINISHED", {}, {}, {"mlflow.user": "ann"}, 0))
        'ann'
    """
    return run.tags.get(OWNER, "")


def whose(run: StoredRun, uri: str) -> str:
    """Returns ` of ann` for a run of another user's of a store, and nothing for one of the reader's own."""
    return "" if owner_of(run) in ("", owner(uri)) else f" of {quoted(owner_of(run))}"


def whose_runs(runs: Collection[StoredRun], uri: str) -> str:
    """Returns ` (5 of ann)` for runs of which others than the reader own some, and nothing otherwise."""
    count = Counter(owner_of(run) for run in runs)
    others = {name: number for name, number in count.items() if name not in ("", owner(uri))}
    return (
        f" ({', '.join(f'{number} of {quoted(name)}' for name, number in others.items())})" if others else ""
    )


def by_study(parents: Sequence[StoredRun]) -> dict[tuple[str, str, str], list[StoredRun]]:
    """Returns multiruns by experiment, owner and name of their study, in the order of their first."""
    studies: dict[tuple[str, str, str], list[StoredRun]] = {}
    for parent in parents:
        key = (parent.experiment_id, owner_of(parent), parent.tags.get(STUDY, parent.name))
        studies.setdefault(key, []).append(parent)
    return studies


def unambiguous_name(store: Reader, parent: StoredRun) -> str:
    """Returns the shortest name by which the commands find a multirun's study, else its parent run's id."""
    parents = [run for run in store.tagged(KIND, SWEEP) if run.tags.get(STUDY) == parent.tags.get(STUDY)]
    if len(by_study(parents)) <= 1:
        return parent.tags.get(STUDY, parent.run_id)
    return _distinct(parent, parents, store.experiments())


def _of_one_owner(store: Reader, name: str, matches: list[StoredRun]) -> list[StoredRun]:
    """Returns those of the multiruns that belong to one owner in one experiment."""
    if len(by_study(matches)) == 1:
        return matches
    experiments, reader = store.experiments(), owner(store.uri)
    here = _own_experiment(experiments)
    chosen = [parent for parent in matches if parent.experiment_id == here] or matches
    chosen = [parent for parent in chosen if owner_of(parent) == reader] or chosen
    names = {key: _distinct(parents[0], matches, experiments) for key, parents in by_study(matches).items()}
    own, *more = by_study(chosen)
    if more:
        valid = ", ".join(map(quoted, names.values()))
        raise UserError(f"{quoted(name)}: {len(names)} studies have this name. Valid: {valid}.")
    rest = ", ".join(quoted(other) for key, other in names.items() if key != own)
    log.info(f"{quoted(name)}: taken for {quoted(names[own])}; the name is also that of {rest}.")
    return chosen


def _own_experiment(experiments: Mapping[str, str]) -> str | None:
    """Returns the id of the experiment to which `vae-lab train` would write, if the store has it."""
    if (number := os.environ.get(EXPERIMENT_NUMBER)) in experiments:
        return number
    own = os.environ.get(EXPERIMENT_NAME) or EXPERIMENT
    return next((key for key, name in experiments.items() if name == own), None)


def _spellings(parent: StoredRun, experiments: Mapping[str, str]) -> list[str]:
    """Returns the longer names of a multirun's study, which may be those of other studies, too."""
    study = parent.tags.get(STUDY, "")
    return [f"{owner_of(parent)}/{study}", f"{experiments.get(parent.experiment_id, '')}/{study}"]


def _distinct(parent: StoredRun, parents: Sequence[StoredRun], experiments: Mapping[str, str]) -> str:
    """Returns a name that means no other study of these multiruns."""
    for name in _spellings(parent, experiments):
        alike = [other for other in parents if name in _spellings(other, experiments)]
        if len(by_study(alike)) == 1:
            return name
    return parent.run_id[:SHOWN]
