"""The picture that a command makes of a trained model: written, and said where it is and what it shows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from vae_lab.cli.terminal.messages import echo

if TYPE_CHECKING:
    from vae_lab.report.drawing import Drawing
    from vae_lab.trained.model import TrainedModel
    from vae_lab.trained.subjects import Subject


def say_changes(subjects: Iterable[Subject]) -> None:
    """Prints what was done to each picture of the user's."""
    for subject in subjects:
        if subject.changes:
            echo(f"{subject.words}: {'; '.join(subject.changes)}")


def place(out: str) -> Path:
    """Returns the file of a picture, before a model is loaded for it.

    Raises:
        UserError: Its name does not end in .png, its folder is not there, or it is there and not the lab's.
    """
    from vae_lab.trained.saving import check_place

    check_place(file := Path(out))
    return file


def write(drawing: Drawing, lab: TrainedModel, file: Path) -> None:
    """Writes a drawing and prints its file, its size and whose it is.

    Raises:
        OSError: It cannot be written.
    """
    from vae_lab.trained.saving import save

    width, height = save(drawing, file)
    chosen = f", {lab.chosen}" if lab.chosen else ""
    echo(f"{file.absolute()}  {width} x {height} pixels")
    echo(f"{lab.run.name}{chosen}, run {lab.run.run_id}")
