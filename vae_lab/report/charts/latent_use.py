"""How the KL is spread over the latent dimensions of each configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vae_lab.report.drawing import MARKERS, SERIES, Drawing, colour, mean_and_band, name_axes, shortened

WIDTH, HEIGHT = 3.8, 2.9  # inches
CARRYING = 0.1  # nats; a dimension below it is as good as flat on the chart
FEWEST_DIMENSIONS = 20  # that are drawn, however few are in use
LEGEND_ROWS = 14  # that fit beside the chart
MOST_LABELLED = 3 * LEGEND_ROWS  # configurations beyond which there is no legend: it would hide the chart


class LatentUse(NamedTuple):
    """One configuration: the KL of each latent dimension, largest first, for each of its replicates."""

    label: str
    kl: list[list[float]]  # nats per image


def latent_use(name: str, heading: str, series: Sequence[LatentUse]) -> Drawing:
    """KL of the latent dimensions, sorted: means, with bands from the lowest to the highest replicate.

    Args:
        name: tells this drawing from others.
        heading: what the labels are, such as `layers`.
        series: the configurations.
    """
    replicates = [kl for use in series for kl in use.kl]
    size = max(map(len, replicates))
    carrying = max(sum(value > CARRYING for value in kl) for kl in replicates)
    drawn = min(size, max(FEWEST_DIMENSIONS, carrying + carrying // 2))
    columns = -(-len(series) // LEGEND_ROWS) if len(series) <= MOST_LABELLED else 0

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for number, (label, kl) in enumerate(series):
            marker = MARKERS[number // SERIES % len(MARKERS)]  # colours repeat after SERIES
            line: dict[str, Any] = {
                "marker": marker,
                "markersize": 3,
                "linewidth": 1.3,
                "label": shortened(label),
            }
            mean_and_band(axes, [values[:drawn] for values in kl], colour(number), **line)
        first = f" (the first {drawn})" if drawn < size else ""
        name_axes(axes, f"latent dimension, by its KL{first}", "KL, nats per image")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(bottom=0)
        if columns:
            named = shortened(heading)
            figure.legend(title=named, loc="outside right upper", handlelength=1.4, ncols=columns)

    return Drawing(name, draw, WIDTH + max(columns - 1, 0), HEIGHT)
