"""Pictures of one's own, of any size and colour, made into what a model was trained on; every change is said.

A data set's images have a look: grey or colour, a ground that is dark or light, a subject that fills a part
of the image. `look_of` measures it, `adapted` gives it to a picture.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from vae_lab.errors import UserError, quoted

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # for others Pillow may start programs
MOST_PIXELS = 1 << 26  # of a picture that is opened, 8192 x 8192
UNIFORM, MOST = 0.15, 0.8  # of an even ground: so near the median lie so many corners of a data set
DRAWN = 0.3  # by which a pixel differs from the ground where something is drawn
FAINT = 0.02  # of a ground that is dark, or light, as it should be
SPREAD = 2.0  # median deviations of the ground that are ground, too: paper has a grain
NEARLY = 1e-3  # so near a half a number is one, on the explorer's page as well
DEEPEST = 65535  # the largest value of a pixel of two bytes

Plane = NDArray[np.float32]  # (height, width) or (height, width, 3), from 0 to 1


class Look(NamedTuple):
    """How a data set's images look, as far as another picture can be made like them."""

    shape: tuple[int, int, int]  # channels, height, width
    ground: float | None  # the grey around the subject, 0 or 1; None if it is no even one
    extent: float = 0.0  # pixels of the longer side of what is drawn, usually
    centre: tuple[float, float] = (0.0, 0.0)  # row and column of its centre of mass, usually


class Adapted(NamedTuple):
    """A picture as a model can read it, and what was done to it."""

    image: Tensor  # (1, channels, height, width) in [0, 1]
    changes: list[str]  # in their order, in words


def look_of(images: Tensor) -> Look:
    """Returns the look of images (N, C, H, W) in [0, 1].

    Examples:
        >>> stroke = torch.zeros(2, 1, 8, 8)
        >>> stroke[:, :, 2:6, 3:5] = 1.0
        >>> look_of(stroke)
        Look(shape=(1, 8, 8), ground=0.0, extent=4.0, centre=(3.5, 3.5))
    """
    shape = (images.shape[1], images.shape[2], images.shape[3])
    if shape[0] != 1:
        return Look(shape, None)
    planes = images[:, 0].float().cpu().numpy()
    level = _even(planes[:, [0, 0, -1, -1], [0, -1, 0, -1]])  # their corners; the subject may touch the edge
    if level is None:
        return Look(shape, None)
    ground = float(round(level))
    ink = np.abs(planes - ground)
    boxes = [_box(plane) for plane in ink if (plane > DRAWN).any()]
    if not boxes:
        return Look(shape, None)
    sides = [max(bottom - top, right - left) for top, bottom, left, right in boxes]
    centres = np.array([_centre(plane) for plane in ink if (plane > DRAWN).any()])
    row, column = np.median(centres, axis=0).tolist()
    return Look(shape, ground, float(np.median(sides)), (row, column))


