"""One row a configuration: means with intervals over its replicates, ties with the best marked together."""

from __future__ import annotations

import math
import statistics as averages
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from vae_lab.metrics import LOWER, NATS, OBJECTIVE, SETTINGS, TOPICS, Metric
from vae_lab.report.tables.content import Cell, Column, Table
from vae_lab.studies import statistics
from vae_lab.studies.comparison import (
    Comparison,
    Study,
    comparisons,
    is_number,
    key_name,
    over_replicates,
    reference_values,
)
from vae_lab.studies.plan import Plan
from vae_lab.tracking import ERROR, EVALUATION, StoredRun

Values = Mapping[tuple[str, ...], float]  # of one row, by replicate
LEVEL = 0.05  # of marking the best wrongly; intervals have 1 - LEVEL
NAMED = 5  # failed runs whose names stand below a table
ONLY_WITH = {"test/negative_elbo": OBJECTIVE}  # said only where these are not the defaults for all runs
PLAIN = {"objective.beta": "1.0", "objective.penalty": "none"}


def study_tables(study: Study, by: Sequence[str] = (), measures: Sequence[Metric] = ()) -> list[Table]:
    """The ablation tables of a study, of all topics or of the `measures` given."""
    found = comparisons(study, by)
    if not by and (repeated := over_replicates(study)):
        found.append(repeated)
    return [table for each in found for table in ablation_tables(each, study.plan, measures)]


def ablation_tables(comparison: Comparison, plan: Plan, measures: Sequence[Metric] = ()) -> list[Table]:
    """A table for each topic that was measured, or several where kinds of numbers share no column."""
    topics = {"": tuple(measures)} if measures else TOPICS
    made = []
    for topic, shown in topics.items():
        for kind, part in _kinds(comparison, shown):
            had = [each for each in shown if measures or not topic or _measured(part, each)]
            if had:
                title = ", ".join(filter(None, [comparison.title, topic, kind]))
                made.append(_table(part._replace(title=title), plan, had, published=not (topic or measures)))
    return made


def _measured(comparison: Comparison, measure: Metric) -> bool:
    """Whether rows that stand side by side have it; what one of several alone has compares nothing."""
    families: dict[tuple[str, ...], list[bool]] = {}
    for group in comparison.groups:
        shared = tuple(group.keys.get(key, "") for key in comparison.within)
        has = any(measure.key in run.metrics for run in group.finished)
        families.setdefault(shared, []).append(has)
    least = min(2, max(map(len, families.values()), default=1))
    return any(sum(has) >= least for has in families.values())


def _kinds(comparison: Comparison, measures: Iterable[Metric]) -> list[tuple[str, Comparison]]:
    """The runs whose numbers may share columns, under what tells them from the others."""
    keys = tuple(dict.fromkeys(key for measure in measures for key in measure.column))
    runs = [run for group in comparison.groups for run in (*group.finished, *group.lost)]
    kinds = list(dict.fromkeys(_values(run, keys) for run in runs))
    if len(kinds) < 2:
        return [("", comparison)]
    varied = [i for i in range(len(keys)) if len({kind[i] for kind in kinds}) > 1]
    parts = []
    for kind in kinds:
        groups = [
            group._replace(
                finished=[run for run in group.finished if _values(run, keys) == kind],
                lost=[run for run in group.lost if _values(run, keys) == kind],
            )
            for group in comparison.groups
        ]
        kept = [group for group in groups if group.finished or group.lost]
        title = ", ".join(f"{key_name(keys[i])} {kind[i]}" for i in varied)
        parts.append((title, comparison._replace(groups=kept)))
    return parts


