"""Two values of one parameter against each other: paired by seed, or between architectures as two samples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import yaml

from vae_lab.errors import UserError, choices, quoted
from vae_lab.metrics import CATALOGUE, LOWER, Metric
from vae_lab.report.tables.content import Column, Table, finite, how_tested
from vae_lab.studies import statistics
from vae_lab.studies.comparison import in_order, key_name, param_values, varied_keys
from vae_lab.studies.study import POINT, Study
from vae_lab.studies.values import is_number
from vae_lab.tracking import StoredRun

LEVEL = 0.05  # intervals have 1 - LEVEL
DEFAULT = ("test/loss", "test/negative_elbo", "test/negative_log_marginal", "eval/recognizable_share")


class Contrast(NamedTuple):
    """The change from one value of a parameter to another."""

    key: str
    before: str
    after: str

    @property
    def text(self) -> str:
        """`layers 2 → 3`."""
        return f"{key_name(self.key)} {self.before} → {self.after}"


class _Pairs(NamedTuple):
    """Runs that differ in a contrast's parameter only, by replicate."""

    contrast: Contrast
    shared: dict[str, str]  # the values of the other parameters that vary
    before: dict[tuple[str, ...], StoredRun]
    after: dict[tuple[str, ...], StoredRun]

    @property
    def runs(self) -> list[StoredRun]:
        """Those of both sides."""
        return [*self.before.values(), *self.after.values()]


def parse_contrast(text: str) -> Contrast:
    """Returns the contrast in `KEY=BEFORE,AFTER`.

    Raises:
        UserError: it is not of that form.

    Examples:
        >>> parse_contrast("model.layers=2,3").text
        'layers 2 → 3'
        >>> parse_contrast("model.hidden_size=[400,200],400").text
        'hidden size [400, 200] → 400'
    """
    key, _, values = text.partition("=")
    parts = _listed(values)
    if not key.strip() or len(parts) != 2 or "" in parts or _same(*parts):
        raise UserError(
            f"--contrast {quoted(text)}: must be KEY=BEFORE,AFTER, such as model.layers=2,3 or "
            "model.hidden_size=[400,200],400."
        )
    return Contrast(key.strip(), *parts)


def _listed(values: str) -> list[str]:
    """Returns values between commas as runs record them, those in brackets as lists; none if unreadable."""
    try:
        node = yaml.compose(f"[{values}]", yaml.SafeLoader)  # texts as they were typed: 0.10 is not 0.1
    except yaml.YAMLError:
        return []
    return [_as_recorded(value) for value in node.value] if isinstance(node, yaml.SequenceNode) else []


def _as_recorded(node: yaml.Node) -> str:
    """Returns a value as runs record it, a list with a space after each comma; empty for a mapping."""
    if isinstance(node, yaml.SequenceNode):
        return f"[{', '.join(map(_as_recorded, node.value))}]"
    return str(node.value).strip() if isinstance(node, yaml.ScalarNode) else ""


def contrast_tables(
    study: Study, contrasts: Sequence[Contrast], metrics: Sequence[Metric] = ()
) -> list[Table]:
    """A table a metric: what each contrast changes, wherever the rest of the configuration is the same.

    p values are adjusted over all rows of all these tables (Holm). Without `metrics`, the first of `DEFAULT`
    that all runs have and that may be compared over the contrasts.

    Raises:
        UserError: a contrast names a parameter or a value that no run has, or no two runs differ in it alone,
            or they are of kinds whose numbers cannot be subtracted.
    """
    pairs = [pair for contrast in contrasts for pair in _pairs(study, contrast)]
    chosen = list(metrics) or [_default(pairs)]
    for metric in chosen:
        _check_kinds(pairs, metric)
    values = [[_values(pair, metric.key) for pair in pairs] for metric in chosen]
    test = _test(study, contrasts, len(pairs) * len(chosen))
    p = [float(statistics.two_sided(test.directions(value))) for rows in values for value in rows]
    judged = iter(zip(p, statistics.holm(p), strict=True))
    return [
        _contrast_table(study, metric, pairs, rows, test, [*itertools.islice(judged, len(rows))], len(p))
        for metric, rows in zip(chosen, values, strict=True)
    ]


