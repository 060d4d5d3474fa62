"""How far the runs of a study are: finished, running, interrupted, failed or missing."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from vae_lab.studies.comparison import Study
from vae_lab.tracking import ERROR, FINGERPRINT, StoredRun, heartbeat

# Of two runs of one point the one that comes first here counts.
STATES = ("finished", "running", "interrupted", "failed", "missing")
_STATE_OF = {"FINISHED": "finished", "RUNNING": "running", "KILLED": "interrupted", "FAILED": "failed"}


class RunState(NamedTuple):
    """How far one run of a study is."""

    name: str
    state: str  # one of STATES
    done: int = 0  # finished epochs
    epochs: int | None = None  # in all; None if the run is missing
    heard: int | None = None  # milliseconds since 1970 of its last sign of life
    note: str = ""  # what ended it


def states(study: Study) -> list[RunState]:
    """One a run that the study planned, in its order, and then those that belong to it beyond its plan."""
    found: dict[str, RunState] = {}
    for run in study.runs:
        key = run.tags.get(FINGERPRINT, run.run_id)
        state = _state(run)
        if key not in found or STATES.index(state.state) <= STATES.index(found[key].state):
            found[key] = state
    planned = [found.pop(key, RunState(name, "missing")) for key, name in study.plan.runs]
    return [*planned, *found.values()]


def counted(found: list[RunState]) -> dict[str, int]:
    """How many runs are in each state that occurs, in the order of STATES."""
    count = Counter(each.state for each in found)
    return {state: count[state] for state in STATES if count[state]}


def _state(run: StoredRun) -> RunState:
    told = run.params.get("train.epochs", "")
    epochs = int(told) if told.isdecimal() else None
    beat = heartbeat(run)
    state = _STATE_OF.get(run.status, "running")
    finished = state == "finished"
    return RunState(
        name=run.name,
        state=state,
        done=epochs or 0 if finished else beat.get("epoch", 0),
        epochs=epochs,
        heard=beat.get("at", run.started),
        note="" if finished else run.tags.get(ERROR, ""),
    )
