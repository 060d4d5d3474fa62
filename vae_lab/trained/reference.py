"""From the name of a run, or of a study's best run, to the run; needs neither PyTorch nor MLflow."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import NamedTuple

from vae_lab.errors import UserError, choices, quoted
from vae_lab.metrics import HIGHER, LOWER, Metric, metric_named
from vae_lab.studies.names import UnknownStudyError, find_parents, owner_of
from vae_lab.studies.study import Study, load_study
from vae_lab.tracking import FAULT, FINGERPRINT, KIND, RUN, STUDY, SWEEP, Reader, StoredRun, store_name
from vae_lab.tracking.records import DeletedRunError

BEST = "best"
BY_DEFAULT = "test/loss"  # what a study's best run is best in
GIVEN = "model.conditional"  # a study's best may be a CVAE among VAEs, which is said
RUN_NAME = "mlflow.runName"  # tag
SHORTEST = 6  # letters of an id that stand for it
LISTED = 8  # choices in a message
BEST_END = {LOWER: "lowest", HIGHER: "highest"}


class Choice(NamedTuple):
    """The run that a name stands for, and why it is this one, where the name leaves that open."""

    run: StoredRun
    reason: str = ""


def chosen_run(store: Reader, name: str) -> Choice:
    """Returns the run that a name stands for.

    Args:
        store: Where it is kept.
        name: A run's id or the first letters of it, six at least; a run's name; or, after the name of a study
            (its newest multirun) or the id of a parent run and a colon: a run's name, `best` for the lowest
            held-out loss, or `best:METRIC`.

    Raises:
        UserError: There is no such run, or several; the message lists the choices.
    """
    if not isinstance(name, str) or not name.strip():
        raise UserError(
            f"{quoted(repr(name))}: is no name. Valid: a run's id or name, STUDY:best, STUDY:RUN_NAME."
        )
    study, colon, member = name.partition(":")
    if colon and (loaded := _study(store, study)) is not None:
        return _of_study(loaded, study, member)
    if (run := _with_id(store, name)) is not None:
        if run.kind == SWEEP:
            raise _which_run(load_study(store, name), name)
        return Choice(run)
    if runs := [run for run in store.tagged(RUN_NAME, name) if run.kind == RUN]:
        return _only(runs, name)
    raise _unknown(store, name)


def run_or_study(store: Reader, name: str) -> str:
    """Returns the name as it is where it is a study's or the id of a parent run, else the id of its run.

    Raises:
        UserError: There is no such study or run, or several.
    """
    try:
        find_parents(store, name)
    except UnknownStudyError:
        return chosen_run(store, name).run.run_id
    return name


def best_run(study: Study, name: str, key: str = BY_DEFAULT) -> Choice:
    """Returns the finished run of a study that is best in a metric, of those without a fault on purpose.

    Args:
        study: Its runs.
        name: What the study is called in messages.
        key: The metric's.

    Raises:
        UserError: No run has it, neither low nor high is better, or it cannot be compared between the runs.
    """
    finished = [run for run in study.runs if run.status == "FINISHED"]
    if not finished:
        raise UserError(f"{quoted(name)}: none of its runs has finished. See: vae-lab status {quoted(name)}")
    finished = [run for run in finished if FAULT not in run.tags]
    if not finished:
        raise UserError(f"{quoted(name)}: every finished run was given a fault; name one: STUDY:RUN_NAME")
    wanted = f"{quoted(name)}:{BEST}:{quoted(key)}"
    measured = [run for run in finished if math.isfinite(run.metrics.get(key, math.nan))]
    own = study.plan.own_metrics
    logged = [metric_named(other, own) for other in _logged(finished)]
    comparable = [other.key for other in logged if _is_rankable(other, finished)]
    if not measured:
        raise UserError(f"{wanted}: no finished run has it{choices(key, comparable)}")
    metric = metric_named(key, own)
    if not metric.better:
        raise UserError(f"{wanted}: neither a low nor a high value of it is better{choices(key, comparable)}")
    if differing := _differing(metric, measured):
        raise UserError(
            f"{wanted}: cannot be compared between runs that differ in {', '.join(differing)}"
            f"{choices(key, comparable)}"
        )
    sign = 1 if metric.better == LOWER else -1
    best = min(measured, key=lambda run: sign * run.metrics[key])
    return Choice(best, f"{BEST_END[metric.better]} {metric.heading} of {_in_words(measured)} of {name}")


def _study(store: Reader, name: str) -> Study | None:
    try:
        return load_study(store, name)
    except UnknownStudyError:  # a run's name may hold a colon, too
        return None


def _of_study(study: Study, name: str, member: str) -> Choice:
    """Returns what follows the colon: the best run, or that of a name."""
    first, _, key = member.partition(":")
    if first == BEST:
        return best_run(study, name, key or BY_DEFAULT)
    if runs := [run for run in study.runs if member in (run.name, run.run_id)]:
        return _only(runs, f"{name}:{member}", valid="their ids")
    known = [BEST, f"{BEST}:METRIC", *dict.fromkeys(run.name for run in study.runs)]
    raise UserError(f"{quoted(name)}:{quoted(member)}: no such run{choices(member, known, known[:LISTED])}")


def _with_id(store: Reader, name: str) -> StoredRun | None:
    """Returns the run, or parent run, whose id is the name or begins with it."""
    if len(name) < SHORTEST or not name.isalnum():
        return None
    try:
        return store.record(name)
    except DeletedRunError:
        raise
    except UserError:
        pass
    both = [*store.tagged(KIND, RUN), *store.tagged(KIND, SWEEP)]
    matches = [run for run in both if run.run_id.startswith(name)]
    if len(matches) > 1:
        valid = ", ".join(run.run_id for run in matches[:LISTED])
        raise UserError(f"{quoted(name)}: begins the ids of {len(matches)} runs. Valid: {valid}.")
    return matches[0] if matches else None


def _only(runs: Sequence[StoredRun], name: str, valid: str = "their ids or STUDY:NAME") -> Choice:
    """Returns the run of that name: the newest finished one, if all have one result."""
    finished = [run for run in runs if run.status == "FINISHED"]
    if not finished:
        states = " and ".join(sorted({run.status for run in runs}))
        raise UserError(f"{quoted(name)}: is {states}; only finished runs have a model.")
    if len({run.tags.get(FINGERPRINT, run.run_id) for run in finished}) > 1:
        listed = "; ".join(map(_described, finished[:LISTED]))
        more = "; ..." if len(finished) > LISTED else ""
        raise UserError(
            f"{quoted(name)}: {len(finished)} runs of different results have this name. Valid: {valid}: "
            f"{listed}{more}."
        )
    return Choice(max(finished, key=lambda run: run.started))


def _described(run: StoredRun) -> str:
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.started / 1000))
    study = run.tags.get(STUDY)
    told = [*filter(None, (study, owner_of(run))), began]
    return f"{run.run_id[:12]} ({', '.join(map(quoted, told))})"


def _which_run(study: Study, name: str) -> UserError:
    examples = [f"{name}:{BEST}", f"{name}:{BEST}:METRIC", *(f"{name}:{run.name}" for run in study.runs[:1])]
    return UserError(
        f"{quoted(name)}: is a study of {len(study.runs)} runs; which of them? Valid: "
        f"{', '.join(map(quoted, examples))}."
    )


def _unknown(store: Reader, name: str) -> UserError:
    """Returns the error for a name that is none; a study's own name asks for one of its runs."""
    if (study := _study(store, name)) is not None:
        return _which_run(study, name)
    studies = [f"{run.tags[STUDY]}:{BEST}" for run in store.tagged(KIND, SWEEP) if run.tags.get(STUDY)]
    names = [run.name for run in store.tagged(KIND, RUN) if run.status == "FINISHED"]
    known = list(dict.fromkeys([*studies, *names]))
    return UserError(
        f"{quoted(name)}: no run of that id or name in {store_name(store.uri)}"
        f"{choices(name, known, known[:LISTED])}"
    )


def _logged(runs: Sequence[StoredRun]) -> list[str]:
    return sorted({key for run in runs for key in run.metrics})


def _is_rankable(metric: Metric, runs: Sequence[StoredRun]) -> bool:
    return bool(metric.better) and metric.ranked and not _differing(metric, runs)


def _differing(metric: Metric, runs: Sequence[StoredRun]) -> list[str]:
    """Returns the parameters that runs must share for a metric to be compared, and do not."""
    keys = dict.fromkeys((*metric.column_keys, *metric.comparison_keys))
    return [key for key in keys if key != GIVEN and len({run.params.get(key, "") for run in runs}) > 1]


def _in_words(runs: Sequence[StoredRun]) -> str:
    """Returns how many runs there are; VAEs and CVAEs apart, since a CVAE's losses are given the label."""
    kinds = [run.params.get(GIVEN) == "True" for run in runs]
    if len({*kinds}) > 1:
        return f"{kinds.count(False)} VAEs and {kinds.count(True)} CVAEs"
    return f"{len(runs)} run{'s' * (len(runs) > 1)}"
