"""What is handed to a trained model: images, latent vectors and labels, checked and put on its device.

Shapes: N images, C channels, H height and W width of an image, D = C H W pixels, Z latent dimensions.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vae_lab.data import one_hot
from vae_lab.errors import UserError, quoted

Numbers = Tensor | NDArray[Any] | Sequence[Any]

MOST = 1_000_000  # of images that are asked for at once
ROUNDING = 1e-6  # by which pixels may leave [0, 1]


def checked_images(
    images: Numbers, shape: Sequence[int], device: torch.device, remedy: str = "divide by 255"
) -> Tensor:
    """Returns images as pixels (N, D) on `device`.

    Args:
        images: Pixels in [0, 1], (N, C, H, W).
        shape: C, H and W of the model's images.
        device: Where they are wanted.
        remedy: What to do about pixels that are too bright.

    Raises:
        UserError: They have another shape, or a pixel lies outside [0, 1].

    Examples:
        >>> checked_images([[[[0.0, 1.0]]]], (1, 1, 2), torch.device("cpu"))
        tensor([[0., 1.]])
        >>> checked_images([[[[0.0, 255.0]]]], (1, 1, 2), torch.device("cpu"))
        Traceback (most recent call last):
        vae_lab.errors.UserError: images: pixels run from 0 to 255; they must lie in [0, 1]: divide by 255.
    """
    pixels = as_tensor("images", images, device)
    if pixels.ndim != 4 or tuple(pixels.shape[1:]) != tuple(shape) or not len(pixels):
        wanted = ", ".join(map(str, shape))
        one = "; one image is a batch of its own: image[None]" if tuple(pixels.shape) == tuple(shape) else ""
        raise UserError(f"images of shape {tuple(pixels.shape)}: must have shape (N, {wanted}), N >= 1{one}.")
    low, high = (float(end) for end in pixels.aminmax())
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):  # so that NaN is refused, too
        hint = f": {remedy}" if 1 < high < math.inf else ""
        raise UserError(f"images: pixels run from {low:g} to {high:g}; they must lie in [0, 1]{hint}.")
    return pixels.flatten(1).clamp(0, 1)


def checked_latents(z: Numbers, latent_size: int, device: torch.device) -> Tensor:
    """Returns latent vectors (N, Z) on `device`.

    Raises:
        UserError: They have another shape, or are not finite.
    """
    latents = as_tensor("z", z, device)
    if latents.ndim != 2 or latents.shape[1] != latent_size or not len(latents):
        one = "; one vector is a batch of its own: z[None]" if tuple(latents.shape) == (latent_size,) else ""
        raise UserError(
            f"z of shape {tuple(latents.shape)}: must have shape (N, {latent_size}), N >= 1, a row for each "
            f"latent vector{one}."
        )
    if not bool(latents.isfinite().all()):
        raise UserError("z: holds a number that is not finite.")
    return latents


def checked_labels(labels: Numbers | int | None, count: int, classes: int, device: torch.device) -> Tensor:
    """Returns the conditions (N, classes) of labels, on `device`; a VAE, of 0 classes, has empty ones.

    Args:
        labels: Whole numbers (N,), or one for all.
        count: N.
        classes: The size of the model's condition.
        device: Where they are wanted.

    Raises:
        UserError: A CVAE is given no labels, of another number, or of a class that it does not know.

    Examples:
        >>> checked_labels(1, 2, 3, torch.device("cpu"))
        tensor([[0., 1., 0.],
                [0., 1., 0.]])
    """
    if not classes:
        return torch.zeros(count, 0, device=device)
    valid = f"Valid: whole numbers from 0 to {classes - 1}."
    if labels is None:
        raise UserError(f"labels: a CVAE needs the class of every image. {valid}")
    given = as_tensor("labels", labels, device, torch.float64 if device.type != "mps" else torch.float32)
    if given.ndim == 0:
        given = given.expand(count)
    if given.shape != (count,):
        raise UserError(
            f"labels of shape {tuple(given.shape)}: must have shape ({count},), or be one for all."
        )
    whole = given.to(torch.int64)
    wrong = (whole != given) | (whole < 0) | (whole >= classes)
    if bool(wrong.any()):
        raise UserError(f"labels: {float(given[wrong][0]):g} is no class of this model. {valid}")
    return one_hot(whole, classes)


def checked_dimensions(dimensions: Sequence[int] | Tensor, latent_size: int) -> list[int]:
    """Returns numbers of latent dimensions as a list.

    Raises:
        UserError: A number is no latent dimension, or the list is empty.
    """
    valid = f"Valid: 0 to {latent_size - 1}."
    if is_number(dimensions):
        raise UserError(f"dimensions={quoted(dimensions)}: must be a list of latent dimensions. {valid}")
    numbers = [checked_count("dimensions", number, 0) for number in dimensions]
    for number in numbers:
        if number >= latent_size:
            raise UserError(f"dimensions: {number} is no latent dimension. {valid}")
    if not numbers:
        raise UserError(f"dimensions=[]: must name at least one. {valid}")
    return numbers


def checked_count(name: str, value: Any, least: int = 1, most: int = MOST) -> int:
    """Returns a whole number from `least` to `most`.

    Raises:
        UserError: The value is no such number.

    Examples:
        >>> checked_count("count", 8)
        8
        >>> checked_count("count", 0)
        Traceback (most recent call last):
        vae_lab.errors.UserError: count=0: must be a whole number from 1 to 1000000.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if not least <= number <= most:
        raise UserError(f"{name}={quoted(value)}: must be a whole number from {least} to {most}.")
    return number


def checked_seed(seed: Any) -> int:
    """Returns a seed as a plain whole number, so that equal numbers of any kind start the same draws.

    Raises:
        UserError: It is no whole number.

    Examples:
        >>> checked_seed(np.int64(3)), checked_seed(True)
        (3, 1)
    """
    try:
        return int(operator.index(seed))
    except TypeError:
        raise UserError(f"seed={quoted(seed)}: must be a whole number.") from None


def is_number(value: Any) -> bool:
    """Returns whether a value is a single number: Python's, NumPy's or a tensor of no axes.

    Examples:
        >>> is_number(7), is_number(torch.tensor(7)), is_number([7]), is_number(None)
        (True, True, False, False)
    """
    return isinstance(value, int | float) or getattr(value, "shape", None) == ()


def checked_number(name: str, value: Any) -> float:
    """Returns a finite number.

    Raises:
        UserError: The value is no such number.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{name}={quoted(value)}: must be a finite number.")
    return number


def as_tensor(name: str, value: Any, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Returns numbers, or a list of arrays of one shape, as a tensor on `device`.

    Raises:
        UserError: They are no numbers of one shape; the message begins with `name`.
    """
    try:
        if isinstance(value, Sequence) and value and hasattr(value[0], "shape"):
            return torch.stack([_tensor(part).to(device, dtype) for part in value])
        return _tensor(value).to(device, dtype)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{name}: are no numbers of one shape: {quoted(error, 200)}.") from None


def _tensor(value: Any) -> Tensor:
    """Returns numbers as a tensor, where they lie."""
    if isinstance(value, Tensor) or not hasattr(value, "__array__"):
        return torch.as_tensor(value).detach()
    array = np.asarray(value)  # a table's column, too, whatever its index is
    # PyTorch takes no strides below 0, no foreign order of bytes, and warns of what cannot be written to.
    return torch.as_tensor(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))
