"""Tables of a study's own numbers against published ones: at equal epochs, and at the far end.

A study's `reference` can hold, beside the values of its configurations,

- `at`: epochs at which ours and the published ones stand side by side,
- `landmarks`: single numbers of other sources, each with `source`, `metric`, `value` and `epochs`.
"""

from __future__ import annotations

import math

from vae_lab.config.references import Reference
from vae_lab.metrics import NATS, metric_named
from vae_lab.report.tables import Cell, Column, Columns, Table, mean_cell
from vae_lab.studies.claims import metric_name
from vae_lab.studies.comparison import Group, comparisons, key_name, reference_values
from vae_lab.studies.study import Study
from vae_lab.tracking import Reader, whole_number


def published_tables(store: Reader, study: Study) -> list[Table]:
    """The tables that a study's reference asks for, as far as its runs meet the reference's conditions."""
    reference = study.plan.reference
    if reference is None:
        return []
    groups = [
        (group, published)
        for group in _configurations(study)
        if (published := reference_values(study.plan, group))
    ]
    tables = [_at_equal_epochs(store, reference, groups)] if reference.at and groups else []
    if reference.landmarks and groups:
        metrics = dict.fromkeys(landmark.metric for landmark in reference.landmarks)
        tables += [_landmarks(reference, groups, metric) for metric in metrics]
    return tables


def _configurations(study: Study) -> list[Group]:
    """The groups of the study's first table; its replicates are one group if nothing else varies."""
    first = comparisons(study)[0]
    if set(first.by) <= set(study.plan.replicate):
        return [Group({}, [run for group in first.groups for run in group.finished], [])]
    return first.groups


def _at_equal_epochs(store: Reader, reference: Reference, groups: list[tuple[Group, list[float]]]) -> Table:
    keys = [key for key in groups[0][0].keys if len(groups) > 1]
    finished = dict.fromkeys(run.run_id for group, _ in groups for run in group.finished)
    logged, rows = store.points(finished, [reference.metric]), []
    for group, published in groups:
        curves = [logged[run.run_id][reference.metric] for run in group.finished if run.run_id in logged]
        histories = [[curve[step] for step in sorted(curve)] for curve in curves]
        for epoch in reference.at:
            ours = [history[epoch - 1] for history in histories if len(history) >= epoch]
            if ours and len(published) >= epoch:
                rows.append((group, epoch, ours, published[epoch - 1]))
    columns: Columns = [
        *((Column(key_name(key)), [group.keys[key] for group, *_ in rows]) for key in keys),
        (Column("epoch", digits=0), [float(epoch) for _, epoch, *_ in rows]),
        (Column(f"{metric_name(reference.metric)}, ours", NATS), [mean_cell(ours) for *_, ours, _ in rows]),
        (Column(reference.source, NATS), [theirs for *_, theirs in rows]),
        (Column("difference", NATS), [math.fsum(ours) / len(ours) - theirs for *_, ours, theirs in rows]),
        (Column("n", "seeds", 0), [float(len(ours)) for *_, ours, _ in rows]),
    ]
    note = f"{reference.metric} at equal epochs. ±: half of the 95 % interval over seeds (Student's t)."
    return Table.of("At equal epochs", columns, note)


def _landmarks(reference: Reference, groups: list[tuple[Group, list[float]]], metric: str) -> Table:
    """The landmarks of one metric: two of them share neither unit nor digits."""
    rows = []
    for group, _ in groups:
        if values := group.values(metric):
            epochs = whole_number(group.finished[0].params.get("train.epochs", ""))
            keys = {key_name(key): value for key, value in group.keys.items() if key != "seed"}
            name = ", ".join(f"{key} {value}" for key, value in keys.items())
            ours = f"ours ({name})" if len(groups) > 1 else "ours"
            trained = Cell(None if epochs is None else float(epochs))
            rows.append([Cell(ours), Cell(metric), trained, mean_cell(values)])
    for landmark in reference.landmarks:
        if landmark.metric == metric:
            texts = [Cell(landmark.source), Cell(metric)]
            rows.append([*texts, Cell(landmark.epochs), Cell(landmark.value)])
    known = metric_named(metric)
    columns = [
        Column("source", numeric=False),
        Column("metric", numeric=False),
        Column("epochs", digits=0),
        Column("value", known.unit, known.digits),
    ]
    title = f"The far end: {known.heading}"
    return Table(title, columns, rows, "Numbers after more training are no equals of ours.")
