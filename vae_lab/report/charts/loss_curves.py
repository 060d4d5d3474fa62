"""Losses over epochs: of the configurations of a study side by side, and of one run part by part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from vae_lab.report.drawing import INK, MUTED, Drawing, colour, mean_and_band, name_axes, shortened

ON_A_PAGE = 3.8, 3.1  # inches
LINE = 0.1922  # inches of height that a label takes
MOST_BESIDE = 16  # labels that stand beside the ends of their curves
MOST_LABELLED = 100  # configurations beyond which none has a label: the chart would be pages high
# Of three charts side by side, as shares: each run draws them, and a computed layout would draw them twice.
MARGINS = {"left": 0.075, "right": 0.99, "top": 0.83, "bottom": 0.15, "wspace": 0.3}
HELD_OUT: dict[str, Any] = {"linewidth": 1.8, "linestyle": "-"}
TRAIN: dict[str, Any] = {"linewidth": 1.1, "linestyle": (0, (3, 2))}


class LossCurves(NamedTuple):
    """One configuration: a curve over epochs for each of its replicates, in nats per image."""

    label: str
    held_out: list[list[float]]
    train: list[list[float]]
    shade: str = ""  # the page's colours in turn, if none is chosen


class End(NamedTuple):
    """Where a mean ends."""

    value: float  # nats per image
    label: str
    shade: str
    epoch: int


def study_losses(
    name: str,
    heading: str,
    series: Sequence[LossCurves],
    *,
    title: str = "",
    size: tuple[float, float] = ON_A_PAGE,
) -> Drawing:
    """The losses of configurations: held out solid, train dashed, each with its label at its end.

    Bands reach from the lowest to the highest replicate.

    Args:
        name: tells this drawing from others.
        heading: what the labels at the curves' ends are, such as `layers`.
        series: the configurations.
        title: of a picture that stands alone.
        size: of the drawing, in inches; it becomes taller where many labels need room.
    """
    labelled = len(series) <= MOST_LABELLED
    width, height = size[0], max(size[1], LINE * (len(series) + 1) * labelled)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        ends = _draw_losses(axes, series)
        name_axes(axes, "epoch", "loss, nats per image")
        if any(curves.train for curves in series):
            _explain_lines(axes)
        if labelled:
            _label_ends(axes, heading, ends, height)

    return Drawing(name, draw, width, height, title)


def run_losses(epochs: Sequence[Mapping[str, float]], title: str) -> Drawing:
    """Loss, reconstruction and KL of one run, held out solid and train dashed.

    Args:
        epochs: per epoch the metrics `train/loss`, `test/loss`, `train/reconstruction`, ...
        title: what was trained.
    """

    def draw(figure: Figure) -> None:
        parts = {"loss": "Loss", "reconstruction": "Reconstruction", "kl": "KL"}
        figure.subplots_adjust(**MARGINS)
        for axes, (part, heading) in zip(figure.subplots(1, 3), parts.items(), strict=True):
            train, test = ([epoch[f"{split}/{part}"] for epoch in epochs] for split in ("train", "test"))
            _draw_losses(axes, [LossCurves(heading, [test], [train])])
            axes.set_title(heading, fontsize=10)
            name_axes(axes, "epoch", "nats per image" if part == "loss" else "")
        _explain_lines(figure.axes[0])

    return Drawing("loss_curves", draw, 10, 3.2, title, layout=None)


def _draw_losses(axes: Axes, series: Sequence[LossCurves]) -> list[End]:
    """Draws the curves; returns where the held-out means end."""
    ends = []
    for number, (label, held_out, train, chosen) in enumerate(series):
        shade = chosen or colour(number)
        if train:
            mean_and_band(axes, train, shade, **TRAIN)
        if held_out:
            means = mean_and_band(axes, held_out, shade, **HELD_OUT)
            ends.append(End(means[-1], label, shade, len(means)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ends


def _explain_lines(axes: Axes) -> None:
    lines = {"held out": HELD_OUT, "train": TRAIN}
    handles = [Line2D([], [], color=INK, label=label, **line) for label, line in lines.items()]
    axes.legend(handles=handles, loc="upper right")


def _label_ends(axes: Axes, heading: str, ends: Sequence[End], height: float) -> None:
    """Writes each curve's label at its end, pushed apart where curves end close together."""
    if not ends:
        return
    low, high = axes.get_ylim()
    gap = LINE / height * (high - low)
    ends = sorted(ends)
    heights = [ends[0].value]
    for end in ends[1:]:
        heights.append(max(end.value, heights[-1] + gap))
    # Centred on where the curves end, but not beyond the axis; thin lines lead to many labels.
    shift = sum(heights) / len(ends) - sum(end.value for end in ends) / len(ends)
    shift = min(max(shift, heights[-1] - high), heights[0] - low)
    crowded = len(ends) > MOST_BESIDE
    for end, text_height in zip(ends, heights, strict=True):
        lead: dict[str, Any] = {"relpos": (0, 0.5), "arrowstyle": "-", "shrinkA": 2, "shrinkB": 1}
        lead |= {"color": end.shade, "linewidth": 0.6}
        axes.annotate(
            shortened(end.label), (end.epoch, end.value), (50 if crowded else 7, text_height - shift),
            textcoords=("offset points", "data"), va="center", color=end.shade, weight="bold",
            annotation_clip=False, arrowprops=lead if crowded else None,
        )  # fmt: skip
    last = max(end.epoch for end in ends)
    axes.annotate(
        shortened(heading), (last, heights[-1] - shift), (7, 12), textcoords="offset points", va="center",
        color=MUTED, annotation_clip=False,
    )  # fmt: skip
