"""The singular values of a data set and the variance that its first dimensions hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from vae_lab.report.drawing import Drawing, colour, name_axes, plain_numbers


def data_spectrum(
    singular: Sequence[float], held: Sequence[float], ranks: Mapping[float, int], title: str
) -> Drawing:
    """Singular values by rank, and the share of the variance up to it.

    Args:
        singular: the singular values, the largest first.
        held: share of the variance that the first dimensions hold.
        ranks: share of the variance and the number of dimensions that hold it.
        title: of which data.
    """

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        numbers = range(1, len(singular) + 1)
        left.plot(numbers, singular, color=colour(0))
        left.set_yscale("log")
        plain_numbers(left.yaxis)
        left.set_ylim(singular[0] * 1e-4, singular[0] * 2)  # pixels that never change have a value of zero
        right.plot(numbers, [100 * share for share in held], color=colour(0))
        for share, rank in ranks.items():
            right.plot([rank], [100 * share], "o", color=colour(1))
            right.annotate(
                f"{share:.0%}: {rank}", (rank, 100 * share), (-8, 2), textcoords="offset points", ha="right"
            )
        for axes, vertical in ((left, "singular value"), (right, "variance held, %")):
            name_axes(axes, "dimensions", vertical)
            axes.set_xscale("log")
            plain_numbers(axes.xaxis)

    return Drawing("spectrum", draw, 9, 3.5, title)
