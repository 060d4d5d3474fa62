"""Two values of one parameter against each other, run by run of the same seed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vae_lab.errors import UserError, choices
from vae_lab.metrics import CATALOGUE, LOWER, Metric
from vae_lab.report.tables.content import Cell, Column, Table
from vae_lab.studies import statistics
from vae_lab.studies.comparison import POINT, Study, is_number, key_name, varied_keys
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
    place: dict[str, str]  # the values of the other parameters that vary
    before: dict[tuple[str, ...], StoredRun]
    after: dict[tuple[str, ...], StoredRun]


def parse_contrast(text: str) -> Contrast:
    """The contrast in `KEY=BEFORE,AFTER`.

    Raises:
        UserError: it is not of that form.
    """
    key, _, values = text.partition("=")
    before, _, after = (part.strip() for part in values.partition(","))
    if not key or not before or not after or "," in after or before == after:
        raise UserError(f"--contrast {text}: must be KEY=BEFORE,AFTER, such as model.layers=2,3.")
    return Contrast(key.strip(), before, after)


def contrast_tables(
    study: Study, contrasts: Sequence[Contrast], measures: Sequence[Metric] = ()
) -> list[Table]:
    """A table a measure: what each contrast changes, wherever the rest of the configuration is the same.

    p values are adjusted over all rows of all these tables (Holm). Without `measures`, the first of `DEFAULT`
    that all runs have and that may be compared over the contrasts.

    Raises:
        UserError: a contrast names a parameter or a value that no run has, or no two runs differ in it alone,
            or they are of kinds whose numbers cannot be subtracted.
    """
    pairs = [each for contrast in contrasts for each in _pairs(study, contrast)]
    shown = list(measures) or [_default(pairs)]
    for measure in shown:
        _check_kinds(pairs, measure)
    differences = [[_differences(each, measure.key) for each in pairs] for measure in shown]
    p = [
        float(statistics.two_sided(statistics.sign_flip(d))) if len(d) else 1.0
        for rows in differences
        for d in rows
    ]
    adjusted = statistics.holm(p)
    tables = []
    for i, (measure, rows) in enumerate(zip(shown, differences, strict=True)):
        part = slice(i * len(pairs), (i + 1) * len(pairs))
        tables.append(_table(study, measure, pairs, rows, p[part], adjusted[part], len(p)))
    return tables


def _pairs(study: Study, contrast: Contrast) -> list[_Pairs]:
    known = sorted({key for run in study.runs for key in run.params})
    if contrast.key not in known:
        raise UserError(
            f"--contrast {contrast.key}: the runs have no such parameter{choices(contrast.key, known)}"
        )
    values = {run.params.get(contrast.key, "") for run in study.runs}
    for value in contrast[1:]:
        if not any(_same(value, each) for each in values):
            raise UserError(
                f"--contrast {contrast.key}={value}: no run has that value{choices(value, values)}"
            )
    replicate = _replicate(study)
    keys = study.plan.cross if contrast.key == POINT else varied_keys(study.plan)
    others = [key for key in keys if key not in (contrast.key, *replicate)]
    found: dict[tuple[str, ...], _Pairs] = {}
    for run in study.runs:
        side = next((i for i in (1, 2) if _same(contrast[i], run.params.get(contrast.key, ""))), 0)
        if run.status == "FINISHED" and side:
            place = {key: run.params.get(key, "") for key in others}
            pairs = found.setdefault(tuple(place.values()), _Pairs(contrast, place, {}, {}))
            name = tuple(run.params.get(key, "") for key in replicate)
            (pairs.before if side == 1 else pairs.after).setdefault(name, run)
    both = [each for each in found.values() if each.before.keys() & each.after.keys()]
    if not both:
        raise UserError(
            f"--contrast {contrast.key}={contrast.before},{contrast.after}: no two finished runs differ in "
            f"it alone with the same {' and '.join(map(key_name, replicate))}."
        )
    return both


def _replicate(study: Study) -> tuple[str, ...]:
    return tuple(study.plan.replicate) or ("seed",)


def _same(wanted: str, found: str) -> bool:
    return wanted == found or (is_number(wanted) and is_number(found) and float(wanted) == float(found))


def _default(pairs: Iterable[_Pairs]) -> Metric:
    runs = [run for each in pairs for run in (*each.before.values(), *each.after.values())]
    fitting = [
        CATALOGUE[key]
        for key in DEFAULT
        if all(key in run.metrics for run in runs) and not _apart(pairs, CATALOGUE[key])
    ]
    return fitting[0] if fitting else CATALOGUE[DEFAULT[0]]


def _apart(pairs: Iterable[_Pairs], measure: Metric) -> str:
    """The parameter that sets the two sides of a contrast apart in this measure, if there is one."""
    for each in pairs:
        for key in (*measure.column, *measure.apart):
            if len({run.params.get(key) for run in (*each.before.values(), *each.after.values())}) > 1:
                return key
    return ""


def _check_kinds(pairs: Sequence[_Pairs], measure: Metric) -> None:
    for each in pairs:
        if key := _apart([each], measure):
            fitting = [
                other.key
                for other in CATALOGUE.values()
                if other.better
                and not _apart([each], other)
                and all(other.key in run.metrics for run in (*each.before.values(), *each.after.values()))
            ]
            valid = f" Valid: {', '.join(fitting)}." if fitting else ""
            raise UserError(
                f"--contrast {each.contrast.key}={each.contrast.before},{each.contrast.after}: {measure.key} "
                f"of runs that differ in {key} cannot be subtracted; choose another --metric.{valid}"
            )


def _differences(pairs: _Pairs, metric: str) -> list[float]:
    found = []
    for name, before in pairs.before.items():
        after = pairs.after.get(name)
        ends = [run.metrics.get(metric, math.nan) for run in (before, after) if run is not None]
        if len(ends) == 2 and all(map(math.isfinite, ends)):
            found.append(ends[1] - ends[0])
    return found


def _table(
    study: Study,
    measure: Metric,
    pairs: Sequence[_Pairs],
    differences: Sequence[Sequence[float]],
    p: Sequence[float],
    adjusted: Sequence[float],
    tests: int,
) -> Table:
    intervals = [statistics.paired_interval(d, 1 - LEVEL) for d in differences]
    digits = max([measure.digits, *(_decimals(each) for each in intervals)])
    keys = list(dict.fromkeys(key for each in pairs for key in each.place))
    varied = [key for key in keys if len({each.place.get(key, "") for each in pairs}) > 1]
    name = " and ".join(map(key_name, _replicate(study)))
    columns = [
        Column("contrast", numeric=False),
        *(Column(key_name(key), numeric=False) for key in varied),
        Column("n", f"{name}s", 0),
        Column("change", measure.unit, digits, signed=True),
        Column("from", "", digits, signed=True),
        Column("to", "", digits, signed=True),
        Column("p", digits=4),
        Column("Holm p", digits=4),
        *([Column("P(better)")] if measure.better else []),
    ]
    sign = -1 if measure.better == LOWER else 1
    rows = []
    for each, d, found, raw, held in zip(pairs, differences, intervals, p, adjusted, strict=True):
        values = [found.estimate, found.low, found.high, raw, held]
        if measure.better:
            values.append(statistics.probability_of_better([sign * x for x in d]))
        rows.append(
            [
                Cell(each.contrast.text),
                *(Cell(each.place.get(key, "")) for key in varied),
                Cell(float(len(d))),
                *(Cell(value if math.isfinite(value) else None) for value in values),
            ]
        )
    return Table(
        f"Contrasts of {measure.heading} ({measure.key})",
        columns,
        rows,
        _note(name, measure, tests, intervals),
        lead=1 + len(varied),
    )


def _decimals(found: statistics.Interval) -> int:
    half = (found.high - found.low) / 2
    return min(6, 1 - math.floor(math.log10(half))) if math.isfinite(half) and half > 0 else 0


def _note(name: str, measure: Metric, tests: int, intervals: Iterable[statistics.Interval]) -> str:
    methods = {each.method for each in intervals}
    how = {
        "BCa": "BCa bootstrap",
        "t": f"Student's t for fewer than {statistics.least_replicates(LEVEL)} {name}s or equal differences",
    }
    used = [text for method, text in how.items() if method in methods]
    interval = f", from and to its {100 * (1 - LEVEL):.0f} % interval ({'; '.join(used)})" if used else ""
    better = f" P(better): share of {name}s in which the second value is better." if measure.better else ""
    over = (
        f"Holm p: adjusted over {tests} contrasts." if tests > 1 else "One contrast: nothing to adjust for."
    )
    return (
        f"Change: mean difference of runs of one {name}, second value less first{interval}. "
        f"p: sign-flip test, at least 2/2^n. {over}{better}"
    )
