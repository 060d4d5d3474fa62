"""Image grids: tiles and strips as arrays, contact sheets as drawings, and PNG files."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from vae_lab.errors import quoted
from vae_lab.files import DamagedError
from vae_lab.report.drawing import MUTED, TALLEST, Drawing, shortened

if TYPE_CHECKING:
    from torch import Tensor  # only named: comparing finished runs needs no torch

Picture = NDArray[np.uint8]  # (height, width, 1 or 3)

FORMATS = ["PNG"]  # that are read; for others Pillow starts programs, or has had more faults
MOST_PIXELS = 1 << 24  # of a file that is decoded: a hundred images of 400 x 400 pixels
KEPT_PIXELS = 1 << 21  # of a picture in memory; it is not shown larger than that
LETTER = 0.075  # inches of a row label's
GAP = 1  # pixels between two images of a grid
THINNEST = 100  # times that one side of a picture is longer than the other
MOST_ROWS = 400  # of a contact sheet
LONGEST_NAME = 100  # letters beside a strip
STRIP_HEIGHT, STRIP_GAP, HEAD, MARGIN = 0.45, 0.1, 0.4, 0.1  # of a contact sheet, inches


def tile(images: Tensor, shape: Sequence[int], columns: int) -> Picture:
    """Returns images (N, D) in [0, 1] laid out in rows of `columns`, as bytes (height, width, 1 or 3).

    torchvision's make_grid does the same, but importing torchvision costs every run two seconds.

    Examples:
        >>> import torch
        >>> images = torch.tensor([[0.0, 1.0], [0.5, 0.0]])
        >>> tile(images, shape=(1, 1, 2), columns=1)[..., 0].tolist()  # a black row between them
        [[0, 255], [0, 0], [128, 0]]
    """
    channels, height, width = shape
    rows = -(-len(images) // columns)
    cells = np.zeros((rows * columns, channels, height + GAP, width + GAP), dtype=np.uint8)
    values = images.reshape(len(images), channels, height, width).clamp(0, 1).mul(255).round()
    cells[: len(images), :, :height, :width] = values.byte().cpu().numpy()
    grid = cells.reshape(rows, columns, channels, height + GAP, width + GAP).transpose(0, 3, 1, 4, 2)
    flat = grid.reshape(rows * (height + GAP), columns * (width + GAP), channels)
    return np.ascontiguousarray(flat[:-GAP, :-GAP])


def enlarged(picture: Picture, factor: int) -> Picture:
    """Returns the picture with every pixel as a square of `factor` pixels; a thin one on a black ground.

    MLflow makes a thumbnail of it, which must keep a pixel's width.
    """
    large = picture.repeat(factor, axis=0).repeat(factor, axis=1)
    height, width, _ = large.shape
    lacking = (max(width // THINNEST - height, 0), max(height // THINNEST - width, 0), 0)
    return np.pad(large, [(0, pixels) for pixels in lacking])


def folded(strip: Picture) -> Picture:
    """Returns a row of an even number of images as two rows of half its length.

    Raises:
        DamagedError: It is no such row.
    """
    half, odd = divmod(strip.shape[1] + GAP, 2)
    if odd or half <= GAP:
        raise DamagedError(f"a strip of samples: is no row of images, with {strip.shape[1]} pixels.")
    gap = np.zeros((GAP, half - GAP, strip.shape[2]), dtype=np.uint8)
    return np.concatenate([strip[:, : half - GAP], gap, strip[:, half:]])


def save_picture(picture: Picture, path: Path) -> None:
    """Writes a grid as a PNG file of its own pixels."""
    Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).save(path)


def load_picture(path: Path) -> Picture:
    """Returns a picture read back (height, width, 1 or 3), scaled down if it has more than KEPT_PIXELS.

    The only way in which a picture of a store is opened.

    Raises:
        DamagedError: The file is no PNG, or of more than MOST_PIXELS, which would fill the memory.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # of what is refused below
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise ValueError(f"{image.width} x {image.height} are more than {MOST_PIXELS} pixels")
                grey = image.mode in ("1", "L")
                picture = np.asarray(_scaled_down(image.convert("L" if grey else "RGB")))
    except Exception as error:  # a stranger's file may hold anything anywhere
        reason = "" if isinstance(error, UnidentifiedImageError) else f": {quoted(error)}"
        raise DamagedError(f"{path}: is no PNG that can be shown{reason}.") from error
    return picture[..., None] if grey else picture


