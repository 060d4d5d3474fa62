"""Runs of a study in the plane of rate and distortion.

References:
    Alemi et al. 2018, Fixing a Broken ELBO. Huang et al. 2020, Evaluating Lossy Compression Rates of Deep
    Generative Models: the curves of decoders.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from vae_lab.report.drawing import MARKERS, MUTED, RULE, Drawing, colour, name_axes, shortened

LABELLED = 20  # configurations beyond which their names would hide them
MOST_DRAWN = 400  # runs beyond which a configuration is one point
PLACES = ((8, 0), (-8, 0), (0, 9), (0, -9), (7, 8), (-7, 8), (7, -8), (-7, -8))  # of a label, points


class RateDistortion(NamedTuple):
    """One run, in nats per image; replicates share family and label."""

    family: str
    label: str
    rate: float
    distortion: float
    curve: tuple[tuple[float, float], ...] = ()  # rates and distortions that its decoder allows, if measured


def rate_distortion(name: str, runs: Sequence[RateDistortion]) -> Drawing:
    """Distortion over rate, one point a run, with lines of equal rate + distortion (negative ELBO).

    Replicates are tied to their mean, which bears the label; more than LABELLED labels are left out, and of
    more than MOST_DRAWN runs their means only. Curves of decoders are dashed, each the mean of replicates.
    """

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        families = list(dict.fromkeys(run.family for run in runs))
        means = _draw_runs(axes, runs, families)
        axes.margins(0.14)
        _draw_curves(axes, runs, families)
        name_axes(axes, "rate: KL, nats per image", "distortion: reconstruction, nats per image")
        axes.xaxis.set_major_locator(MaxNLocator(5))  # rates that are nearly equal have long labels
        axes.grid(False)
        if len(families) > 1:
            markers = [
                Line2D([], [], linestyle="", marker=_marker(i), color=colour(i), label=shortened(family))
                for i, family in enumerate(families)
            ]
            figure.legend(handles=markers, loc="outside upper left", ncols=4)
        figure.draw_without_rendering()
        taken = _iso_lines(figure, axes)
        if len(means) <= LABELLED:
            pixels = axes.transData.transform([(run.rate, run.distortion) for run in runs])
            taken += [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in pixels]
            _label_points(axes, means, families, taken)

    return Drawing(name, draw, 5.4, 4.1)


def _marker(number: int) -> str:
    return MARKERS[number % len(MARKERS)]


def _draw_runs(axes: Axes, runs: Sequence[RateDistortion], families: Sequence[str]) -> list[RateDistortion]:
    """Draws every run and what ties it to the mean of its configuration; returns the means."""
    replicates: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for run in runs:
        replicates.setdefault((run.family, run.label), []).append((run.rate, run.distortion))
    means = []
    for names, points in replicates.items():
        rate, distortion = np.mean(points, axis=0)
        means.append(RateDistortion(*names, float(rate), float(distortion)))
    tied = len(runs) <= MOST_DRAWN
    if tied:
        for mean, points in zip(means, replicates.values(), strict=True):
            for x, y in points if len(points) > 1 else []:
                shade = colour(families.index(mean.family))
                axes.plot([mean.rate, x], [mean.distortion, y], color=shade, linewidth=0.8, alpha=0.6)
    for number, family in enumerate(families):
        drawn = [(one.rate, one.distortion) for one in (runs if tied else means) if one.family == family]
        size = 6 if tied else 3
        axes.plot(*zip(*drawn, strict=True), _marker(number), color=colour(number), markersize=size)
    return means


def _draw_curves(axes: Axes, runs: Sequence[RateDistortion], families: Sequence[str]) -> None:
    """Draws what decoders allow, as far as it lies among the runs: curves begin at rate 0, far above."""
    curves: dict[tuple[str, str], list[tuple[tuple[float, float], ...]]] = {}
    for run in runs:
        if run.curve:
            curves.setdefault((run.family, run.label), []).append(run.curve)
    limits = axes.get_xlim(), axes.get_ylim()
    for (family, _), replicates in curves.items():
        points = min(map(len, replicates))
        rates, distortions = np.mean([curve[:points] for curve in replicates], axis=0).T
        axes.plot(rates, distortions, "--", color=colour(families.index(family)), linewidth=1.0, alpha=0.8)
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])


def _iso_lines(figure: Figure, axes: Axes) -> list[Bbox]:
    """Draws lines of equal rate + distortion, labelled where they leave the plot; returns the labels."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    totals = MaxNLocator(7, steps=[1, 2, 5, 10]).tick_values(left + bottom, right + top)
    labels = []
    for total in totals:
        start, end = max(left, total - top), min(right, total - bottom)
        if end - start < 0.12 * (right - left):
            continue
        axes.plot([start, end], [total - start, total - end], color=RULE, linewidth=0.9, zorder=0)
        at_top = start > left
        labels.append(
            axes.annotate(
                f"{total:g}", (start, total - start), (2, 3) if at_top else (3, 2), color=MUTED, fontsize=8,
                textcoords="offset points", ha="left", va="bottom", zorder=1,
            )
        )  # fmt: skip
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    figure.draw_without_rendering()
    return [label.get_window_extent() for label in labels]


def _label_points(
    axes: Axes, points: Sequence[RateDistortion], families: Sequence[str], taken: Sequence[Bbox]
) -> None:
    """Writes a label beside each point, at the first place that is free, else at the least crowded."""
    boxes = list(taken)
    inside = axes.get_window_extent()
    for point in points:
        shade = colour(families.index(point.family))
        tried: list[tuple[float, Annotation]] = []
        for dx, dy in PLACES:
            label = axes.annotate(
                shortened(point.label), (point.rate, point.distortion), (dx, dy), textcoords="offset points",
                ha=("right", "center", "left")[(dx > 0) - (dx < 0) + 1], va="center", color=shade, fontsize=8,
            )  # fmt: skip
            box = label.get_window_extent()
            covered = sum(_shared_area(box, other) for other in boxes)
            covered += box.width * box.height - _shared_area(box, inside)
            tried.append((covered, label))
            if covered == 0:
                break
        best = min(tried, key=lambda attempt: attempt[0])[1]
        for _, label in tried:
            if label is not best:
                label.remove()
        boxes.append(best.get_window_extent())


def _shared_area(first: Bbox, second: Bbox) -> float:
    shared = Bbox.intersection(first, second)
    return 0.0 if shared is None else shared.width * shared.height
