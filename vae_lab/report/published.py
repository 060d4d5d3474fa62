"""Tables of a study's own numbers against published ones: at equal epochs, and at the far end.

A study's `reference` can hold, beside the values of its configurations,

- `at`: epochs at which ours and the published ones stand side by side,
- `landmarks`: single numbers of other sources, each with `source`, `metric`, `value` and `epochs`.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from vae_lab.metrics import NATS
from vae_lab.report.tables import Cell, Column, Table, mean_cell
from vae_lab.studies.claims import metric_name
from vae_lab.studies.comparison import Group, Study, comparisons, key_name, reference_values
from vae_lab.tracking import Reader


def published_tables(store: Reader, study: Study) -> list[Table]:
    """The tables that a study's reference asks for, as far as its runs meet the reference's conditions."""
    reference = study.plan.reference
    if not reference:
        return []
    groups = [
        (group, published)
        for group in _configurations(study)
        if (published := reference_values(study.plan, group))
    ]
    made = [_at_equal_epochs(store, reference, groups)] if reference.get("at") and groups else []
    if reference.get("landmarks") and groups:
        made += [_landmarks(reference, groups)]
    return made


def _configurations(study: Study) -> list[Group]:
    """The groups of the study's first table; its replicates are one group if nothing else varies."""
    first = comparisons(study)[0]
    if set(first.by) <= set(study.plan.replicate):
        return [Group({}, [run for group in first.groups for run in group.finished], [])]
    return first.groups


def _at_equal_epochs(
    store: Reader, reference: Mapping[str, Any], groups: list[tuple[Group, list[float]]]
) -> Table:
    metric = str(reference["metric"])
    source = str(reference.get("source", "published"))
    keys = [key for key in groups[0][0].keys if len(groups) > 1]
    rows = []
    for group, published in groups:
        histories = [store.history(run.run_id, metric) for run in group.finished]
        for epoch in reference["at"]:
            ours = [each[epoch - 1] for each in histories if len(each) >= epoch]
            if not ours or len(published) < epoch:
                continue
            mean = statistics.fmean(ours)
            rows.append(
                [
                    *(Cell(group.keys[key]) for key in keys),
                    *(Cell(float(epoch)), mean_cell(ours), Cell(published[epoch - 1])),
                    *(Cell(mean - published[epoch - 1]), Cell(float(len(ours)))),
                ]
            )
    columns = [
        *(Column(key_name(key)) for key in keys),
        Column("epoch", digits=0),
        Column(f"{metric_name(metric)}, ours", NATS),
        Column(source, NATS),
        Column("difference", NATS),
        Column("n", "seeds", 0),
    ]
    note = f"{metric} at equal epochs. ±: half of the 95 % interval over seeds (Student's t)."
    return Table("At equal epochs", columns, rows, note)


def _landmarks(reference: Mapping[str, Any], groups: list[tuple[Group, list[float]]]) -> Table:
    rows = []
    metrics = dict.fromkeys(str(each["metric"]) for each in reference["landmarks"])
    for metric in metrics:
        for group, _ in groups:
            if values := group.values(metric):
                epochs = group.finished[0].params.get("train.epochs", "")
                name = ", ".join(
                    f"{key_name(key)} {value}" for key, value in group.keys.items() if key != "seed"
                )
                ours = f"ours ({name})" if len(groups) > 1 else "ours"
                rows.append([Cell(ours), Cell(metric), Cell(float(epochs)), mean_cell(values)])
        for each in reference["landmarks"]:
            if str(each["metric"]) == metric:
                named = [Cell(str(each["source"])), Cell(metric)]
                rows.append([*named, Cell(float(each["epochs"])), Cell(float(each["value"]))])
    columns = [
        Column("source", numeric=False),
        Column("metric", numeric=False),
        Column("epochs", digits=0),
        Column("value", NATS),
    ]
    return Table("The far end", columns, rows, "Numbers after more training are no equals of ours.")
