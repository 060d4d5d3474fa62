"""One row a configuration: means with intervals over its replicates, ties with the best marked together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from vae_lab.metrics import EVALUATION_SETTINGS, LOWER, NATS, OWN_TOPIC, TOPICS, Metric
from vae_lab.report.tables import averages, real_images
from vae_lab.report.tables.content import Cell, Column, Table, how_tested
from vae_lab.studies import statistics
from vae_lab.studies.comparison import (
    Comparison,
    Group,
    comparisons,
    groups_by_family,
    key_name,
    param_values,
    reference_values,
    single_configuration,
)
from vae_lab.studies.plan import Plan
from vae_lab.studies.study import Study
from vae_lab.studies.values import is_number
from vae_lab.tracking import ERROR, EVALUATION, StoredRun

Values = Mapping[tuple[str, ...], float]  # of one row, by replicate
LEVEL = 0.05  # of marking the best wrongly; intervals have 1 - LEVEL
NAMED = 5  # unfinished runs whose names stand below a table
LIKE_THE_LOSS = "test/negative_elbo"  # where every run has this objective:
PLAIN_ELBO = (("objective.beta", "1.0"), ("objective.penalty", "none"))


def study_tables(study: Study, by: Sequence[str] = (), metrics: Sequence[Metric] = ()) -> list[Table]:
    """The ablation tables of a study, of all topics or of the `metrics` given."""
    compared = comparisons(study, by)
    if not by and (repeated := single_configuration(study)):
        compared.append(repeated)
    return [table for comparison in compared for table in ablation_tables(comparison, study.plan, metrics)]


def ablation_tables(comparison: Comparison, plan: Plan, metrics: Sequence[Metric] = ()) -> list[Table]:
    """A table for each topic that was measured, or several where kinds of numbers share no column."""
    tables = []
    topics = {"": tuple(metrics)} if metrics else {**TOPICS, OWN_TOPIC: tuple(plan.own_metrics)}
    for topic, columns in topics.items():
        for kind, part in _kinds(comparison, columns):
            families = [*groups_by_family([part]).values()]
            measured = [metric for metric in columns if metrics or not topic or _measured(families, metric)]
            if measured:
                part = part._replace(title=", ".join(filter(None, [comparison.title, topic, kind])))
                tables.append(_ablation_table(part, plan, measured, published=not (topic or metrics)))
    return tables


def _measured(families: Sequence[Sequence[Group]], metric: Metric) -> bool:
    """Whether rows that stand side by side have it; what one of several alone has compares nothing."""
    have = [
        [any(metric.key in run.metrics for run in group.finished) for group in groups] for groups in families
    ]
    least = min(2, max(map(len, have), default=1))
    return any(sum(family) >= least for family in have)


def _kinds(comparison: Comparison, metrics: Iterable[Metric]) -> list[tuple[str, Comparison]]:
    """The runs whose numbers may share columns, under what tells them from the others."""
    keys = tuple(dict.fromkeys(key for metric in metrics for key in metric.column_keys))
    runs = [run for group in comparison.groups for run in group.runs]
    kinds = list(dict.fromkeys(param_values(run, keys) for run in runs))
    if len(kinds) < 2:
        return [("", comparison)]
    varied = [i for i in range(len(keys)) if len({kind[i] for kind in kinds}) > 1]
    parts = []
    for kind in kinds:
        groups = [
            replace(
                group,
                finished=[run for run in group.finished if param_values(run, keys) == kind],
                failed=[run for run in group.failed if param_values(run, keys) == kind],
                interrupted=[run for run in group.interrupted if param_values(run, keys) == kind],
                stopped=[run for run in group.stopped if param_values(run, keys) == kind],
            )
            for group in comparison.groups
        ]
        title = ", ".join(f"{key_name(keys[i])} {kind[i]}" for i in varied)
        rows = [group for group in groups if group.runs]
        parts.append((title, comparison._replace(groups=rows)))
    return parts


def _ablation_table(
    comparison: Comparison, plan: Plan, metrics: Sequence[Metric], *, published: bool
) -> Table:
    groups = comparison.groups
    columns = _row_columns(comparison)
    lead = len(columns)
    if published:
        columns += _published_column(comparison, plan)
        finished = [run for group in groups for run in group.finished]
        plain = all(run.params.get(key, value) == value for run in finished for key, value in PLAIN_ELBO)
        metrics = [metric for metric in metrics if metric.key != LIKE_THE_LOSS or not plain]
    ranked, of_real_images, test = [], [], comparison.test(LEVEL)
    for metric in metrics:
        values = [group.by_replicate(metric.key) for group in groups]
        families = _ranked_rows(comparison, metric, values)
        real = real_images.value(comparison, metric)
        best = _best(metric, values, families, test, real)
        cells = [mean_cell([*values[i].values()], group.n) for i, group in enumerate(groups)]
        for i in best:
            cells[i] = replace(cells[i], best=True)
        columns.append((Column(metric.heading, metric.unit, _digits(metric, cells)), cells))
        of_real_images.append(Cell(real))
        ranked += families
    breaks = _breaks(comparison)
    if any(cell.value is not None for cell in of_real_images):
        columns = real_images.with_row(columns, of_real_images)
        breaks |= {len(groups) - 1}
    return Table.of(
        comparison.title,
        columns,
        _note(comparison, metrics, ranked, test),
        breaks=breaks,
        best=_meaning_of_mark(comparison, test),
        lead=lead,
    )


def _row_columns(comparison: Comparison) -> list[tuple[Column, list[Cell]]]:
    """The columns that say what a row is: its keys, its replicates, and how many of its runs are lost."""
    groups = comparison.groups
    keys = {key: [group.keys[key] for group in groups] for key in comparison.by}
    columns = [
        (Column(key_name(key), numeric=all(map(is_number, values))), [Cell(value) for value in values])
        for key, values in keys.items()
    ]
    if any(group.n > 1 for group in groups):
        columns.append((Column("n", _replicates(comparison), 0), [Cell(float(group.n)) for group in groups]))
    unfinished = {
        "failed": [len(group.failed) for group in groups],
        "interrupted": [len(group.interrupted) for group in groups],
        "stopped": [len(group.stopped) for group in groups],
    }
    for state, counts in unfinished.items():
        if any(counts):
            columns.append((Column(state, "runs", 0), [Cell(float(count)) for count in counts]))
    return columns


def _published_column(comparison: Comparison, plan: Plan) -> list[tuple[Column, list[Cell]]]:
    """The last published values beside the rows; none where the study's reference fits no row."""
    curves = [reference_values(plan, group) for group in comparison.groups]
    if plan.reference is None or not any(curves):
        return []
    return [(Column(plan.reference.source, NATS), [Cell(curve[-1] if curve else None) for curve in curves])]


