"""Charts of a study as SVG for a page: sharp, and in colours that the page decides for light and dark.

Matplotlib draws them in the placeholder colours below, which then become CSS variables.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

SERIES = 8  # colours that the page has: --c0 to --c7
INK, MUTED, RULE = "#010101", "#020202", "#030303"
_VARIABLES = {INK: "currentColor", MUTED: "var(--muted)", RULE: "var(--rule)"}
_VARIABLES |= {f"#0000{16 + i:02x}": f"var(--c{i})" for i in range(SERIES)}
MARKERS = "osD^vP"
LABELLED = 20  # configurations in the rate-distortion plot beyond which their names would hide them
TELLING = 0.1  # nats; a dimension below it is as good as flat on the chart
FEWEST_DIMENSIONS = 20  # that are shown, however few are in use
LONGEST = 24  # letters of a label; a longer one would leave no room for the curves
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be selected, and takes the page's font
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "font.size": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "text.color": INK,
    "axes.linewidth": 0.8,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


class Curves(NamedTuple):
    """One configuration: a curve over epochs for each of its replicates, in nats per image."""

    label: str
    held_out: list[list[float]]
    train: list[list[float]]


class Latent(NamedTuple):
    """One configuration: the KL of each latent dimension, largest first, for each of its replicates."""

    label: str
    kl: list[list[float]]  # nats per image


class Point(NamedTuple):
    """One run in the rate-distortion plane, in nats per image; replicates share family and label."""

    family: str
    label: str
    rate: float
    distortion: float


def colour(number: int) -> str:
    """The placeholder of the page's colour of that number; they repeat after SERIES."""
    return f"#0000{16 + number % SERIES:02x}"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


