"""How far the runs of a study are: finished, running, interrupted, stopped by a search, failed or missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vae_lab.studies.study import Study, is_stopped
from vae_lab.tracking import ERROR, FINGERPRINT, StoredRun, heartbeat, whole_number

# Of two runs of one point the one that comes first here counts.
STATES = ("finished", "running", "interrupted", "stopped", "failed", "missing")
_STATE_OF = {"FINISHED": "finished", "RUNNING": "running", "KILLED": "interrupted", "FAILED": "failed"}


class RunState(NamedTuple):
    """How far one run of a study is."""

    name: str
    state: str  # one of STATES
    done: int = 0  # finished epochs
    epochs: int | None = None  # in all; None if the run is missing
    last_seen: int | None = None  # milliseconds since 1970 of its last sign of life
    reason: str = ""  # why it ended without finishing


def run_states(study: Study) -> list[RunState]:
    """Returns the state of each planned run, in the plan's order, and then of runs beyond the plan.

    Examples:
        >>> from vae_lab.studies.plan import Plan
        >>> parent = StoredRun("1", "1", "depth", "RUNNING", {}, {}, {}, 0)
        >>> run = StoredRun("2", "1", "vae L2 s0", "FINISHED", {}, {}, {"vae_lab.fingerprint": "a"}, 0)
        >>> plan = Plan("depth", runs=[("a", "vae L2 s0"), ("b", "vae L3 s0")])
        >>> [(state.name, state.state) for state in run_states(Study(parent, plan, [run]))]
        [('vae L2 s0', 'finished'), ('vae L3 s0', 'missing')]
    """
    states: dict[str, RunState] = {}
    for run in study.runs:
        key = run.tags.get(FINGERPRINT, run.run_id)
        state = _state(run)
        if key not in states or STATES.index(state.state) <= STATES.index(states[key].state):
            states[key] = state
    planned = [states.pop(key, RunState(name, "missing")) for key, name in study.plan.runs]
    return [*planned, *states.values()]


def count_states(states: Sequence[RunState]) -> dict[str, int]:
    """Returns how many runs are in each state that occurs, in the order of STATES.

    Examples:
        >>> count_states([RunState("a", "missing"), RunState("b", "finished"), RunState("c", "finished")])
        {'finished': 2, 'missing': 1}
    """
    count = Counter(state.state for state in states)
    return {state: count[state] for state in STATES if count[state]}


def in_words(counts: Mapping[str, int]) -> str:
    """Returns how many runs are in each state.

    Examples:
        >>> in_words({"finished": 2, "failed": 1})
        '2 of 3 runs finished, 1 failed'
    """
    total = sum(counts.values())
    if not total:
        return "no runs"
    unfinished = [f"{number} {state}" for state, number in counts.items() if state != "finished"]
    return ", ".join([f"{counts.get('finished', 0)} of {total} runs finished", *unfinished])


def states_in_words(study: Study) -> str:
    """Returns how many of the planned runs are in each state, as all that is printed says it."""
    return in_words(count_states(run_states(study)))


def _state(run: StoredRun) -> RunState:
    epochs = whole_number(run.params.get("train.epochs", ""))
    last = heartbeat(run)
    state = "stopped" if is_stopped(run) else _STATE_OF.get(run.status, "running")
    finished = state == "finished"
    return RunState(
        name=run.name,
        state=state,
        done=epochs or 0 if finished else last.get("epoch", 0),
        epochs=epochs,
        last_seen=last.get("at", run.started),
        reason="" if finished else run.tags.get(ERROR, ""),
    )
