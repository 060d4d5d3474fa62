"""How a study was made: what its runs share, what varied, what they ran on, and the commands."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from vae_lab.report.tables import Cell, Column, Table
from vae_lab.studies.comparison import param_values
from vae_lab.studies.study import POINT, Study
from vae_lab.tracking import COMMAND, ENVIRONMENT, NOTE, StoredRun
from vae_lab.tracking.records import measured_at, parsed_object

COMMIT, CHANGES = "mlflow.source.git.commit", "vae_lab.uncommitted_changes"
# Not what a study is about: where things lie, how much is drawn.
MACHINERY = re.compile(r"data\.root$|evaluation\.(pictures|columns|batch_size)$|.*fused$")


def shared(study: Study) -> list[tuple[str, list[tuple[str, str]]]]:
    """The parameters in which all runs agree, by group of the config."""
    if not study.runs:
        return []
    plan = study.plan
    first, *others = map(_settings, study.runs)
    groups: dict[str, list[tuple[str, str]]] = {}
    for key, value in sorted(first.items()):
        group, _, name = key.partition(".")
        axis = key in (*plan.cross, *plan.one_at_a_time, *plan.replicate, POINT)
        # The names of `data` and `objective` say the same as these keys.
        repeated = name in ("name", "likelihood") and value == first.get(group)
        class_of_the_lab = name == "_target_" and value.startswith("vae_lab.")
        if axis or repeated or class_of_the_lab or value == "null" or MACHINERY.match(key):
            continue
        if all(other.get(key) == value for other in others):
            setting = ("", value.rpartition(".")[2]) if name == "_target_" else (name, value)
            groups.setdefault(group, []).append(setting)
    return list(groups.items())


def _settings(run: StoredRun) -> dict[str, str]:
    """A run's parameters; those of its measures as they were taken, which may have been after training."""
    measures = measured_at(run.tags)
    taken = {f"evaluation.{name}": value for name, value in measures.items()}
    if own := [name for name in measures if name.startswith("own/")]:
        taken["evaluation.metrics"] = ", ".join(own)
    return {key: taken.get(key, value) for key, value in run.params.items()}


def varied(study: Study) -> Table:
    """What tells the runs apart: each key, its values, and how they were combined."""
    ways: tuple[tuple[str, Mapping[str, Sequence[str]]], ...] = (
        ("every combination", study.plan.cross),
        ("one at a time", study.plan.one_at_a_time),
        (_replicates(study), study.plan.replicate),
    )
    base = study.plan.base
    rows = [
        (key, ", ".join(values), way, base.get(key)) for way, axis in ways for key, values in axis.items()
    ]
    for name, settings in study.plan.also.items():
        rows.append(
            (name, ", ".join(" ".join(setting) for setting in settings.items()), "a named point", None)
        )
    columns = [Column(name, numeric=False) for name in ("key", "values", "how", "base")]
    if not base:
        columns.pop()
    return Table("What varies", columns, [[Cell(x) for x in row[: len(columns)]] for row in rows])


def _replicates(study: Study) -> str:
    """`replicates`, and how many a configuration has where some have more than others."""
    keys = (*study.plan.cross, *study.plan.one_at_a_time, POINT)
    counts = Counter(param_values(run, keys) for run in study.runs).values()
    low, high = min(counts, default=0), max(counts, default=0)
    return f"replicates, {low} to {high} a configuration" if low < high else "replicates"


def environment(study: Study) -> list[tuple[str, list[str]]]:
    """Every fact with all the values that the runs have of it."""
    facts: dict[str, dict[str, None]] = {}

    def add(fact: str, value: str | None) -> None:
        if value:
            facts.setdefault(fact, {})[value] = None

    for run in study.runs or [study.parent]:
        add("data and checksum", run.tags.get("vae_lab.data"))
        add("device", run.tags.get("vae_lab.device"))
        add("vae_lab", run.tags.get("vae_lab.version"))
        changed = " with uncommitted changes" * ("true" in run.tags.get(CHANGES, ""))
        add("git commit", run.tags[COMMIT] + changed if COMMIT in run.tags else None)
        for fact, value in parsed_object(run.tags.get(ENVIRONMENT, "")).items():
            add(fact, str(value))
    return [(fact, list(values)) for fact, values in facts.items()]


def command(run: StoredRun) -> str:
    """The command that a run recorded: as its tag, or in the note of an older lab."""
    noted = re.search(r"Again: `(.*)`", run.tags.get(NOTE, ""))
    return run.tags.get(COMMAND) or (noted[1] if noted else "")
