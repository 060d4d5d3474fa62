"""Images and labels of any source: checked, and made into a `Dataset`.

Shapes: N images, D pixels of an image over all channels.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vae_lab.data.batches import Images
from vae_lab.data.pixels import stored_alike
from vae_lab.errors import UserError, quoted

MOST_CLASSES = 10_000  # labels beyond are taken for identifiers
UNLIKE = 10  # times brighter than the other part's brightest pixel
INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
NEEDED = "they must be (N, height, width) or (N, channels, height, width), and (N,) for N >= 1 labels."


class Dataset(NamedTuple):
    """Training and held-out images with their labels."""

    name: str
    train: Images
    test: Images
    shape: tuple[int, int, int]  # channels, height, width of one image
    classes: int  # labels are 0 to classes - 1; a class may have no image
    checksum: str = ""  # twelve hex digits of the SHA-256 of pixels and labels
    origin: str = ""  # where the images come from: a folder, or a name
    factors: dict[str, Tensor] | None = None  # what held-out images were made of: values (N,) by name

    # A data set equals itself alone, so that what is measured of it can be cached by it. As a tuple it would
    # be compared tensor by tensor, which has no truth, and have no hash where it has a dict of factors.
    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __hash__(self) -> int:
        return id(self)

    @property
    def size(self) -> int:
        """The number of pixels of an image over all channels, D."""
        return math.prod(self.shape)

    @property
    def trained_classes(self) -> list[int]:
        """The classes that have a training image: only of these a model can draw or be judged."""
        counts: list[int] = self.train.labels.bincount(minlength=self.classes).tolist()
        return [label for label, count in enumerate(counts) if count]

    def to(self, device: torch.device) -> Dataset:
        """Returns the same data with its tensors on `device`."""
        return self._replace(train=self.train.to(device), test=self.test.to(device))


def dataset(
    name: str,
    train: Any,
    train_labels: Any,
    test: Any,
    test_labels: Any,
    *,
    peak: float | None = None,
    classes: int | None = None,
    origin: str = "",
    factors: Any = None,
) -> Dataset:
    """Returns a data set of arrays, tensors or lists, which a loader of one's own can return.

    Args:
        name: Its name in messages, tables and on the page.
        train: Training images (N, height, width) or (N, channels, height, width), with 1 or 3 channels.
        train_labels: Their classes, whole numbers from 0: (N,) or (N, 1).
        test: Held-out images of the same shape.
        test_labels: Their classes.
        peak: The pixel value of white; by default 1 for fractions, and zeros and ones beside them, else 255.
        classes: The number of classes; without one it is the largest training label + 1.
        origin: Where the images come from.
        factors: What each held-out image was made of: numbers (N,) by name, such as {"x": ..., "size": ...}.

    Raises:
        UserError: They do not fit each other, or lie outside their range.

    Examples:
        >>> pixels = torch.arange(12 * 64).reshape(12, 8, 8) % 256
        >>> stripes = dataset("stripes", pixels[:9], [0, 1, 2] * 3, pixels[9:], [0, 1, 2])
        >>> len(stripes.train), len(stripes.test), stripes.shape, stripes.classes
        (9, 3, (1, 8, 8), 3)
        >>> dataset("stripes", pixels, [0] * 12, pixels, [1] * 12)
        Traceback (most recent call last):
        vae_lab.errors.UserError: data stripes: held-out label 1, but training labels end at 0.
    """
    parts = [Images(*part, peak) for part in ((train, train_labels), (test, test_labels))]  # type: ignore[arg-type]
    unchecked: Any = (name, *parts, None, classes, "", origin, factors)  # the shape is that of the arrays
    return checked(Dataset(*unchecked), f"data {quoted(name)}")


def checked(data: Dataset, blamed: str) -> Dataset:
    """Returns a data set as the lab's own loaders make it: on the CPU, bytes where they suffice.

    Pixels and labels may be whatever `dataset` takes, and pixels (N, D) where the shape is given. The
    checksum is computed, so that other images are never taken for those of a finished run.

    Raises:
        UserError: A rule of `dataset` is broken; the message begins with `blamed`.
    """
    try:
        if not isinstance(data.name, str) or not data.name.strip():
            raise UserError(f"name={quoted(data.name)}: must be a text.")
        train, shape = _checked_images("train", data.train, data.shape)
        test, test_shape = _checked_images("test", data.test, data.shape)
        if shape != test_shape:
            raise UserError(f"training images have shape {shape}, held-out {test_shape}.")
        train, test = stored_alike(train, test)
        classes = _checked_classes(train.labels, test.labels, data.classes)
        factors = _checked_factors(data.factors, len(test))
    except UserError as error:
        raise UserError(f"{blamed}: {error}") from None
    checksum = _checksum(train, test, shape, classes, factors)
    return Dataset(data.name, train, test, shape, classes, checksum, str(data.origin), factors)


def remarks(data: Dataset) -> Iterator[str]:
    """Yields a line for whatever is allowed in a data set, but seldom meant.

    Examples:
        >>> pixels = [[[0, 255]], [[255, 0]]]
        >>> list(remarks(dataset("letters", pixels, [1, 2], pixels, [1, 2])))
        ['data letters: no training image has label 0; nothing is drawn or counted of such a class.']
    """
    empty = sorted({*range(data.classes)} - {*data.trained_classes})
    if empty:
        labels = quoted(", ".join(map(str, empty)), 40)
        held_out = int(torch.isin(data.test.labels.cpu(), torch.tensor(empty)).sum())
        unseen = f" {held_out:,} held-out images have it." if held_out else ""
        yield (
            f"data {quoted(data.name)}: no training image has label {labels}; nothing is drawn or counted of "
            f"such a class.{unseen}"
        )
    brightest = data.train.pixels.max()
    if data.train.peak > 1 and brightest == 1:
        yield f"data {quoted(data.name)}: pixels run from 0 to 1, but white is {data.train.peak}."
    shares = [float(images.pixels.max()) / images.peak for images in (data.train, data.test)]
    if max(shares) > UNLIKE * min(shares) > 0:
        yield (
            f"data {quoted(data.name)}: the brightest pixel is {shares[0]:.3g} of white in training images, "
            f"{shares[1]:.3g} in held-out ones."
        )


def _checked_images(part: str, given: Any, shape: Any) -> tuple[Images, tuple[int, int, int]]:
    """Returns images (N, D) whose pixels and peak are yet to be looked at, and their shape."""
    if not isinstance(given, Images):
        raise UserError(
            f"{part}: is a {type(given).__name__}, not a vae_lab.data.Images; vae_lab.data.dataset makes one."
        )
    pixels = _tensor(part, "images", given.pixels)
    labels = _tensor(part, "labels", given.labels)
    if labels.shape[1:] == (1,):
        labels = labels[:, 0]
    dimensions = (3, 4) if shape is None else (2, 3, 4)
    fit = labels.ndim == 1 and pixels.ndim in dimensions and len(pixels) == len(labels)
    if not fit or not len(labels):
        raise UserError(
            f"{part}: images of shape {tuple(pixels.shape)} with labels of shape {tuple(labels.shape)}; "
            f"{NEEDED}"
        )
    size = _checked_shape(part, pixels.shape[1:], shape)
    pixels = pixels.reshape(len(pixels), -1).contiguous()
    if labels.is_floating_point() and bool((odd := labels != labels.round()).any()):
        raise UserError(f"{part}: a label is {labels[odd][0]:g}; labels are whole numbers.")
    return Images(pixels, labels.to(torch.int64), given.peak), size


def _tensor(part: str, kind: str, value: Any) -> Tensor:
    """Returns numbers as a tensor of a type that has all operations; shares memory where it can."""
    if isinstance(value, Tensor):
        numbers = value.detach().cpu().to_dense()
    else:
        try:
            array = np.asarray(value)
        except (ValueError, TypeError, RuntimeError) as error:
            raise UserError(f"{part}: {kind} are no array: {quoted(error, 200)}") from None
        if array.dtype.kind not in "buif":
            raise UserError(f"{part}: {kind} are of type {array.dtype}; they must be numbers.")
        # PyTorch has no wider floats, and few operations on unsigned integers other than bytes.
        known: dict[tuple[str, int], np.dtype[Any]] = {
            ("f", 16): np.dtype(np.float64),
            ("u", 2): np.dtype(np.int32),
        }
        known |= {("u", size): np.dtype(np.int64) for size in (4, 8)}
        plain = known.get((array.dtype.kind, array.dtype.itemsize), array.dtype.newbyteorder("="))
        array = np.ascontiguousarray(array, dtype=plain)
        numbers = torch.from_numpy(array if array.flags.writeable else array.copy())
    if numbers.dtype not in INTEGERS and not numbers.is_floating_point():
        raise UserError(f"{part}: {kind} are of type {numbers.dtype}; they must be numbers.")
    if numbers.dtype in (torch.bfloat16, torch.float16):
        return numbers.float()
    return numbers.to(torch.uint8) if numbers.dtype == torch.bool else numbers


def _checked_shape(part: str, size: torch.Size, given: Any) -> tuple[int, int, int]:
    """Returns channels, height and width of images whose axes have `size`, those `given`, if any."""
    if given is None:
        shape = (1, *size)[-3:]
    else:
        numbers = tuple(given) if isinstance(given, tuple | list | torch.Size) else ()
        if len(numbers) not in (2, 3) or not all(isinstance(number, int | np.integer) for number in numbers):
            raise UserError(f"shape={quoted(given)}: must be channels, height and width of an image.")
        shape = (1, *map(int, numbers))[-3:]
        if len(size) == 1 and size[0] != math.prod(shape):
            raise UserError(f"{part}: images have {size[0]} pixels, but shape={shape}.")
        if len(size) > 1 and (1, *size)[-3:] != shape:
            raise UserError(
                f"{part}: images have shape {tuple(size)}, but shape={shape}: channels, height, width."
            )
    channels, height, width = shape
    if channels not in (1, 3) or height < 1 or width < 1:
        raise UserError(
            f"images have {channels} channels of {height} x {width} pixels; they must have 1 channel (grey) "
            "or 3 (red, green, blue), and a pixel at least."
        )
    return channels, height, width


def _checked_classes(train: Tensor, test: Tensor, given: Any) -> int:
    """Returns the number of classes: the given one, or that of the training labels."""
    if given is None:
        classes, rule = int(train.max()) + 1, "they count from 0"
    elif isinstance(given, int | np.integer) and not isinstance(given, bool) and given >= 1:
        classes = int(given)
        rule = f"with classes={classes} they lie between 0 and {classes - 1}"
    else:
        raise UserError(f"classes={quoted(given)}: must be a whole number of 1 or more.")
    for part, labels in (("train", train), ("test", test)):
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or (high >= classes and given is not None):
            raise UserError(f"{part}: labels run from {low} to {high}; {rule}.")
        if high >= classes:
            raise UserError(f"held-out label {high}, but training labels end at {classes - 1}.")
    if classes > MOST_CLASSES:
        raise UserError(f"{classes} classes: at most {MOST_CLASSES} are possible.")
    return classes


def _checked_factors(given: Any, images: int) -> dict[str, Tensor] | None:
    """Returns the factors of held-out images as tensors (N,); None if there are none."""
    if given is None:
        return None
    if not isinstance(given, Mapping) or not given or not all(isinstance(name, str) for name in given):
        raise UserError(f"factors={quoted(given)}: must be numbers by name, as in {{'size': sizes}}.")
    factors = {name: _tensor("test", f"factor {quoted(name)}", values) for name, values in given.items()}
    for name, values in factors.items():
        if tuple(values.shape) != (images,) or not bool(values.isfinite().all()):
            raise UserError(
                f"factor {quoted(name)} of shape {tuple(values.shape)}: must have a finite number for each "
                f"of the {images} held-out images."
            )
    return factors


def _checksum(
    train: Images,
    test: Images,
    shape: tuple[int, int, int],
    classes: int,
    factors: Mapping[str, Tensor] | None = None,
) -> str:
    checksum = hashlib.sha256()
    for images in (train, test):
        for numbers in images.pixels, images.labels:
            checksum.update(numbers.numpy().tobytes())
    for name, values in (factors or {}).items():
        checksum.update(name.encode() + values.numpy().tobytes())
    # What the bytes do not say by themselves: equal bytes of another shape or scale are other images.
    channels, height, width = shape
    implied = (channels, height, classes) == (1, width, int(train.labels.max()) + 1)
    if not implied or train.peak != int(train.pixels.max()):
        checksum.update(repr((shape, classes, train.peak)).encode())
    if test.peak != train.peak:
        checksum.update(repr(test.peak).encode())
    return checksum.hexdigest()[:12]
