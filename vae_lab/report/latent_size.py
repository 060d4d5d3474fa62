"""The three recipes beside each other: as a table, in a sentence, and in one chart."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from vae_lab.metrics import NATS, metric_named
from vae_lab.report import charts
from vae_lab.report.pictures import drawable
from vae_lab.report.tables import Cell, Column, Table
from vae_lab.studies.claims import decimals, metric_name
from vae_lab.studies.comparison import key_name
from vae_lab.studies.latent_size.recipes import LARGE, SPECTRUM, SWEEP, Prediction, RecipeComparison
from vae_lab.studies.latent_size.spectrum import Spectrum

RECIPES = {SWEEP: "1 sweep", SPECTRUM: "2 spectrum of the data", LARGE: "3 large latent, active units"}
COLOURS = {SWEEP: 0, SPECTRUM: 1, LARGE: 2}  # of charts.colour
MARKS = {SWEEP: "o", SPECTRUM: "s", LARGE: "D"}
TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
WIDTH, HEIGHT, LINE = 6.2, 7.4, 10.5  # inches; points between two labels
NOTE = (
    "Regret: how much worse the metric is at the predicted size than at the best size of the sweep, seed by "
    "seed; where each predicts a size of its own, their mean is the latent size shown. Between "
    "swept sizes it is linear in log(size). Beyond them (†) it is that of the last one: unknown further out. "
    "The sweep itself is the yardstick: its regret is 0 by construction."
)
PRINTED = {  # the page's light colours, for pictures that stand alone
    charts.INK: "#1c1b19", charts.MUTED: "#66625b", charts.RULE: "#d9d5cd",
    charts.colour(0): "#1863a6", charts.colour(1): "#c2500a", charts.colour(2): "#1a7a4c",
}  # fmt: skip

Shade = Callable[[str], str]


def table(found: Sequence[RecipeComparison]) -> Table:
    """One row a prediction: its size, the metric there, and its regret with interval."""
    several = any(len(each.values) > 1 for each in found)
    keys = list(found[0].family) if len(found) > 1 else []
    unit = metric_named(found[0].metric).unit or NATS
    columns = [Column(key_name(key), numeric=False) for key in keys]
    columns += [
        Column("recipe", numeric=False),
        Column("prediction of", numeric=False),
        Column("latent size", digits=0),
        Column(metric_name(found[0].metric), unit),
        Column("regret", unit),
        *([Column("from"), Column("to"), Column("n", "seeds", 0)] if several else []),
        Column("runs", "a seed", 0),
        Column("how", numeric=False),
    ]
    rows, breaks = [], set[int]()
    for each in found:
        for one in each.predictions:
            interval = [Cell(one.low), Cell(one.high)] if math.isfinite(one.low) else [Cell(None)] * 2
            if one.recipe == SWEEP:
                interval = [Cell(None)] * 2
            rows.append(
                [
                    *(Cell(each.family[key]) for key in keys),
                    *(Cell(RECIPES[one.recipe]), Cell(one.label), Cell(float(one.size)), Cell(one.value)),
                    Cell(f"{one.regret:.2f} †") if one.outside else Cell(one.regret),
                    *([*interval, Cell(float(len(each.values)))] if several else []),
                    *(Cell(float(one.runs)), Cell(one.how)),
                ]
            )
        breaks.add(len(rows) - 1)
    return Table("What each recipe predicts", columns, rows, NOTE, frozenset(breaks))


def sentence(outcome: RecipeComparison) -> str:
    """What came of it: the best size swept, and the best of each other recipe."""
    best = outcome.best
    family = " ".join(value.upper() if key == "model" else value for key, value in outcome.family.items())
    lead = f"{family}: " if family else ""
    parts = [
        f"{lead}{'of' if lead else 'Of'} the sizes swept, {best.size} has the best "
        f"{metric_name(outcome.metric)} ({best.value:.2f})"
    ]
    for recipe, name in ((SPECTRUM, "The spectrum"), (LARGE, "The large latent space")):
        mine = [each for each in outcome.predictions if each.recipe == recipe]
        if mine:
            closest = min(mine, key=lambda each: (each.outside, each.regret))
            parts.append(
                f"{name} comes closest with {closest.size} ({closest.label}), {_nats(closest)}"
                + ("; " + _range(mine) if len(mine) > 1 else "")
            )
    return ". ".join(parts) + "."


def _nats(one: Prediction) -> str:
    digits = max(2, decimals(one.regret, one.low, one.high)) if math.isfinite(one.low) else 2
    return f"{one.regret:.{min(digits, 3)}f} nats behind{' at the nearest size swept' * one.outside}"


def _range(mine: Sequence[Prediction]) -> str:
    sizes = sorted(each.size for each in mine)
    worst = max(mine, key=lambda each: each.regret)
    return f"its {len(mine)} predictions go from {sizes[0]} to {sizes[-1]}, the worst {_nats(worst)}"


def svg(outcome: RecipeComparison, spectrum: Spectrum, name: str) -> str:
    """The chart for a page, in the page's colours."""
    with charts.drawing(WIDTH, HEIGHT, name) as drawn:
        _draw(drawn, outcome, spectrum, lambda shade: shade)
        return charts.svg(drawn)


def figure(outcome: RecipeComparison, spectrum: Spectrum, title: str) -> Figure:
    """The chart as a picture that stands alone."""

    def shade(placeholder: str) -> str:
        return PRINTED.get(placeholder, placeholder)

    style = {key: shade(value) if isinstance(value, str) else value for key, value in charts.STYLE.items()}
    with rc_context(style):
        drawn = Figure(figsize=(WIDTH, HEIGHT + 0.3), layout="constrained", dpi=150, facecolor="white")
        drawn.suptitle(drawable(title), fontsize=11)
        _draw(drawn, outcome, spectrum, shade)
        return drawn


