"""A multirun as it is read back from the store: its parent, its plan and its runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from vae_lab.config import BASE
from vae_lab.errors import LabError
from vae_lab.files import DamagedError
from vae_lab.studies.names import find_parents
from vae_lab.studies.plan import PLAN_FILE, Plan
from vae_lab.tracking import ERROR, FINGERPRINT, STOPPED, Reader, StoredRun
from vae_lab.tracking.abandoned import ends_in

log = logging.getLogger(__name__)

POINT = "point"  # a parameter that runs have within a study only: which of its named points they are


class Study(NamedTuple):
    """A multirun as it was read back: its parent, its plan and its runs."""

    parent: StoredRun
    plan: Plan
    runs: list[StoredRun]


def load_study(store: Reader, name: str, *, measured: bool = True) -> Study:
    """Returns the newest multirun of a study, or the one whose parent run has this id (or its first letters).

    Nothing is written: a run whose process is gone is interrupted in what is returned, not in the store. A
    multirun of the name that cannot be read is named in a warning, and the one before it is taken.

    Args:
        store: where it is looked for.
        name: of the study, or the parent run's id, as `find_parents` takes it.
        measured: whether the runs' metrics are wanted; else they may be left out.

    Raises:
        UserError: the store has neither, or several studies of that name.
        LabError: no such multirun's plan can be read.
    """
    *newer, oldest = find_parents(store, name)
    for study in readable_studies(store, newer, measured=measured):
        return study
    return read_study(store, oldest, measured=measured)


def readable_studies(
    store: Reader, parents: Iterable[StoredRun], *, measured: bool = True
) -> Iterator[Study]:
    """Yields the multirun of each parent run; one that cannot be read is named in a warning and left out."""
    for parent in parents:
        try:
            study = read_study(store, parent, measured=measured)
        except LabError as error:
            log.warning(f"Left out: {error}")
        else:
            yield study


def read_study(store: Reader, parent: StoredRun, *, measured: bool = True) -> Study:
    """Returns the multirun of a parent run, with the metrics of its runs unless they are not wanted.

    Raises:
        LabError: its plan cannot be read.
    """
    try:
        plan = Plan.from_json(store.download(parent.run_id, PLAN_FILE).read_text(encoding="utf-8"))
    except (DamagedError, OSError, ValueError) as error:
        raise LabError(f"{parent.run_id}: its {PLAN_FILE} cannot be read: {error}") from error
    wanted = plan.fingerprints
    members = (
        run for run in store.members(parent.run_id, measured=measured) if not is_superseded(run, wanted)
    )
    end = ends_in(store)
    runs = [with_point(interrupted_if_gone(run, end), plan) for run in members]
    # In the plan's order: that in which they began is another each time, where runs share the machine.
    order = {planned: place for place, planned in enumerate(plan.runs)}
    runs.sort(key=lambda run: order.get((run.tags.get(FINGERPRINT, ""), run.name), len(order)))
    return Study(interrupted_if_gone(parent, end), plan, runs)


def is_superseded(run: StoredRun, wanted: Collection[str]) -> bool:
    """Whether other code, data or settings made a run than those whose results a multirun wants now.

    Args:
        run: A run of the multirun.
        wanted: The fingerprints of its plan; where there are none, every run is wanted.

    Examples:
        >>> run = StoredRun("1", "1", "vae s0", "KILLED", {}, {}, {"vae_lab.fingerprint": "a"}, 0)
        >>> is_superseded(run, {"b"})
        True
    """
    return bool(wanted) and FINGERPRINT in run.tags and run.tags[FINGERPRINT] not in wanted


def is_stopped(run: StoredRun) -> bool:
    """Whether a search stopped a run early, because others looked better.

    Examples:
        >>> is_stopped(StoredRun("1", "1", "vae s0", "KILLED", {}, {}, {"vae_lab.stopped": "3"}, 0))
        True
    """
    return run.status == "KILLED" and STOPPED in run.tags


def interrupted_if_gone(run: StoredRun, end: Callable[[StoredRun], str]) -> StoredRun:
    """Returns the run; as KILLED, with the reason, if its process is gone and the store does not say so.

    Args:
        run: The run.
        end: Says why its process is gone, as `ends_in` returns it.
    """
    reason = end(run)
    return replace(run, status="KILLED", tags={**run.tags, ERROR: reason}) if reason else run


def with_point(run: StoredRun, plan: Plan) -> StoredRun:
    """Returns the run with the parameter POINT, if it is the base or a point of `also` in such a study."""
    return replace(run, params=params_with_point(run.params, plan))


def params_with_point(params: Mapping[str, str], plan: Plan) -> dict[str, str]:
    """Returns the parameters of a run, planned or trained, as `with_point` does.

    Examples:
        >>> plan = Plan("p", also={"wide": {"model.hidden_size": "64"}}, base={"model.hidden_size": "4"})
        >>> params_with_point({"model.hidden_size": "64"}, plan)
        {'model.hidden_size': '64', 'point': 'wide'}
    """
    points: dict[str, dict[str, str]] = {BASE: {}, **plan.also} if plan.also else {}
    for name, settings in points.items():
        if {**plan.base, **settings}.items() <= params.items():
            return {**params, POINT: name}
    return dict(params)


def has_params(run: StoredRun, params: Mapping[str, str]) -> bool:
    """Whether a run has all of these values."""
    return all(run.params.get(key) == value for key, value in params.items())