def _test(study: Study, contrasts: Sequence[Contrast], rows: int) -> statistics.Test:
    """The test of all contrasts, in so many rows: of samples, if one of them compares architectures."""
    keys = {contrast.key for contrast in contrasts}
    for contrast in contrasts:
        if contrast.key == POINT:
            keys.update(*(study.plan.also.get(point, {}) for point in contrast[1:]))
    test = statistics.chosen_test(keys)
    return statistics.anytime(test, LEVEL, rows) if study.plan.sequential else test


def _pairs(study: Study, contrast: Contrast) -> list[_Pairs]:
    known = sorted({key for run in study.runs for key in run.params})
    if contrast.key not in known:
        raise UserError(
            f"--contrast {contrast.key}: the runs have no such parameter{choices(contrast.key, known)}"
        )
    tried = {run.params.get(contrast.key, "") for run in study.runs}
    for value in contrast[1:]:
        if not any(_same(value, other) for other in tried):
            raise UserError(
                f"--contrast {contrast.key}={value}: no run has that value{choices(value, tried)}"
            )
    replicate = _replicate(study)
    keys = study.plan.cross if contrast.key == POINT else varied_keys(study.plan)
    others = [key for key in keys if key not in (contrast.key, *replicate)]
    pairs: dict[tuple[str, ...], _Pairs] = {}
    for run in study.runs:
        side = next((i for i in (1, 2) if _same(contrast[i], run.params.get(contrast.key, ""))), 0)
        if run.status == "FINISHED" and side:
            values = param_values(run, others)
            pair = pairs.setdefault(values, _Pairs(contrast, dict(zip(others, values, strict=True)), {}, {}))
            (pair.before if side == 1 else pair.after).setdefault(param_values(run, replicate), run)
    both = [pair for pair in pairs.values() if pair.before.keys() & pair.after.keys()]
    if not both:
        raise UserError(
            f"--contrast {contrast.key}={contrast.before},{contrast.after}: no two finished runs differ in "
            f"it alone with the same {' and '.join(map(key_name, replicate))}."
        )
    return both


def _replicate(study: Study) -> tuple[str, ...]:
    return tuple(study.plan.replicate) or ("seed",)


def _same(first: str, second: str) -> bool:
    if first == second:
        return True
    if first.startswith("[") and second.startswith("["):
        before, after = _listed(first[1:-1]), _listed(second[1:-1])
        return 0 < len(before) == len(after) and all(map(_same, before, after))
    return is_number(first) and is_number(second) and float(first) == float(second)


def _default(pairs: Sequence[_Pairs]) -> Metric:
    fitting = [CATALOGUE[key] for key in DEFAULT if _fits(pairs, CATALOGUE[key])]
    return fitting[0] if fitting else CATALOGUE[DEFAULT[0]]


def _fits(pairs: Iterable[_Pairs], metric: Metric) -> bool:
    """Whether all runs have a metric and may be compared in it."""
    return all(
        not _set_apart(pair, metric) and all(metric.key in run.metrics for run in pair.runs) for pair in pairs
    )


def _set_apart(pair: _Pairs, metric: Metric) -> str:
    """The parameter that keeps the runs of a pair from being compared in this metric, if there is one."""
    for key in (*metric.column_keys, *metric.comparison_keys):
        if len({run.params.get(key) for run in pair.runs}) > 1:
            return key
    return ""


