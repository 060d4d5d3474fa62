"""The chart of the recipes for the latent size: sweep, spectrum and KL over one axis of dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from vae_lab.report.drawing import INK, MUTED, Drawing, colour, name_axes, plain_numbers
from vae_lab.studies.claims import metric_name
from vae_lab.studies.latent_size.recipes import LARGE, SPECTRUM, SWEEP, Prediction, RecipeComparison
from vae_lab.studies.latent_size.spectrum import Spectrum

SHADES = {SWEEP: colour(0), SPECTRUM: colour(1), LARGE: colour(2)}
MARKS = {SWEEP: "o", SPECTRUM: "s", LARGE: "D"}
TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
WIDTH, HEIGHT, LABEL_GAP = 6.2, 7.4, 10.5  # inches; points between two labels
DASHES = ("-", (0, (4, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1, 1.5)))


def latent_recipes(name: str, comparison: RecipeComparison, spectrum: Spectrum, title: str = "") -> Drawing:
    """Three panels over one axis of dimensions: the sweep, the spectrum, the large latent spaces."""
    return Drawing(name, partial(_draw, comparison=comparison, spectrum=spectrum), WIDTH, HEIGHT, title)


def _draw(figure: Figure, comparison: RecipeComparison, spectrum: Spectrum) -> None:
    heights = [3, 2, 2] if any(comparison.large.values()) else [3, 2]
    panels: Any = figure.subplots(len(heights), 1, sharex=True, gridspec_kw={"height_ratios": heights})
    _draw_sweep(panels[0], comparison)
    _draw_spectrum(panels[1], comparison, spectrum)
    if len(panels) > 2:
        _draw_large(panels[2], comparison.large)
    for axes in panels:
        axes.set_xscale("log")
        for prediction in comparison.predictions:
            axes.axvline(
                prediction.size, color=SHADES[prediction.recipe], linewidth=0.9, alpha=0.55, zorder=0,
                linestyle=(0, (3, 2)),
            )  # fmt: skip
        axes.label_outer()
    bottom = panels[-1]
    bottom.set_xlabel("latent dimensions")
    bottom.xaxis.set_major_locator(FixedLocator(TICKS))
    plain_numbers(bottom.xaxis)
    bottom.xaxis.set_minor_locator(NullLocator())
    bottom.xaxis.set_minor_formatter(NullFormatter())
    sizes = [*comparison.sizes, *(prediction.size for prediction in comparison.predictions)]
    bottom.set_xlim(min(sizes) * 0.8, max(sizes) * 1.25)
    _label_predictions(figure, panels[0], comparison.predictions)


def _draw_sweep(axes: Axes, comparison: RecipeComparison) -> None:
    """Draws the metric over the sweep, each replicate as a dot, and every prediction where it would stand."""
    for row in comparison.values if len(comparison.values) > 1 else ():
        axes.plot(comparison.sizes, row, ".", color=MUTED, markersize=3, alpha=0.7)
    axes.plot(comparison.sizes, comparison.values.mean(0), "-", color=INK, linewidth=1.4)
    axes.plot(comparison.sizes, comparison.values.mean(0), "o", color=INK, markersize=3)
    for prediction in comparison.predictions:
        shade = SHADES[prediction.recipe]
        axes.plot(
            [prediction.size], [prediction.value], MARKS[prediction.recipe], markersize=6.5,
            markeredgewidth=1.4, color=shade, markerfacecolor="none" if prediction.outside else shade,
        )  # fmt: skip
    name_axes(axes, "", f"{metric_name(comparison.metric)},\nnats per image")


def _draw_spectrum(axes: Axes, comparison: RecipeComparison, spectrum: Spectrum) -> None:
    held = 100 * np.cumsum(spectrum.eigenvalues) / sum(spectrum.eigenvalues)
    axes.plot(np.arange(1, len(held) + 1), held, color=INK, linewidth=1.4)
    for prediction in comparison.predictions:
        if prediction.recipe == SPECTRUM:
            axes.plot(
                [prediction.size], [held[prediction.size - 1]], "s", color=SHADES[SPECTRUM], markersize=5
            )
    axes.set_ylim(0, 103)
    name_axes(axes, "", "variance of the data\nheld, %")


def _draw_large(axes: Axes, large: Mapping[str, Sequence[float]]) -> None:
    """Draws the KL of the dimensions of each large latent space, the largest first, down to nothing."""
    measured = {name: values for name, values in large.items() if values}
    for number, (name, values) in enumerate(measured.items()):
        axes.plot(
            np.arange(1, len(values) + 1), values, linestyle=DASHES[number % len(DASHES)], linewidth=1.4,
            label=name, color=SHADES[LARGE],
        )  # fmt: skip
    axes.legend(loc="upper right", fontsize=8, handlelength=2.6)
    axes.set_ylim(bottom=0)
    name_axes(axes, "", "KL of a dimension,\nnats per image")


def _label_predictions(figure: Figure, axes: Axes, predictions: Sequence[Prediction]) -> None:
    """Writes each prediction's name above its line, upright and pushed apart where lines are close."""
    figure.draw_without_rendering()
    pixels = axes.transData.transform([(prediction.size, 1) for prediction in predictions])[:, 0]
    points = (pixels * 72 / figure.dpi).tolist()
    order = sorted(range(len(points)), key=lambda i: points[i])
    for i, place in zip(order, pushed_apart([points[i] for i in order], LABEL_GAP), strict=True):
        prediction, shade = predictions[i], SHADES[predictions[i].recipe]
        axes.annotate(
            f"{prediction.label}: {prediction.size}", (prediction.size, 1), (place - points[i], 12),
            xycoords=axes.get_xaxis_transform(), textcoords="offset points", ha="center", va="bottom",
            rotation=90, fontsize=8, color=shade, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": shade, "linewidth": 0.7, "relpos": (0.5, 0)},
        )  # fmt: skip


def pushed_apart(places: Sequence[float], gap: float) -> list[float]:
    """Returns sorted places moved so that neighbours are at least `gap` apart, each cluster about its centre.

    >>> pushed_apart([0.0, 1.0, 10.0], gap=2.0)
    [-0.5, 1.5, 10.0]
    """
    clusters: list[list[float]] = []

    def start(cluster: Sequence[float]) -> float:
        return sum(cluster) / len(cluster) - gap * (len(cluster) - 1) / 2

    for place in places:
        clusters.append([place])
        while len(clusters) > 1 and start(clusters[-1]) < start(clusters[-2]) + gap * len(clusters[-2]):
            last = clusters.pop()
            clusters[-1] += last
    return [start(cluster) + gap * i for cluster in clusters for i in range(len(cluster))]
