"""Pictures: image grids as arrays, and figures on matplotlib axes.

Figures are built without pyplot: they hold no global state, so several threads can draw at once.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from vae_lab.errors import LabError

if TYPE_CHECKING:
    from torch import Tensor  # only named: comparing finished runs needs no torch

Picture = NDArray[np.uint8]  # (height, width, 1 or 3)

TRAIN_COLOUR, TEST_COLOUR = "#0072b2", "#d55e00"  # blue and vermilion: apart for every kind of colour vision
GAP = 1  # pixels between two images of a grid
THINNEST = 100  # times that one side of a picture is longer than the other
TALLEST = 40.0  # inches of a figure; Matplotlib draws no more than 65,535 pixels
MOST_ROWS = 400  # of a contact sheet
LEGEND_ROWS, MOST_NAMED = 20, 60  # of the curves of a sweep
BOX = "\u25a1"  # for a sign that a font lacks


def tile(images: Tensor, shape: Sequence[int], columns: int) -> Picture:
    """Images (N, D) in [0, 1] laid out in rows of `columns`, as bytes (height, width, 1 or 3).

    torchvision's make_grid does the same, but importing torchvision costs every run two seconds.
    """
    channels, height, width = shape
    rows = -(-len(images) // columns)
    cells = np.zeros((rows * columns, channels, height + GAP, width + GAP), dtype=np.uint8)
    values = images.reshape(len(images), channels, height, width).clamp(0, 1).mul(255).round()
    cells[: len(images), :, :height, :width] = values.byte().cpu().numpy()
    grid = cells.reshape(rows, columns, channels, height + GAP, width + GAP).transpose(0, 3, 1, 4, 2)
    flat = grid.reshape(rows * (height + GAP), columns * (width + GAP), channels)
    return np.ascontiguousarray(flat[:-GAP, :-GAP])


def verbatim(text: str, family: str = "sans-serif") -> str:
    """A text that Matplotlib shows as it is, and takes for no formula."""
    return drawable(text, family).replace("$", r"\$")


def drawable(text: str, family: str = "sans-serif") -> str:
    """A text with a box for each sign that Matplotlib's font lacks, of which it would warn."""
    known = _signs(family)
    return "".join(sign if ord(sign) in known else BOX for sign in text)


@functools.cache
def _signs(family: str) -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties(family=[family]))).get_charmap())