def _replicates(comparison: Comparison) -> str:
    keys = comparison.groups[0].replicate
    return f"{key_name(keys[0])}s" if len(keys) == 1 else "runs"


def mean_cell(values: Sequence[float], replicates: int | None = None) -> Cell:
    """Returns the mean with its interval.

    Args:
        values: one a replicate.
        replicates: how many the row has, where it says so; the cell tells if these are fewer.

    Examples:
        >>> mean_cell([1.0, 2.0, 3.0]).text(Column("loss"))
        '2.00 ± 2.48'
    """
    if not values:
        return Cell(None)
    count = None if replicates in (None, len(values)) else len(values)
    if len(values) == 1 or min(values) == max(values):
        return Cell(math.fsum(values) / len(values), None, False, count)
    mean = statistics.mean_interval(values, 1 - LEVEL)
    return Cell(mean.estimate, mean.high - mean.estimate, False, count)


def _digits(metric: Metric, cells: Iterable[Cell]) -> int:
    """The metric's digits, or as many as show half of the intervals."""
    halves = [cell.half for cell in cells if cell.half]
    if not halves:
        return metric.digits
    needed = -math.floor(math.log10(np.median(halves)))
    return max(metric.digits, min(needed, metric.digits + 2), 1)


def _ranked_rows(comparison: Comparison, metric: Metric, values: Sequence[Values]) -> list[list[int]]:
    """Rows among which the best is sought: of one family, of means over the same, and of one kind."""
    if not (metric.better and metric.ranked):
        return []
    incomplete = averages.missing(comparison, metric.key)
    families: dict[tuple[tuple[str, ...], ...], list[int]] = {}
    for i, group in enumerate(comparison.groups):
        if values[i] and i not in incomplete:
            kinds = {param_values(run, metric.comparison_keys) for run in group.finished}
            if len(kinds) == 1:  # a row that averages over kinds has no rank
                families.setdefault((comparison.family(group), *kinds), []).append(i)
    return [rows for rows in families.values() if len(rows) > 1]


