"""What the runs hold for and against one claim: its values by replicate, its test, effects, and p."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import compress, product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vae_lab.errors import UserError, choices
from vae_lab.studies import statistics
from vae_lab.studies.claims.compared import Design, compared_rows, test_for
from vae_lab.studies.claims.contrasts import contrast
from vae_lab.studies.claims.declared import Claim
from vae_lab.studies.claims.difference import Evidence
from vae_lab.studies.claims.scope import groups, named_points
from vae_lab.studies.claims.wording import Wording, named
from vae_lab.studies.statistics import Array
from vae_lab.studies.values import canonical, is_number

if TYPE_CHECKING:  # whoever only names metrics or prints tables goes without its half second of imports
    import pandas as pd
    from numpy.typing import NDArray

TWO_NEEDED = "A spread without the noise of {replicate}s takes two of them."


class NoEvidence(NamedTuple):
    """Why there is nothing to judge, and what is known of the seeds that it takes all the same."""

    reason: str
    test: statistics.Test  # that it would be by
    seeds_a_value: int = 1
    no_value: str = ""  # what is compared and has no value in any finished run, in words


class _NoValueError(Exception):
    """No finished run has a value of something that a claim compares; the message says of what."""


def evidence_for(
    claim: Claim, runs: pd.DataFrame, design: Design
) -> tuple[Evidence, statistics.Test] | NoEvidence:
    """Returns the evidence for and against a claim, and the test that it is by.

    Args:
        claim: which contrast of which metric.
        runs: one row a finished run.
        design: what repeats the runs and what varies.

    Raises:
        UserError: the claim names a parameter that no run has, or orders an axis that has no order.
    """
    if runs.empty:
        return NoEvidence("No run has finished.", test_for(claim, runs, design))
    _check_parameters(claim, runs, design)
    test = test_for(claim, runs, design)
    try:
        values = _values(claim, runs, design)
    except _NoValueError as error:
        adding = " `vae-lab evaluate` adds it without training again."
        advice = adding * (claim.metric not in runs and claim.metric.startswith(("eval/", "own/")))
        return NoEvidence(f"{error}.{advice}", test, _seeds_a_value(claim, design), str(error))
    if isinstance(values, str):
        return NoEvidence(values, test, _seeds_a_value(claim, design))
    x, wording = values
    return contrast(claim, x, wording, test), test


def _seeds_a_value(claim: Claim, design: Design) -> int:
    """How many seeds make one value of the test: products of a spread take two."""
    several = len((design.axes or {}).get(claim.along, ())) > 2
    return 2 if claim.expect == "smaller_spread" and several else 1


def _values(claim: Claim, runs: pd.DataFrame, design: Design) -> tuple[Array, Wording] | str:
    """The values (groups, n, axis) that a claim compares, with the words for them; or why there are none."""
    if claim.metric not in runs:
        raise _NoValueError(f"No finished run has {claim.metric}")
    tables = [_metric_table(claim, runs, design, group) for group in groups(claim)]
    wording = Wording(claim, _axis_values(claim, tables, design))
    if claim.along:
        needed = 3 if claim.expect == "best_inside" else 2
        if len(wording.axis) < needed:
            return f"{wording.axis_name.capitalize()} has {len(wording.axis)} of the {needed} values needed."
        tables = [table.reindex(columns=list(wording.axis)) for table in tables]
    for group, table in zip(groups(claim), tables, strict=True):
        for value in table.columns[table.notna().sum() == 0] if len(table) else table.columns:
            of_what = wording.configuration(group, value)
            raise _NoValueError(f"No finished run gives {claim.metric} for {of_what}")
    _check_crossings(claim, runs, design, tables)
    x = _paired(tables, partial(_crossings, claim, runs, design))
    if not x.shape[1]:
        return f"No {design.replicate} has a finished run at every value that is compared."
    if claim.expect == "smaller_spread" and x.shape[-1] > 2 and x.shape[1] < 2:
        return TWO_NEEDED.format(replicate=design.replicate)
    return x, wording


def _check_parameters(claim: Claim, runs: pd.DataFrame, design: Design) -> None:
    axis = [claim.along] if claim.along else []
    for key in sorted({*claim.of, *claim.than, *claim.within, *axis, design.replicate}):
        if key not in runs:
            known = [str(column) for column in runs if "/" not in str(column)]
            raise UserError(f"claim {claim.id}: {key}: the runs have no such parameter{choices(key, known)}")


def _metric_table(claim: Claim, runs: pd.DataFrame, design: Design, group: Mapping[str, str]) -> pd.DataFrame:
    """Finite values of the metric; rows are replicates and what else is crossed, columns the axis."""
    import pandas as pd

    rows, crossed = compared_rows(claim, runs, design, group)
    y = pd.to_numeric(rows[claim.metric], errors="coerce")
    rows, y = rows[np.isfinite(y)], y[np.isfinite(y)]
    if rows.empty:
        return pd.DataFrame(columns=[] if claim.along else [""])
    axis = rows[claim.along].map(canonical) if claim.along else pd.Series("", index=rows.index)
    flat = pd.DataFrame({"y": y.to_numpy(np.float64), "axis": axis.to_numpy(object)})
    levels = {f"level {i}": key for i, key in enumerate((design.replicate, *crossed))}
    for level, key in levels.items():
        flat[level] = rows[key].map(canonical).to_numpy(object)
    return flat.groupby([*levels, "axis"])["y"].mean().unstack("axis")


def _axis_values(claim: Claim, tables: Sequence[pd.DataFrame], design: Design) -> list[str]:
    """The values of the claim's axis in order: those that the study set out to try, else those that ran."""
    if not claim.along:
        return []
    planned = [canonical(value) for value in (design.axes or {}).get(claim.along, ())]
    values = set(planned) or {str(value) for table in tables for value in table.columns}
    check_ordered(claim, values)
    return sorted(values, key=lambda value: (_number(value), value))