def _scaled_down(image: Image.Image) -> Image.Image:
    share = (KEPT_PIXELS / (image.width * image.height)) ** 0.5
    if share >= 1:
        return image
    width, height = (max(1, int(side * share)) for side in image.size)
    return image.resize((width - 1 | 1, height), Image.Resampling.LANCZOS)  # odd, so that a strip folds


def image_grid(
    name: str, images: Tensor, shape: Sequence[int], columns: int, title: str, row_labels: Sequence[str] = ()
) -> Drawing:
    """A titled grid of images (N, D), with a label at the left of each row if given."""
    picture = tile(images, shape, columns)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        _show(axes, picture)
        if row_labels:
            centres = [row * (shape[1] + GAP) + shape[1] / 2 for row in range(len(row_labels))]
            axes.set_yticks(centres, row_labels)
            axes.tick_params(left=False, labelleft=True)

    letters = max(map(len, row_labels), default=0)
    width = 0.55 * columns + (max(0.9, 0.4 + LETTER * letters) if row_labels else 0.3)
    height = min(0.55 * columns * picture.shape[0] / picture.shape[1] + 0.3, TALLEST)
    return Drawing(name, draw, max(width, 3.5), height, title)


def _show(axes: Axes, picture: Picture) -> None:
    if picture.shape[-1] == 1:
        axes.imshow(picture[..., 0], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    else:
        axes.imshow(picture, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def contact_sheet(rows: Sequence[tuple[str, Picture | str]], title: str) -> Drawing:
    """One row a run: its name and a wide strip of its samples, or why it has none."""
    if len(rows) > MOST_ROWS:
        rows, title = rows[:MOST_ROWS], f"{title}, the first {MOST_ROWS} of {len(rows)}"
    rows = [(shortened(name, LONGEST_NAME), strip) for name, strip in rows]
    letters = 0.09 * max(len(name) for name, _ in rows) + 0.2
    strips = [strip for _, strip in rows if not isinstance(strip, str)]
    aspect = max((strip.shape[1] / strip.shape[0] for strip in strips), default=20.0)
    width = letters + min(STRIP_HEIGHT * aspect, TALLEST) + MARGIN
    height = HEAD + len(rows) * (STRIP_HEIGHT + STRIP_GAP)

    def draw(figure: Figure) -> None:
        figure.suptitle(title, fontsize=11, y=1 - 0.12 / height, va="top")
        grid: Any = figure.subplots(len(rows), 1, squeeze=False)
        figure.subplots_adjust(
            left=letters / width, right=1 - MARGIN / width,
            bottom=STRIP_GAP / height, top=1 - HEAD / height, hspace=STRIP_GAP / STRIP_HEIGHT,
        )  # fmt: skip
        for axes, (name, strip) in zip(grid[:, 0], rows, strict=True):
            _show_strip(axes, name, strip)

    return Drawing("contact_sheet", draw, width, height, layout=None)


def _show_strip(axes: Axes, name: str, strip: Picture | str) -> None:
    if isinstance(strip, str):
        axes.text(0, 0.5, f"no samples: {shortened(strip, LONGEST_NAME)}", va="center", color=MUTED)
        axes.set_axis_off()
    else:
        _show(axes, strip)
        axes.set_anchor("W")
    axes.annotate(
        name, (0, 0.5), (-6, 0), "axes fraction", "offset points", ha="right", va="center", family="monospace"
    )
