"""Which runs a claim compares, in which parameters they differ, and the test that follows from it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from vae_lab.studies import statistics
from vae_lab.studies.claims.contrasts import contrasts_for
from vae_lab.studies.claims.declared import Claim
from vae_lab.studies.claims.scope import groups, named_points, scope, settings_of
from vae_lab.studies.study import POINT
from vae_lab.studies.values import canonical

if TYPE_CHECKING:  # whoever only names metrics or prints tables goes without its half second of imports
    import pandas as pd


@dataclass(frozen=True)
class Design:
    """The design of a study: what repeats its runs, what varies, and from which base."""

    replicate: str = "seed"
    axes: Mapping[str, Sequence[str]] | None = None  # every varied key and its values; None: those that ran
    base: Mapping[str, str] | None = None  # where the keys that a claim does not name stay
    sequential: bool = False  # whether the number of replicates was chosen after looking at them
    claims: int = 1  # that are judged together
    points: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # by name: what each sets
    repeats: Collection[str] = ()  # of the axes, those that repeat runs within a replicate
    averaged: Mapping[str, Sequence[str]] = field(default_factory=dict)  # values that count beside points

    def of_values(self, claim: Claim, declared: Mapping[str, list[str]]) -> Design:
        """Returns the design with the values that a claim was declared of; see `scope.declared_values`."""
        values = {
            key: [*map(canonical, value)]
            for key, value in declared.items()
            if not key.startswith(f"{POINT} ")
        }
        if points := named_points(claim):  # they say where keys of the base stand, and keys that they set
            stand = {*(self.base or {}), *(key for point in points for key in self.points.get(point, ()))}
            varied = {key: value for key, value in values.items() if key not in stand}
            return replace(self, axes={**(self.axes or {}), **varied}, averaged=varied)
        fixed = {key: value[0] for key, value in values.items() if len(value) == 1 and key != claim.along}
        base = {key: value for key, value in (self.base or {}).items() if key not in values}
        varied = {key: value for key, value in values.items() if key not in fixed}
        return replace(self, axes={**(self.axes or {}), **varied}, base={**base, **fixed})

    def changed_point(self, claim: Claim, values: Mapping[str, list[str]]) -> str:
        """Returns a point that a claim names and that stood elsewhere in the values it was declared of."""
        for name in named_points(claim):
            settings = self.points.get(name, {})
            stays = {key: value for key, value in (self.base or {}).items() if key not in settings}
            then = {key: values.get(key, [canonical(value)]) for key, value in stays.items()}
            now = {key: [canonical(value)] for key, value in stays.items()}
            of_point = settings_of(settings)
            if values.get(f"{POINT} {name}", of_point) != of_point or then != now:
                return name
        return ""


def compared_rows(
    claim: Claim, runs: pd.DataFrame, design: Design, group: Mapping[str, str]
) -> tuple[pd.DataFrame, list[str]]:
    """The runs of one group of a claim, and the keys that are averaged over among them."""
    compared = scope(
        claim, group, runs.columns, replicate=design.replicate, axes=design.axes, base=design.base
    )
    averaged = {key: design.averaged[key] for key in compared.crossed if key in design.averaged}
    chosen = np.ones(len(runs), dtype=bool)
    for key, values in {**averaged, **compared.values}.items():
        chosen &= runs[key].map(canonical).isin(values).to_numpy(bool)
    return runs[chosen], compared.crossed


def test_for(claim: Claim, runs: pd.DataFrame, design: Design) -> statistics.Test:
    """The test of a claim by the keys that differ, an anytime one for seeds that were added while looking."""
    keys = {
        key
        for cells, crossed in _compared_cells(claim, runs, design)
        for key in _differing(cells, [design.replicate, *crossed])
    }
    test = statistics.chosen_test(keys)
    if not design.sequential:
        return test
    ran = runs[claim.along].map(canonical).unique() if claim.along in runs else ()
    values = (design.axes or {}).get(claim.along) or ran
    return statistics.anytime(test, claim.level, design.claims * contrasts_for(claim, len(values)))


def _compared_cells(
    claim: Claim, runs: pd.DataFrame, design: Design
) -> Iterator[tuple[list[pd.DataFrame], list[str]]]:
    """Yields the configurations whose values a claim subtracts from each other, and what is crossed in them.

    Trends are within a group along the axis, spreads between the groups at every value of it.
    """
    crossed: list[str] = []
    by_group: list[dict[str, pd.DataFrame]] = []
    for group in groups(claim) if len(runs) else []:
        rows, crossed = compared_rows(claim, runs, design, group)
        along = rows[claim.along].map(canonical) if claim.along else None
        by_group.append(
            {"": rows} if along is None else {str(value): cell for value, cell in rows.groupby(along)}
        )
    if claim.expect == "same_trend":
        yield from ((list(cells.values()), crossed) for cells in by_group)
    elif claim.expect == "smaller_spread":
        for value in dict.fromkeys(value for cells in by_group for value in cells):
            yield [cells[value] for cells in by_group if value in cells], crossed
    else:
        yield [cell for cells in by_group for cell in cells.values()], crossed


def _differing(cells: Sequence[pd.DataFrame], index: Sequence[str]) -> set[str]:
    """The parameters in which configurations differ where both have finished: by `index`, if anywhere."""
    import pandas as pd

    places = [[*zip(*(cell[key].map(canonical) for key in index), strict=True)] for cell in cells]
    shared = set.intersection(*map(set, places)) if places else set()
    compared = [
        cell[[place in shared for place in at]] if shared else cell
        for cell, at in zip(cells, places, strict=True)
    ]
    keys = [str(key) for key in (cells[0] if cells else ()) if "/" not in str(key)]
    if compared and all(map(len, compared)):  # of thousands of configurations most keys have one value in all
        runs = pd.concat(compared)
        keys = [key for key in keys if len({*map(canonical, runs[key].unique())}) > 1]
    values = {key: {frozenset(map(canonical, cell[key].unique())) for cell in compared} for key in keys}
    return {key for key, sets in values.items() if len(sets) > 1}
