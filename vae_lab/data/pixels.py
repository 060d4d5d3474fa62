"""Pixels of a data set: checked, and both parts stored alike, as bytes where these suffice.

Shapes: N images, D pixels of an image over all channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vae_lab.data.batches import Images
from vae_lab.errors import UserError, quoted

BYTE = 255  # the largest
ROUNDING = 1e-6  # of white, by which floats may leave their range


def stored_alike(train: Images, test: Images) -> tuple[Images, Images]:
    """Returns both parts as bytes with their peaks, or as float32 from 0 to 1 with a peak of 1.

    Where no peak is given, white is 1 for fractions and 255 for whole numbers. Whole numbers up to 1 are
    black and white where the other part has fractions, as grey training images have beside a binarized test
    set.

    Args:
        train: Training images, numbers (N, D) of any type, with a peak that is None where none is given.
        test: Held-out images of the same kind.

    Raises:
        UserError: Pixels or peaks outside their range.

    Examples:
        >>> grey, binary = torch.tensor([[0.0, 0.3]]), torch.tensor([[0.0, 1.0]])
        >>> train, test = (Images(pixels, torch.zeros(1), None) for pixels in (grey, binary))
        >>> [images.peak for images in stored_alike(train, test)]
        [1, 1]
        >>> [images.peak for images in stored_alike(test, test)]
        [255, 255]
    """
    in_train, in_test = _has_fractions("train", train.pixels), _has_fractions("test", test.pixels)
    beside = in_train or in_test
    white = _checked_white("train", train, fractions=in_train, beside=beside)
    test_white = _checked_white("test", test, fractions=in_test, beside=beside)
    in_bytes = not beside and all(peak <= BYTE and peak.is_integer() for peak in (white, test_white))
    return _stored(train, white, in_bytes), _stored(test, test_white, in_bytes)


def _has_fractions(part: str, pixels: Tensor) -> bool:
    if not pixels.is_floating_point():
        return False
    if not bool(pixels.isfinite().all()):
        raise UserError(f"{part}: a pixel is not a finite number.")
    return bool((pixels != pixels.round()).any())


def _checked_white(part: str, images: Images, *, fractions: bool, beside: bool) -> float:
    """Returns the pixel value of white in a part, which has `fractions`, or is `beside` one that has."""
    low, high = float(images.pixels.min()), float(images.pixels.max())
    white = _checked_peak(part, images.peak, 1 if fractions or (beside and high <= 1) else BYTE)
    if low < -ROUNDING * white or high > (1 + ROUNDING) * white:
        raise UserError(
            f"{part}: pixels run from {low:g} to {high:g}; with peak={white:g}, which is white, they lie "
            f"between 0 and {white:g}."
        )
    if fractions and high <= 1 < white:
        raise UserError(
            f"{part}: pixels run from {low:g} to {high:g}; with peak={white:g} they would be black; "
            "fractions of white have peak=1."
        )
    return white


def _checked_peak(part: str, peak: object, default: int) -> float:
    try:
        white = float(default if peak is None else peak)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):
        white = math.nan
    if not 0 < white < math.inf:
        raise UserError(f"{part}: peak={quoted(peak)}: must be the pixel value of white, above 0.")
    return white


def _stored(images: Images, white: float, in_bytes: bool) -> Images:
    if in_bytes:
        return Images(images.pixels.to(torch.uint8), images.labels, int(white))
    return Images((images.pixels.to(torch.float32) / white).clamp(0, 1), images.labels, 1)
