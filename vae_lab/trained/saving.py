"""A drawing as a PNG file that takes the place of an earlier one of the lab's, and of nothing else."""

from __future__ import annotations

import io
import os
from pathlib import Path

from PIL import Image

from vae_lab.errors import UserError, quoted
from vae_lab.files import replace_file
from vae_lab.report.drawing import DOTS, Drawing, standalone_figure

SUFFIX = ".png"
SOFTWARE = "vae_lab"  # what a picture says made it


def check_place(file: Path) -> None:
    """Raises a UserError where no picture can be written: another suffix, no folder, a file of others."""
    if file.suffix.lower() != SUFFIX:
        raise UserError(f"--out {quoted(file)}: the picture is a PNG. Valid: a name that ends in {SUFFIX}.")
    if not file.parent.is_dir():
        raise UserError(f"--out {quoted(file)}: there is no folder {quoted(file.parent)}.")
    if os.path.lexists(file) and not _is_own(file):
        raise UserError(
            f"--out {quoted(file)}: is there and no picture of the lab's. Remove it, or choose another name."
        )


def save(drawing: Drawing, file: Path) -> tuple[int, int]:
    """Writes a drawing as a PNG file; returns its width and height in pixels.

    Raises:
        OSError: It cannot be written.
    """
    written = io.BytesIO()
    with standalone_figure(drawing) as figure:
        figure.savefig(written, format="png", dpi=DOTS, metadata={"Software": SOFTWARE})
    replace_file(file, written.getvalue())
    with Image.open(written) as image:
        return image.size


def _is_own(file: Path) -> bool:
    try:
        with Image.open(file, formats=["PNG"]) as image:
            return image.info.get("Software") == SOFTWARE
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