def enlarged(picture: Picture, factor: int) -> Picture:
    """The picture with every pixel as a square of `factor` pixels; a thin one stands on a black ground.

    MLflow makes a thumbnail of it, which must keep a pixel's width.
    """
    large = picture.repeat(factor, axis=0).repeat(factor, axis=1)
    height, width, _ = large.shape
    lacking = (max(width // THINNEST - height, 0), max(height // THINNEST - width, 0), 0)
    return np.pad(large, [(0, each) for each in lacking])


def folded(strip: Picture) -> Picture:
    """A row of an even number of images as two rows of half its length."""
    half = (strip.shape[1] + GAP) // 2
    gap = np.zeros((GAP, half - GAP, strip.shape[2]), dtype=np.uint8)
    return np.concatenate([strip[:, : half - GAP], gap, strip[:, half:]])


def save_picture(picture: Picture, path: Path) -> None:
    """Writes a grid as a PNG file of its own pixels."""
    Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).save(path)


def save_figures(folder: Path, drawn: Mapping[str, Figure]) -> None:
    """Writes figures as PNG files under `folder`/figures."""
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for name, figure in drawn.items():
        figure.savefig(folder / "figures" / f"{name}.png")


def load_picture(path: Path) -> Picture:
    """A grid read back (height, width, 1 or 3).

    Raises:
        LabError: the file is no picture, or one so large that it must be meant to fill the memory.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = np.asarray(Image.open(path))
    except (
        OSError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise LabError(f"{path}: is no picture that can be read: {error}") from error
    return picture[..., None] if picture.ndim == 2 else picture


def grid_figure(
    images: Tensor, shape: Sequence[int], columns: int, title: str, row_labels: Sequence[str] = ()
) -> Figure:
    """A titled grid of images (N, D), with a label at the left of each row if given."""
    picture = tile(images, shape, columns)
    width = 0.55 * columns + (0.9 if row_labels else 0.3)
    height = min(0.55 * columns * picture.shape[0] / picture.shape[1] + 0.6, TALLEST)
    figure = Figure(figsize=(max(width, 3.5), height), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    _show(axes, picture)
    axes.set_title(verbatim(title), fontsize=10)
    if row_labels:
        step = shape[1] + GAP
        axes.set_yticks([row * step + shape[1] / 2 for row in range(len(row_labels))], row_labels, fontsize=9)
        axes.tick_params(left=False, labelleft=True)
    return figure


def _show(axes: Axes, picture: Picture) -> None:
    if picture.shape[-1] == 1:
        axes.imshow(picture[..., 0], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    else:
        axes.imshow(picture, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def loss_curves(epochs: Sequence[Mapping[str, float]], title: str) -> Figure:
    """Loss, reconstruction and KL over epochs, trained on and held out.

    Args:
        epochs: per epoch the metrics `train/loss`, `test/loss`, `train/reconstruction`, ...
        title: what was trained.
    """
    figure = Figure(figsize=(10, 3.2), layout="constrained", dpi=150)
    numbers = range(1, len(epochs) + 1)
    for axes, (name, heading) in zip(
        figure.subplots(1, 3),
        (("loss", "Loss"), ("reconstruction", "Reconstruction"), ("kl", "KL")),
        strict=True,
    ):
        for part, colour, label in (("train", TRAIN_COLOUR, "train"), ("test", TEST_COLOUR, "held out")):
            values = [epoch[f"{part}/{name}"] for epoch in epochs]
            axes.plot(numbers, values, color=colour, label=label, marker="o", markersize=3)
        axes.set_title(heading, fontsize=10)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("nats per image")
    figure.axes[0].legend(frameon=False)
    figure.suptitle(verbatim(title), fontsize=11)
    return figure


def contact_sheet(rows: Sequence[tuple[str, Picture | None]], title: str) -> Figure:
    """One row a run: its name and a wide strip of its samples; a run without one says so."""
    if len(rows) > MOST_ROWS:
        rows, title = rows[:MOST_ROWS], f"{title}, the first {MOST_ROWS} of {len(rows)}"
    strip_height, gap, head = 0.45, 0.1, 0.4  # inches
    letter = 0.09 * max(len(name) for name, _ in rows) + 0.2
    aspect = max((strip.shape[1] / strip.shape[0] for _, strip in rows if strip is not None), default=20.0)
    width, height = (
        letter + min(strip_height * aspect, TALLEST) + 0.1,
        head + len(rows) * (strip_height + gap),
    )
    figure = Figure(figsize=(width, height), dpi=150)
    figure.suptitle(verbatim(title), fontsize=11, y=1 - 0.12 / height, va="top")
    grid: Any = figure.subplots(
        len(rows),
        1,
        squeeze=False,
        gridspec_kw={
            "left": letter / width,
            "right": 1 - 0.1 / width,
            "bottom": gap / height,
            "top": 1 - head / height,
            "hspace": gap / strip_height,
        },
    )
    for axes, (name, strip) in zip(grid[:, 0], rows, strict=True):
        if strip is None:
            axes.text(0, 0.5, "no samples: the run did not finish", va="center", fontsize=9, color="0.4")
            axes.set_axis_off()
        else:
            _show(axes, strip)
            axes.set_anchor("W")
        axes.annotate(
            verbatim(name, "monospace"), (0, 0.5), (-6, 0), "axes fraction", "offset points",
            ha="right", va="center", fontsize=9, family="monospace",
        )  # fmt: skip
    return figure


def sweep_curves(
    configurations: Mapping[str, Sequence[Sequence[float]]], colours: Mapping[str, str], heading: str
) -> Figure:
    """The held-out loss of a whole sweep over its epochs: one curve a configuration, coloured as in the UI.

    Args:
        configurations: names, and one curve a replicate; of several the mean is drawn, and a band from
            the lowest to the highest. More than MOST_NAMED of them have no legend.
        colours: name to colour.
        heading: of which study.
    """
    columns = -(-len(configurations) // LEGEND_ROWS) if len(configurations) <= MOST_NAMED else 0
    figure = Figure(figsize=(9 + 1.5 * max(columns - 1, 0), 4.5), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    for name, curves in configurations.items():
        values = np.full((len(curves), max(map(len, curves))), np.nan)
        for row, curve in zip(values, curves, strict=True):
            row[: len(curve)] = curve  # runs of one name may have had other numbers of epochs
        epochs = np.arange(1, values.shape[1] + 1)
        colour = colours.get(name)
        (line,) = axes.plot(
            epochs, np.nanmean(values, 0), marker="o", markersize=3, label=verbatim(name), color=colour
        )
        if len(curves) > 1:
            low, high = np.nanmin(values, 0), np.nanmax(values, 0)
            axes.fill_between(epochs, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.set_xlabel("epoch")
    axes.set_ylabel("nats per image")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    banded = any(len(curves) > 1 for curves in configurations.values())
    axes.set_title(verbatim(heading + ", means and ranges" * banded), fontsize=11)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if columns:
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), ncols=columns)
    return figure


def spectrum(
    singular: Sequence[float], kept: Sequence[float], ranks: Mapping[float, int], title: str
) -> Figure:
    """Singular values by rank, and the share of the variance up to it.

    Args:
        singular: the singular values, the largest first.
        kept: share of the variance that the first dimensions hold.
        ranks: share of the variance and the number of dimensions that hold it.
        title: of which data.
    """
    figure = Figure(figsize=(9, 3.5), layout="constrained", dpi=150)
    left, right = figure.subplots(1, 2)
    numbers = range(1, len(singular) + 1)
    left.plot(numbers, singular, color=TRAIN_COLOUR)
    left.set_yscale("log")
    left.set_ylim(singular[0] * 1e-4, singular[0] * 2)  # pixels that never change have a value of zero
    left.set_ylabel("singular value")
    right.plot(numbers, [100 * share for share in kept], color=TRAIN_COLOUR)
    for share, rank in ranks.items():
        right.plot([rank], [100 * share], "o", color=TEST_COLOUR)
        right.annotate(
            f"{share:.0%}: {rank}", (rank, 100 * share), (-8, 2), textcoords="offset points", ha="right"
        )
    right.set_ylabel("variance held, %")
    for axes in (left, right):
        axes.set_xlabel("dimensions")
        axes.set_xscale("log")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(verbatim(title), fontsize=11)
    return figure