def _best(
    metric: Metric,
    values: Sequence[Values],
    ranked: Iterable[Sequence[int]],
    test: statistics.Test,
    real: float | None,
) -> set[int]:
    """The rows that no other of their family is shown to beat, where some row is beaten.

    What is beyond real images is no better than they are, and not marked.
    """
    best: set[int] = set()
    for rows in ranked:
        compared = {i: values[i] for i in rows}
        lower = metric.better == LOWER
        tied = statistics.tied_with_best(compared, lower_is_better=lower, test=test, level=LEVEL)
        if len(tied) < len(rows):
            best |= {i for i in tied if not real_images.exceeded(metric, values[i].values(), real)}
    return best


def _meaning_of_mark(comparison: Comparison, test: statistics.Test) -> str:
    among = f" of one {', '.join(map(key_name, comparison.within))}" if comparison.within else ""
    how = how_tested(test, _one_replicate(comparison))
    return (
        f"Best: no other row{among} is shown to be better ({how}, {100 * LEVEL:.0f} % over the rows). "
        "Several marks are a tie, in which what is better in the mean than a marked row is marked, too."
    )


def _one_replicate(comparison: Comparison) -> str:
    keys = comparison.groups[0].replicate if comparison.groups else ()
    return " and ".join(map(key_name, keys)) or "run"


def _note(
    comparison: Comparison,
    metrics: Sequence[Metric],
    ranked: Sequence[Sequence[int]],
    test: statistics.Test,
) -> str:
    groups = comparison.groups
    pooled = dict.fromkeys(key for group in groups for key in group.pooled)
    sentences = [
        *_note_on_replicates(comparison, ranked, test),
        f"Rows are means over {', '.join(map(key_name, pooled))}." if pooled else "",
        *averages.note(comparison, metrics),
        real_images.note(comparison, metrics),
        *_note_on_evaluation([run for group in groups for run in group.finished], metrics),
        _named_runs("Failed", [run for group in groups for run in group.failed]),
        _named_runs("Interrupted", [run for group in groups for run in group.interrupted]),
    ]
    return " ".join(filter(None, sentences))


def _note_on_replicates(
    comparison: Comparison, ranked: Sequence[Sequence[int]], test: statistics.Test
) -> list[str]:
    """What the intervals are, and whether there are enough replicates to tell rows apart."""
    most = max((group.n for group in comparison.groups), default=0)
    name = _one_replicate(comparison)
    if most <= 1:
        keys = comparison.groups[0].replicate if comparison.groups else ()
        averaged = any(group.pooled for group in comparison.groups)
        one = (name if keys else "replicate") if averaged else "run"
        alone = f"One {one} a row: no intervals, and no row is marked as best."
        return [alone] if comparison.groups and ranked else []
    sentences = [
        f"±: half of the {100 * (1 - LEVEL):.0f} % interval of the mean over {name}s (Student's t); none "
        "where all values are the same."
    ]
    least = min((statistics.least_replicates(LEVEL, len(rows) - 1, test) for rows in ranked), default=0)
    if math.isinf(least):
        sentences.append("Of so many rows none can be shown to be worse than another.")
    elif most < least:
        few = f"With {most} {name}s no row can be shown to be worse than another; it takes {least}."
        sentences.append(few)
    return sentences


def _note_on_evaluation(finished: Sequence[StoredRun], metrics: Sequence[Metric]) -> list[str]:
    """At which settings metrics were measured, where these differ between the runs."""
    tags = sorted({run.tags.get(EVALUATION, "") for run in finished})
    sentences = []
    for count in dict.fromkeys(metric.needs for metric in metrics if metric.needs):
        keys = EVALUATION_SETTINGS[count]
        settings = [" ".join(part for part in tag.split() if part.partition("=")[0] in keys) for tag in tags]
        ways = list(dict.fromkeys(filter(None, settings)))
        if len(ways) > 1:
            sentences.append(f"Not all were measured alike: {'; or '.join(ways)}.")
    return sentences


def _named_runs(state: str, runs: Sequence[StoredRun]) -> str:
    """The runs that did not finish by name, with the reason if it says more than the state."""
    if not runs:
        return ""
    reasons = [(run, _reason(run)) for run in runs[:NAMED]]
    names = [
        run.name if reason in ("", state.lower()) else f"{run.name} ({reason})" for run, reason in reasons
    ]
    more = f" and {len(runs) - NAMED} more" if len(runs) > NAMED else ""
    return f"{state}: {', '.join(names)}{more}."


def _reason(run: StoredRun) -> str:
    text = run.tags.get(ERROR, "")
    return text if len(text) <= 60 else f"{text[:57]}..."


def _breaks(comparison: Comparison) -> frozenset[int]:
    families = [comparison.family(group) for group in comparison.groups]
    return frozenset(i for i in range(len(families) - 1) if families[i] != families[i + 1])