def _values(run: StoredRun, keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(run.params.get(key, "") for key in keys)


def _table(comparison: Comparison, plan: Plan, measures: Sequence[Metric], *, published: bool) -> Table:
    groups = comparison.groups
    replicates = [group.replicates for group in groups]
    columns = [
        Column(key_name(key), numeric=all(is_number(group.keys[key]) for group in groups))
        for key in comparison.by
    ]
    rows: list[list[Cell]] = [[Cell(value) for value in group.keys.values()] for group in groups]

    def add(column: Column, cells: Sequence[Cell]) -> None:
        columns.append(column)
        for row, cell in zip(rows, cells, strict=True):
            row.append(cell)

    if max(replicates, default=0) > 1:
        add(Column("n", _replicate_name(comparison), 0), [Cell(float(n)) for n in replicates])
    if any(group.lost for group in groups):
        add(Column("failed", "runs", 0), [Cell(float(len(group.lost))) for group in groups])
    lead = len(columns)
    reported = [reference_values(plan, group) if published else None for group in groups]
    if any(reported):
        assert plan.reference is not None
        add(
            Column(str(plan.reference.get("source", "published")), NATS),
            [Cell(each[-1] if each else None) for each in reported],
        )
    finished = [run for group in groups for run in group.finished]
    ranked = []
    for measure in measures:
        if measure.key in ONLY_WITH and published and not _needs(finished):
            continue
        values = [group.by_replicate(measure.key) for group in groups]
        ranked += (ranks := _families(comparison, measure, values))
        best = _best(measure, values, ranks)
        cells = [
            replace(mean_cell([*found.values()], n), best=i in best)
            for i, (found, n) in enumerate(zip(values, replicates, strict=True))
        ]
        add(Column(measure.heading, measure.unit, _digits(measure, cells)), cells)
    return Table(
        comparison.title,
        columns,
        rows,
        _note(comparison, measures, ranked),
        _breaks(comparison),
        _meaning(comparison),
        lead,
    )


def _needs(runs: Iterable[StoredRun]) -> bool:
    return any(run.params.get(key, plain) != plain for run in runs for key, plain in PLAIN.items())


def _replicate_name(comparison: Comparison) -> str:
    keys = comparison.groups[0].replicate
    return f"{key_name(keys[0])}s" if len(keys) == 1 else "runs"


def mean_cell(values: Sequence[float], replicates: int | None = None) -> Cell:
    """The mean with its interval; `replicates` is the number that the row says, if it does."""
    if not values:
        return Cell(None)
    count = None if replicates in (None, len(values)) else len(values)
    if len(values) == 1 or min(values) == max(values):
        return Cell(averages.fmean(values), None, False, count)
    found = statistics.mean_interval(values, 1 - LEVEL)
    return Cell(found.estimate, found.high - found.estimate, False, count)


def _digits(measure: Metric, cells: Iterable[Cell]) -> int:
    """The measure's digits, or as many as show half of the intervals."""
    halves = [cell.half for cell in cells if cell.half]
    if not halves:
        return measure.digits
    needed = -math.floor(math.log10(averages.median(halves)))
    return max(measure.digits, min(needed, measure.digits + 2), 1)


def _families(comparison: Comparison, measure: Metric, values: Sequence[Values]) -> list[list[int]]:
    """Rows among which the best is sought: they share `within` and what the measure sets apart."""
    if not (measure.better and measure.ranked):
        return []
    found: dict[tuple[tuple[str, ...], ...], list[int]] = {}
    for i, group in enumerate(comparison.groups):
        if values[i]:
            kinds = {_values(run, measure.apart) for run in group.finished}
            if len(kinds) == 1:  # a row that averages over kinds has no rank
                shared = tuple(group.keys.get(key, "") for key in comparison.within)
                found.setdefault((shared, *kinds), []).append(i)
    return [rows for rows in found.values() if len(rows) > 1]


def _best(measure: Metric, values: Sequence[Values], ranked: Iterable[Sequence[int]]) -> set[int]:
    """The rows that no other of their family is shown to beat, where some row is beaten."""
    best: set[int] = set()
    for rows in ranked:
        compared = {i: values[i] for i in rows}
        tied = statistics.tied_with_best(compared, lower_is_better=measure.better == LOWER, level=LEVEL)
        if len(tied) < len(rows):
            best |= tied
    return best


def _meaning(comparison: Comparison) -> str:
    among = f" of one {', '.join(map(key_name, comparison.within))}" if comparison.within else ""
    return (
        f"Best: no other row{among} is shown to be better (sign-flip test, paired by "
        f"{_one_replicate(comparison)}, {100 * LEVEL:.0f} % over the rows). Several marks are a tie."
    )


def _one_replicate(comparison: Comparison) -> str:
    keys = comparison.groups[0].replicate if comparison.groups else ()
    return " and ".join(map(key_name, keys)) or "run"


def _note(comparison: Comparison, measures: Sequence[Metric], ranked: Sequence[Sequence[int]]) -> str:
    groups = comparison.groups
    most = max((group.replicates for group in groups), default=0)
    said = []
    if most > 1:
        said.append(
            f"±: half of the {100 * (1 - LEVEL):.0f} % interval of the mean over "
            f"{_one_replicate(comparison)}s (Student's t); none where all values are the same."
        )
    elif groups and ranked:
        said.append("One run a row: no intervals, and no row is marked as best.")
    if most > 1 and ranked:
        least = min(statistics.least_replicates(LEVEL, len(rows) - 1) for rows in ranked)
        if most < least:
            said.append(
                f"With {most} {_one_replicate(comparison)}s no row can be shown to be worse than another; it "
                f"takes {least}."
            )
    pooled = dict.fromkeys(key for group in groups for key in group.pooled)
    if pooled:
        said.append(f"Rows are means over {', '.join(map(key_name, pooled))}.")
    tags = dict.fromkeys(run.tags.get(EVALUATION, "") for group in groups for run in group.finished)
    for needed in dict.fromkeys(measure.needs for measure in measures if measure.needs):
        kept = (
            " ".join(part for part in tag.split() if part.partition("=")[0] in SETTINGS[needed])
            for tag in sorted(tags)
        )
        if len(ways := list(dict.fromkeys(filter(None, kept)))) > 1:
            said.append(f"Not all were measured alike: {'; or '.join(ways)}.")
    said.append(_losses([run for group in groups for run in group.lost]))
    return " ".join(filter(None, said))


def _losses(lost: Sequence[StoredRun]) -> str:
    """The runs that failed by name, with the reason if they left one."""
    if not lost:
        return ""
    names = [f"{run.name} ({reason})" if (reason := _reason(run)) else run.name for run in lost[:NAMED]]
    more = f" and {len(lost) - NAMED} more" if len(lost) > NAMED else ""
    return f"Failed: {', '.join(names)}{more}."


def _reason(run: StoredRun) -> str:
    text = run.tags.get(ERROR, "killed" if run.status == "KILLED" else "")
    return text if len(text) <= 60 else f"{text[:57]}..."


def _breaks(comparison: Comparison) -> frozenset[int]:
    shared = [[group.keys.get(key, "") for key in comparison.within] for group in comparison.groups]
    return frozenset(i for i in range(len(shared) - 1) if shared[i] != shared[i + 1])