def open_picture(path: Path) -> Image.Image:
    """Returns a picture of the user's, upright.

    Raises:
        UserError: The file is none, of a format that is not read, or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # of what is refused below
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    size = f"{image.width} x {image.height}"
                    raise UserError(f"{path}: has {size} pixels; at most {MOST_PIXELS:,} are read.")
                upright = ImageOps.exif_transpose(image)
                _check_numbers(upright, str(path))
                return upright
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file.") from None
    except Exception as error:  # whatever may be wrong with a file
        reason = "" if isinstance(error, UnidentifiedImageError) else f": {quoted(error)}"
        valid = f"Valid: {', '.join(FORMATS)}."
        raise UserError(f"{path}: is no picture that can be read{reason}. {valid}") from None


def adapted(picture: Image.Image, look: Look, *, invert: bool | None = None) -> Adapted:
    """Returns a picture with the look of a model's images.

    Args:
        picture: Of any size and colour.
        look: Of the images that the model knows.
        invert: Whether dark becomes light; None where the grounds decide.

    Raises:
        UserError: A pixel is no finite number.
    """
    _check_numbers(picture, "picture")
    changes = [f"{picture.width} x {picture.height} pixels"]
    _, height, width = look.shape
    plane = _plane(picture, look.shape[0], changes)
    if invert or (invert is None and _is_of_the_other_ground(plane, look)):
        plane = 1 - plane
        own, known = ("light", "dark") if look.ground == 0 else ("dark", "light")
        reason = "" if invert else f", as its ground is {own} and that of the model's images {known}"
        changes.append(f"inverted{reason}")
    if plane.shape[:2] == (height, width):
        changes.append("taken as it is")
    elif look.ground is None:
        plane = _scaled_middle(plane, height, width, changes)
    else:
        ink = _levelled(np.abs(plane - look.ground), changes)
        plane = np.abs(_placed(ink, look, changes) - look.ground)
    channels = plane[None] if plane.ndim == 2 else plane.transpose(2, 0, 1)
    image = torch.from_numpy(np.ascontiguousarray(channels, dtype=np.float32))[None].clamp(0, 1)
    return Adapted(image, changes)


def _check_numbers(picture: Image.Image, name: str) -> None:
    if picture.mode.startswith("F") and not np.isfinite(np.asarray(picture)).all():
        raise UserError(f"{name}: has pixels that are NaN or infinite; every pixel must be a finite number.")


def _plane(picture: Image.Image, channels: int, changes: list[str]) -> Plane:
    """Returns grey (height, width) or colour (height, width, 3) from 0 to 1."""
    if picture.mode.startswith(("I", "F")):  # more than a byte a pixel
        values = np.asarray(picture, dtype=np.float32)
        white = _white(picture.mode, float(values.max()))
        changes.append(f"values from 0 to {white:g} made 0 to 1")
        plane: Plane = (values / white).clip(0, 1)
        return plane if channels == 1 else np.repeat(plane[..., None], 3, axis=2)
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = _opaque(picture.convert("RGBA"), changes)
    colours: Plane = np.asarray(picture.convert("RGB"), dtype=np.float32) / np.float32(255)
    if channels == 3:
        return colours
    if (np.ptp(colours, axis=2) > FAINT).any():
        changes.append("colour made grey")
    grey: Plane = np.asarray(picture.convert("L"), dtype=np.float32) / np.float32(255)
    return grey


def _white(mode: str, largest: float) -> float:
    """Returns the value that is white: of two bytes a pixel their largest; of others the least usual one."""
    if mode.startswith("I;16"):
        return DEEPEST
    return next(white for white in (1.0, 255.0, float(DEEPEST), largest) if largest <= white)


def _opaque(picture: Image.Image, changes: list[str]) -> Image.Image:
    """Returns the picture on white, or on black if it is a light one."""
    bands = picture.convert("L"), picture.getchannel("A")
    grey, alpha = (np.asarray(band, dtype=np.float64) for band in bands)
    if alpha.min() == 255:
        return picture
    light = (grey * alpha).sum() > 127.5 * alpha.sum()
    ground = Image.new("RGBA", picture.size, "black" if light else "white")
    changes.append(f"what is transparent made {'black' if light else 'white'}")
    return Image.alpha_composite(ground, picture)


def _is_of_the_other_ground(plane: Plane, look: Look) -> bool:
    return look.ground is not None and abs(float(np.median(_border(plane))) - look.ground) > 0.5


def _levelled(ink: Plane, changes: list[str]) -> Plane:
    """Returns ink (height, width) whose ground is 0 and whose strongest stroke is 1."""
    border = _border(ink)
    level = float(np.median(border))
    ground = level + SPREAD * float(np.median(np.abs(border - level)))
    strongest = float(ink.max())
    if ground < FAINT and strongest > 1 - 2 * FAINT:
        return ink
    if strongest - ground < DRAWN / 2:  # an empty sheet, however grey
        return (ink - ground).clip(0, 1)
    changes.append(f"contrast raised: {ground:.2f} to {strongest:.2f} made 0 to 1")
    return ((ink - ground) / (strongest - ground)).clip(0, 1)


def _placed(ink: Plane, look: Look, changes: list[str]) -> Plane:
    """Returns what is drawn in the size and at the place that the model's images have it."""
    _, height, width = look.shape
    if not (ink > DRAWN).any():
        changes.append("nothing is drawn on it")
        return _scaled_middle(ink, height, width, changes)
    top, bottom, left, right = _box(ink)
    drawn = ink[top:bottom, left:right]
    factor = min(look.extent / max(drawn.shape), height / drawn.shape[0], width / drawn.shape[1])
    rows, columns = (max(1, _rounded(side * factor)) for side in drawn.shape)
    small = _resized(drawn, rows, columns)
    small = small / max(small.max(), DRAWN)  # thin strokes have become faint
    row, column = _centre(small)
    below = min(max(_rounded(look.centre[0] - row), 0), height - rows)
    beside = min(max(_rounded(look.centre[1] - column), 0), width - columns)
    changes.append(
        f"cropped to the {drawn.shape[1]} x {drawn.shape[0]} pixels that are drawn on, scaled to "
        f"{columns} x {rows} and placed in {width} x {height} by its centre of mass"
    )
    return np.pad(small, ((below, height - rows - below), (beside, width - columns - beside)))