def _draw(drawn: Figure, outcome: RecipeComparison, spectrum: Spectrum, shade: Shade) -> None:
    """Three panels over one axis of dimensions: the sweep, the spectrum, the large latent spaces."""
    measured = [each for each in outcome.large.values() if each]
    panels: Any = drawn.subplots(
        3 if measured else 2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 2, 2][: 2 + bool(measured)]}
    )
    _sweep(panels[0], outcome, shade)
    _spectrum(panels[1], outcome, spectrum, shade)
    if measured:
        _large(panels[2], outcome.large, shade)
    for axes in panels:
        axes.set_xscale("log")
        for each in outcome.predictions:
            axes.axvline(
                each.size,
                color=shade(_colour(each)),
                linewidth=0.9,
                alpha=0.55,
                zorder=0,
                linestyle=(0, (3, 2)),
            )
        axes.label_outer()
    bottom = panels[-1]
    bottom.set_xlabel("latent dimensions")
    bottom.xaxis.set_major_locator(FixedLocator(TICKS))
    bottom.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    bottom.xaxis.set_minor_locator(NullLocator())
    bottom.xaxis.set_minor_formatter(NullFormatter())
    sizes = [*outcome.sizes, *(each.size for each in outcome.predictions)]
    bottom.set_xlim(min(sizes) * 0.8, max(sizes) * 1.25)
    _label(drawn, panels[0], outcome.predictions, shade)


def _colour(one: Prediction) -> str:
    return charts.colour(COLOURS[one.recipe])


def _sweep(axes: Axes, outcome: RecipeComparison, shade: Shade) -> None:
    """The metric over the sweep, each replicate as a dot, and every prediction where it would stand."""
    for row in outcome.values if len(outcome.values) > 1 else ():
        axes.plot(outcome.sizes, row, ".", color=shade(charts.MUTED), markersize=3, alpha=0.7)
    axes.plot(outcome.sizes, outcome.values.mean(0), "-", color=shade(charts.INK), linewidth=1.4)
    axes.plot(outcome.sizes, outcome.values.mean(0), "o", color=shade(charts.INK), markersize=3)
    for each in outcome.predictions:
        axes.plot(
            [each.size], [each.value], MARKS[each.recipe], markersize=6.5, markeredgewidth=1.4,
            color=shade(_colour(each)), markerfacecolor="none" if each.outside else shade(_colour(each)),
        )  # fmt: skip
    charts.dressed(axes, "", f"{metric_name(outcome.metric)},\nnats per image")


def _spectrum(axes: Axes, outcome: RecipeComparison, spectrum: Spectrum, shade: Shade) -> None:
    kept = 100 * np.cumsum(spectrum.eigenvalues) / sum(spectrum.eigenvalues)
    axes.plot(np.arange(1, len(kept) + 1), kept, color=shade(charts.INK), linewidth=1.4)
    for each in outcome.predictions:
        if each.recipe == SPECTRUM:
            axes.plot([each.size], [kept[each.size - 1]], "s", color=shade(_colour(each)), markersize=5)
    axes.set_ylim(0, 103)
    charts.dressed(axes, "", "variance of the data\nheld, %")


def _large(axes: Axes, large: Mapping[str, Sequence[float]], shade: Shade) -> None:
    """KL of the dimensions of each large latent space, the largest first, and where it falls to nothing."""
    known = {name: values for name, values in large.items() if values}
    for number, (name, values) in enumerate(known.items()):
        dashes = ("-", (0, (4, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1, 1.5)))[number % 4]
        axes.plot(
            np.arange(1, len(values) + 1), values, linestyle=dashes, linewidth=1.4, label=name,
            color=shade(charts.colour(COLOURS[LARGE])),
        )  # fmt: skip
    axes.legend(loc="upper right", fontsize=8, handlelength=2.6)
    axes.set_ylim(bottom=0)
    charts.dressed(axes, "", "KL of a dimension,\nnats per image")


def _label(drawn: Figure, axes: Axes, predictions: Sequence[Prediction], shade: Shade) -> None:
    """Each prediction's name above its line, upright and pushed apart where lines are close."""
    drawn.draw_without_rendering()
    scale = drawn.dpi / 72
    wanted = sorted(
        (float(axes.transData.transform((each.size, 1))[0]) / scale, i) for i, each in enumerate(predictions)
    )
    places = _apart([place for place, _ in wanted], LINE)
    for (place, i), put in zip(wanted, places, strict=True):
        each = predictions[i]
        line = {"arrowstyle": "-", "color": shade(_colour(each)), "linewidth": 0.7}
        axes.annotate(
            f"{each.label}: {each.size}", (each.size, 1), (put - place, 12), rotation=90, fontsize=8,
            xycoords=axes.get_xaxis_transform(), textcoords="offset points", ha="center", va="bottom",
            color=shade(_colour(each)), annotation_clip=False, arrowprops=line,
        )  # fmt: skip


def _apart(places: Sequence[float], gap: float) -> list[float]:
    """Sorted places moved so that neighbours are at least `gap` apart, each cluster about its centre."""
    clusters: list[list[float]] = []
    for place in places:
        clusters.append([place])
        while len(clusters) > 1 and _start(clusters[-1], gap) - _end(clusters[-2], gap) < gap:
            last = clusters.pop()
            clusters[-1] += last
    return [_start(each, gap) + gap * i for each in clusters for i in range(len(each))]


def _start(cluster: Sequence[float], gap: float) -> float:
    return sum(cluster) / len(cluster) - gap * (len(cluster) - 1) / 2


def _end(cluster: Sequence[float], gap: float) -> float:
    return _start(cluster, gap) + gap * (len(cluster) - 1)