@contextmanager
def drawing(width: float, height: float, name: str) -> Iterator[Figure]:
    """An empty figure, in inches, in the page's style; `name` tells the chart from others of its page."""
    # The salt makes the SVG's ids those of the chart: equal on every call, different between charts.
    with rc_context({**STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the page's font may have what Matplotlib's lacks
        yield Figure(figsize=(width, height), layout="constrained")


def svg(figure: Figure) -> str:
    """The figure as an inline SVG element without a size of its own."""
    written = io.StringIO()
    figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    text = written.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", text, flags=re.DOTALL)
    head, end, rest = text.partition(">")
    view = re.search(r'viewBox="[^"]*"', head)
    assert view is not None
    for placeholder, variable in _VARIABLES.items():
        rest = rest.replace(placeholder, variable)
    return f'<svg {view[0]} aria-hidden="true"{end}{rest}'


def loss_curves(name: str, heading: str, series: Sequence[Curves]) -> str:
    """Loss over epochs: held out solid, train dashed, bands from the lowest to the highest replicate.

    Args:
        name: tells this chart from the others of its page.
        heading: what the labels at the curves' ends are, such as `layers`.
        series: the configurations.
    """
    with drawing(3.8, 3.1, name) as figure:
        axes = figure.add_subplot()
        ends = []
        for number, each in enumerate(series):
            for curves, dashes, weight in ((each.train, (0, (3, 2)), 1.1), (each.held_out, "-", 1.8)):
                if not curves:
                    continue
                value, epochs = _mean_and_band(axes, curves, number, linestyle=dashes, linewidth=weight)
                if dashes == "-":
                    ends.append((value, each.label, number, epochs))
        dressed(axes, "epoch", "loss, nats per image")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(
            handles=[
                Line2D([], [], color=INK, linewidth=1.8, label="held out"),
                Line2D([], [], color=INK, linewidth=1.1, linestyle=(0, (3, 2)), label="train"),
            ],
            loc="upper right",
        )
        _label_ends(axes, heading, ends)
        return svg(figure)


def latent_use(name: str, heading: str, series: Sequence[Latent]) -> str:
    """KL of the latent dimensions, sorted: means, with bands from the lowest to the highest replicate.

    Args:
        name: tells this chart from the others of its page.
        heading: what the labels are, such as `layers`.
        series: the configurations.
    """
    most = max(len(kl) for each in series for kl in each.kl)
    telling = max(sum(value > TELLING for value in kl) for each in series for kl in each.kl)
    shown = min(most, max(FEWEST_DIMENSIONS, telling + telling // 2))
    with drawing(3.8, 2.9, name) as figure:
        axes = figure.add_subplot()
        for number, each in enumerate(series):
            marker = MARKERS[number // SERIES % len(MARKERS)]  # colours repeat after SERIES
            line = {"marker": marker, "markersize": 3, "linewidth": 1.3, "label": _short(each.label)}
            _mean_and_band(axes, [kl[:shown] for kl in each.kl], number, **line)
        first = f" (the first {shown})" if shown < most else ""
        dressed(axes, f"latent dimension, by its KL{first}", "KL, nats per image")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(bottom=0)
        figure.legend(title=_short(heading), loc="outside right upper", handlelength=1.4)
        return svg(figure)


def _mean_and_band(
    axes: Axes, curves: Sequence[Sequence[float]], number: int, **line: Any
) -> tuple[float, int]:
    """Draws the replicates' mean and range from 1 to their shortest length; gives where the mean ends."""
    length = min(map(len, curves))
    values = np.array([curve[:length] for curve in curves])
    steps, shade = np.arange(1, length + 1), colour(number)
    axes.plot(steps, values.mean(0), color=shade, **line)
    if len(values) > 1:
        strength = 0.1 * line["linewidth"]
        axes.fill_between(steps, values.min(0), values.max(0), color=shade, alpha=strength, linewidth=0)
    return float(values.mean(0)[-1]), length


def dressed(axes: Axes, horizontal: str, vertical: str) -> None:
    """Names the axes, with a grid behind what is drawn."""
    axes.set_xlabel(horizontal)
    axes.set_ylabel(vertical)
    axes.grid(True)
    axes.set_axisbelow(True)


def _label_ends(axes: Axes, heading: str, ends: Sequence[tuple[float, str, int, int]]) -> None:
    """Each curve's label at its end, pushed apart where curves end close together."""
    low, high = axes.get_ylim()
    gap = 0.062 * (high - low)  # a line of text
    places = sorted(ends)
    heights: list[float] = []
    for value, *_ in places:
        heights.append(max(value, heights[-1] + gap) if heights else value)
    excess = sum(height - place[0] for height, place in zip(heights, places, strict=True))
    shift = excess / max(len(places), 1)  # centred on where the curves end
    for height, (_, label, number, epochs) in zip(heights, places, strict=True):
        axes.annotate(
            _short(label), (epochs, height - shift), (7, 0), textcoords="offset points", va="center",
            color=colour(number), weight="bold", annotation_clip=False,
        )  # fmt: skip
    if heights:
        axes.annotate(
            _short(heading), (max(end[3] for end in ends), heights[-1] - shift), (7, 12), va="center",
            color=MUTED, textcoords="offset points", annotation_clip=False,
        )  # fmt: skip


def rate_distortion(name: str, points: Sequence[Point]) -> str:
    """Distortion over rate, one point a run, with lines of equal rate + distortion (negative ELBO).

    Replicates are tied to their mean, which bears the label; more than LABELLED labels are left out.
    """
    with drawing(5.4, 4.1, name) as figure:
        axes = figure.add_subplot()
        families = list(dict.fromkeys(point.family for point in points))
        means = []
        for family, label in dict.fromkeys((point.family, point.label) for point in points):
            number = families.index(family)
            mine = np.array([p[2:] for p in points if (p.family, p.label) == (family, label)], dtype=float)
            rate, distortion = mine.mean(0)
            means.append(Point(family, label, rate, distortion))
            for x, y in mine if len(mine) > 1 else []:
                axes.plot([rate, x], [distortion, y], color=colour(number), linewidth=0.8, alpha=0.6)
            axes.plot(*mine.T, MARKERS[number % len(MARKERS)], color=colour(number), markersize=6)
        axes.margins(0.14)
        dressed(axes, "rate: KL, nats per image", "distortion: reconstruction, nats per image")
        axes.grid(False)
        if len(families) > 1:
            signs = [
                Line2D(
                    [],
                    [],
                    linestyle="",
                    marker=MARKERS[i % len(MARKERS)],
                    color=colour(i),
                    label=_short(each),
                )
                for i, each in enumerate(families)
            ]
            figure.legend(handles=signs, loc="outside upper left", ncols=4)
        figure.draw_without_rendering()
        taken = _iso_lines(figure, axes)
        marks = axes.transData.transform([(point.rate, point.distortion) for point in points])
        taken += [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in marks]
        if len(means) <= LABELLED:
            _label_points(axes, means, families, taken)
        return svg(figure)


def _iso_lines(figure: Figure, axes: Axes) -> list[Bbox]:
    """Lines of equal rate + distortion, each labelled where it leaves the plot; gives the labels' boxes."""
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
    axes: Axes, points: Sequence[Point], families: Sequence[str], taken: Sequence[Bbox]
) -> None:
    """A label beside each point, at the first of eight places that is free, else at the least crowded."""
    boxes = list(taken)
    inside = axes.get_window_extent()
    for point in points:
        shade = colour(families.index(point.family))
        tried: list[tuple[float, Annotation]] = []
        for dx, dy in ((8, 0), (-8, 0), (0, 9), (0, -9), (7, 8), (-7, 8), (7, -8), (-7, -8)):
            label = axes.annotate(
                _short(point.label), (point.rate, point.distortion), (dx, dy), textcoords="offset points",
                ha=("right", "center", "left")[(dx > 0) - (dx < 0) + 1], va="center", color=shade, fontsize=8,
            )  # fmt: skip
            box = label.get_window_extent()
            covered = sum(_area(box, other) for other in boxes) + box.width * box.height - _area(box, inside)
            tried.append((covered, label))
            if covered == 0:
                break
        best = min(tried, key=lambda each: each[0])[1]
        for _, label in tried:
            if label is not best:
                label.remove()
        boxes.append(best.get_window_extent())


def _area(one: Bbox, other: Bbox) -> float:
    shared = Bbox.intersection(one, other)
    return 0.0 if shared is None else shared.width * shared.height
