"""Images as a picture that a notebook shows and a file can hold."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from vae_lab.errors import UserError
from vae_lab.evaluation.arguments import Numbers, as_tensor, checked_count
from vae_lab.report.pictures import enlarged, tile

SIDE = 56  # screen pixels of an image, about, where no scale is named
COLUMNS = 10


def picture(images: Numbers, columns: int | None = None, scale: int | None = None) -> Image.Image:
    """Returns images side by side, with a line of one pixel between them, as a picture of Pillow's.

    A notebook shows it, and `.save("grid.png")` keeps it.

    Args:
        images: Pixels in [0, 1], (N, C, H, W); or (rows, columns, C, H, W), as `TrainedModel.traverse` gives.
        columns: Images in a row; 10 if there are no rows already.
        scale: Screen pixels a pixel; by default an image is at least 56 wide.

    Raises:
        UserError: They have another shape, or a number is out of range.

    Examples:
        >>> import torch
        >>> picture(torch.zeros(6, 1, 28, 28), columns=3).size
        (172, 114)
    """
    pixels = as_tensor("images", images, torch.device("cpu"))
    if pixels.ndim == 5:
        columns = pixels.shape[1] if columns is None else columns
        pixels = pixels.flatten(0, 1)
    if pixels.ndim != 4 or pixels.shape[1] not in (1, 3) or not pixels.numel():
        raise UserError(f"images of shape {tuple(pixels.shape)}: must have shape (N, 1 or 3, H, W), N >= 1.")
    shape: Sequence[int] = pixels.shape[1:]
    wide = min(checked_count("columns", COLUMNS if columns is None else columns), len(pixels))
    factor = checked_count("scale", max(1, -(-SIDE // shape[-1])) if scale is None else scale)
    grid = enlarged(tile(pixels.flatten(1), shape, wide), factor)
    return Image.fromarray(grid[..., 0] if grid.shape[-1] == 1 else grid)
