"""The terminal: a console on which what a store says is shown, and neither steers it nor is markup."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from vae_lab.errors import visible, visible_lines

PIPE_WIDTH = 200  # characters a line where no terminal says how wide it is


class Terminal(Console):
    r"""A console of rich's that takes no markup and shows control characters as their escapes.

    Examples:
        >>> Terminal(width=40).print("[bold]\x1b[2J[/bold] \\[/x]")
        [bold]\x1b[2J[/bold] \[/x]
    """

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, width=width, markup=False, highlight=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Called by rich for all that is printed; the controls are rich's own, the texts anybody's."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible_lines(segment.text))


def output() -> Terminal:
    """Standard output; a pipe or a file is given the width that the tables need."""
    known = Terminal()
    return known if known.is_terminal else Terminal(width=PIPE_WIDTH)


def plain(text: str, style: str = "") -> Text:
    """Returns a text of others for the terminal, on one line."""
    return Text(visible(text), style)
