"""The explorer in a notebook: the page in a frame, which works without the notebook's kernel."""

from __future__ import annotations

import html
from pathlib import Path

from vae_lab.files import from_start

HEIGHT = 860  # pixels of the frame


class Explorer:
    """A page of the explorer; a notebook shows it, and it can be saved as a file of its own.

    Args:
        text: The page.
        title: What it shows, for whoever does not see it.
        height: Of the frame, in pixels.
    """

    def __init__(self, text: str, title: str, height: int = HEIGHT) -> None:
        self.text, self.title, self.height = text, title, height

    def save(self, file: str | Path) -> Path:
        """Writes the page to a file, in the place of one that is there, and returns it."""
        path = from_start(Path(file))
        path.write_text(self.text, encoding="utf-8")
        return path

    def __repr__(self) -> str:
        """Returns what it shows and how large it is."""
        return f"Explorer({self.title!r}, {len(self.text.encode()) / 1e6:.1f} MB)"

    def _repr_html_(self) -> str:
        """Returns a frame without access to the notebook around it."""
        return (
            f'<iframe title="Explorer of {html.escape(self.title)}" sandbox="allow-scripts" '
            f'style="width: 100%; height: {self.height}px; border: 0" '
            f'srcdoc="{html.escape(self.text)}"></iframe>'
        )