def _check_kinds(pairs: Iterable[_Pairs], metric: Metric) -> None:
    for pair in pairs:
        if key := _set_apart(pair, metric):
            fitting = [other.key for other in CATALOGUE.values() if other.better and _fits([pair], other)]
            valid = f" Valid: {', '.join(fitting)}." if fitting else ""
            raise UserError(
                f"--contrast {pair.contrast.key}={pair.contrast.before},{pair.contrast.after}: {metric.key} "
                f"of runs that differ in {key} cannot be subtracted; choose another --metric.{valid}"
            )


def _values(pair: _Pairs, metric: str) -> statistics.Pair:
    """The values after and before of the replicates that have both."""
    both = []
    for name in in_order(pair.before):
        runs = [runs[name] for runs in (pair.before, pair.after) if name in runs]
        values = [run.metrics.get(metric, math.nan) for run in runs]
        if len(values) == 2 and all(map(math.isfinite, values)):
            both.append(values[::-1])
    return statistics.Pair(*np.array(both, dtype=np.float64).reshape(-1, 2).T)


def _contrast_table(
    study: Study,
    metric: Metric,
    pairs: Sequence[_Pairs],
    values: Sequence[statistics.Pair],
    test: statistics.Test,
    judged: Sequence[tuple[float, float]],
    adjusted_over: int,
) -> Table:
    intervals = [test.interval(value, 1 - LEVEL) for value in values]
    digits = max([metric.digits, *map(_decimals, intervals)])
    keys = dict.fromkeys(key for pair in pairs for key in pair.shared)
    shared = {key: [pair.shared.get(key, "") for pair in pairs] for key in keys}
    varied = {key: values for key, values in shared.items() if len({*values}) > 1}
    replicates = " and ".join(map(key_name, _replicate(study)))
    signed = partial(Column, digits=digits, signed=True)
    columns: list[tuple[Column, Sequence[float | str | None]]] = [
        (Column("contrast", numeric=False), [pair.contrast.text for pair in pairs]),
        *((Column(key_name(key), numeric=False), values) for key, values in varied.items()),
        (Column("n", f"{replicates}s", 0), [float(len(value.differences)) for value in values]),
        (signed("change", metric.unit), [finite(interval.estimate) for interval in intervals]),
        (signed("from"), [finite(interval.low) for interval in intervals]),
        (signed("to"), [finite(interval.high) for interval in intervals]),
        (Column("p", digits=4), [finite(p) for p, _ in judged]),
        (Column("Holm p", digits=4), [finite(adjusted) for _, adjusted in judged]),
    ]
    if metric.better:
        sign = -1 if metric.better == LOWER else 1
        better = [finite(statistics.probability_of_better(sign * value.differences)) for value in values]
        columns.append((Column("P(better)"), better))
    title = f"Contrasts of {metric.heading} ({metric.key})"
    return Table.of(
        title, columns, _note(replicates, metric, adjusted_over, test, intervals), lead=1 + len(varied)
    )


def _decimals(interval: statistics.Interval) -> int:
    half = (interval.high - interval.low) / 2
    return min(6, 1 - math.floor(math.log10(half))) if math.isfinite(half) and half > 0 else 0


def _note(
    name: str, metric: Metric, tests: int, test: statistics.Test, intervals: Iterable[statistics.Interval]
) -> str:
    least = statistics.least_replicates(LEVEL, test=test)
    methods = {interval.method for interval in intervals}
    how = {
        "inverted": "what the test does not reject",
        "anytime": "what the test has rejected at no look",
        "t": f"{'Student' if test.paired else 'Welch'}'s t for fewer than {least} {name}s",
    }
    used = [text for method, text in how.items() if method in methods]
    interval = f", from and to its {100 * (1 - LEVEL):.0f} % interval ({'; '.join(used)})" if used else ""
    better = f" P(better): share of {name}s in which the second value is better." if metric.better else ""
    over = (
        f"Holm p: adjusted over {tests} contrasts." if tests > 1 else "One contrast: nothing to adjust for."
    )
    return (
        f"Change: mean difference of runs of one {name}, second value less first{interval}. "
        f"p: {how_tested(test, name)}. {over}{better}"
    )