def check_ordered(claim: Claim, values: Iterable[str]) -> None:
    """Raises a UserError for a claim that orders values of its axis that have no order."""
    texts = [value for value in values if not is_number(value)]
    if texts and claim.expect != "smaller_spread":
        raise UserError(
            f"claim {claim.id}: along={claim.along}: its value {min(texts)} is no number and has no order."
        )


def _check_crossings(
    claim: Claim, runs: pd.DataFrame, design: Design, tables: Sequence[pd.DataFrame]
) -> None:
    """Raises a _NoValueError for a combination of what is averaged over that no replicate has everywhere."""
    _, crossed = compared_rows(claim, runs, design, groups(claim)[0])
    if named_points(claim) or not crossed:
        return
    planned = product(*(dict.fromkeys(map(canonical, (design.axes or {})[key])) for key in crossed))
    valued = [_valued(table) for table in tables]
    for combination in planned:
        if not all(np.all(of_table.get(combination, False)) for of_table in valued):
            lacking = named(dict(zip(crossed, combination, strict=True)))
            where = f"{lacking} wherever it is averaged"
            raise _NoValueError(f"No finished run gives {claim.metric} for {where}")


def _valued(table: pd.DataFrame) -> dict[tuple[str, ...], NDArray[np.bool_]]:
    """Where on the axis some replicate has a value, of each combination of what is crossed."""
    valued: dict[tuple[str, ...], NDArray[np.bool_]] = {}
    for (_, *combination), there in zip(table.index, table.notna().to_numpy(), strict=True):
        at = tuple(combination)
        valued[at] = there | valued.get(at, False)
    return valued


def _crossings(
    claim: Claim, runs: pd.DataFrame, design: Design, combinations: Iterable[tuple[str, ...]]
) -> int:
    """How many combinations a claim averages over in each replicate: all that are planned.

    Named points say which there are, and runs of each are repeated.

    Args:
        claim: Whose crossed keys they combine.
        runs: One row a finished run.
        design: What is planned.
        combinations: Those that some replicate has.
    """
    _, crossed = compared_rows(claim, runs, design, groups(claim)[0])
    planned = [len({canonical(value) for value in (design.axes or {})[key]}) for key in crossed]
    if not named_points(claim):
        return math.prod(planned)
    of_points = [key not in design.repeats for key in crossed]
    seen = {tuple(compress(combination, of_points)) for combination in combinations}
    return len(seen) * math.prod(
        count for count, of_point in zip(planned, of_points, strict=True) if not of_point
    )


def _paired(tables: Sequence[pd.DataFrame], crossings: Callable[[Iterable[tuple[str, ...]]], int]) -> Array:
    """The values (groups, n, axis) of the n replicates that have them all, in the replicates' order."""
    import pandas as pd

    paired = pd.concat(tables, axis=1, join="inner", keys=range(len(tables))).dropna()
    if paired.index.nlevels > 1:  # a replicate counts where it has every combination of what is crossed
        replicates = paired.index.get_level_values(0)
        has = replicates.value_counts()
        paired = paired[has[replicates].to_numpy() == crossings(place[1:] for place in paired.index)]
    if paired.empty:
        return np.empty((len(tables), 0, 0))
    means = paired.groupby(level=0).mean()
    means = means.loc[sorted(means.index, key=lambda replicate: (_number(replicate), str(replicate)))]
    return means.to_numpy(np.float64).reshape(len(means), len(tables), -1).swapaxes(0, 1)


def _number(text: object) -> float:
    return float(str(text)) if is_number(str(text)) else math.inf