def _scaled_middle(plane: Plane, height: int, width: int, changes: list[str]) -> Plane:
    """Returns the middle of a picture, of the wanted proportions, scaled."""
    factor = min(plane.shape[0] / height, plane.shape[1] / width)
    rows, columns = (max(1, _rounded(side * factor)) for side in (height, width))
    top, left = (plane.shape[0] - rows) // 2, (plane.shape[1] - columns) // 2
    if (rows, columns) != plane.shape[:2]:
        changes.append(f"cropped to the middle {columns} x {rows} pixels")
    changes.append(f"scaled to {width} x {height}")
    return _resized(plane[top : top + rows, left : left + columns], height, width)


def _rounded(value: float) -> int:
    """Returns the nearest whole number, of what is nearly a half the even one: no last digit decides."""
    near = math.floor(value)
    return near + near % 2 if abs(value - near - 0.5) < NEARLY else round(value)


def _resized(plane: Plane, height: int, width: int) -> Plane:
    layers = [plane] if plane.ndim == 2 else [plane[..., channel] for channel in range(3)]
    size, smooth = (width, height), Image.Resampling.LANCZOS
    resized = [np.asarray(Image.fromarray(layer).resize(size, smooth)) for layer in layers]
    return (resized[0] if plane.ndim == 2 else np.stack(resized, axis=2)).clip(0, 1)


def _border(plane: Plane) -> Plane:
    grey = plane if plane.ndim == 2 else plane.mean(axis=2)
    return np.concatenate([grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1]])


def _even(values: Plane) -> float | None:
    """Returns the median of values most of which lie around it, near black or white; None of others."""
    median = float(np.median(values))
    share = float((np.abs(values - median) < UNIFORM).mean())
    return median if share >= MOST and abs(median - round(median)) < UNIFORM else None


def _box(ink: Plane) -> tuple[int, int, int, int]:
    """Returns the rows and columns, from and to, of what is drawn."""
    rows, columns = (np.flatnonzero((ink > DRAWN).any(axis=axis)) for axis in (1, 0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _centre(ink: Plane) -> tuple[float, float]:
    """Returns the row and column of the centre of mass."""
    mass = float(ink.sum())
    rows, columns = (np.arange(side, dtype=np.float32) for side in ink.shape)
    return float((ink.sum(axis=1) * rows).sum() / mass), float((ink.sum(axis=0) * columns).sum() / mass)
