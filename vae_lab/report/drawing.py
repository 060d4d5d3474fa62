"""Drawings by Matplotlib: as inline SVG in colours that a page decides, and as pictures that stand alone.

A drawing names its colours C0 to C10: eight for series, then INK, MUTED and RULE. In SVG they become the
page's CSS variables, so that light and dark are the page's affair; a picture has the page's light colours.
"""

from __future__ import annotations

import functools
import io
import re
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from cycler import cycler
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

from vae_lab import files
from vae_lab.errors import visible, visible_lines

SERIES = 8  # colours that the page has: --c0 to --c7
INK, MUTED, RULE = "C8", "C9", "C10"
MARKERS = "osD^vP"
LONGEST = 24  # letters of a label; a longer one would leave no room for the curves
TALLEST = 40.0  # inches of a picture; Matplotlib draws no more than 65,535 pixels
TITLE_HEIGHT = 0.3  # inches
DOTS = 150  # an inch of a picture
BOX = "\u25a1"  # for a sign that a font lacks
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be selected, and takes the page's font
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "font.size": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "text.color": INK,
    "axes.linewidth": 0.8,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
_VARIABLES = {f"#0000{16 + i:02x}": f"var(--c{i})" for i in range(SERIES)}
_VARIABLES |= {"#010101": "currentColor", "#020202": "var(--muted)", "#030303": "var(--rule)"}
_style = threading.Lock()  # Matplotlib's style is global, and runs draw in several threads


class Drawing(NamedTuple):
    """What draws on an empty figure, and the figure's size in inches."""

    name: str  # of its file; on a page it tells the drawing from others
    draw: Callable[[Figure], None]
    width: float
    height: float
    title: str = ""  # of a picture that stands alone
    layout: Any = "constrained"


def svg(drawing: Drawing) -> str:
    """Returns the drawing as an inline SVG element without a size of its own, equal on every call."""
    written = io.StringIO()
    with _drawn(drawing, list(_VARIABLES)) as figure:
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    text = written.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", text, flags=re.DOTALL)
    head, end, rest = text.partition(">")
    view = re.search(r'viewBox="[^"]*"', head)
    assert view is not None
    for placeholder, variable in _VARIABLES.items():
        rest = rest.replace(placeholder, variable)
    return f'<svg {view[0]} aria-hidden="true"{end}{rest}'


def save(drawing: Drawing, file: str | Path) -> None:
    """Writes the drawing with its title as a picture of its own, in the format of the file's suffix."""
    with standalone_figure(drawing) as figure:
        figure.savefig(file, dpi=DOTS)


def save_figures(folder: Path, drawings: Iterable[Drawing]) -> None:
    """Writes the drawings as PNG files under `folder`/figures."""
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for drawing in drawings:
        save(drawing, folder / "figures" / f"{drawing.name}.png")


@contextmanager
def standalone_figure(drawing: Drawing) -> Iterator[Figure]:
    """Yields the figure of a picture that stands alone, with its title and in the page's light colours."""
    taller = drawing._replace(height=drawing.height + TITLE_HEIGHT * bool(drawing.title))
    with _drawn(taller, _light_colours()) as figure:
        if drawing.title:
            figure.suptitle(drawing.title, fontsize=11)
        for text in figure.findobj(Text):
            assert isinstance(text, Text)
            text.set_text(_with_boxes(text.get_text(), *text.get_fontfamily()))
        yield figure


@contextmanager
def _drawn(drawing: Drawing, colours: Sequence[str]) -> Iterator[Figure]:
    """Yields the figure with the drawing on it; it must be written before the style is left."""
    # The salt makes the SVG's ids those of the drawing: equal on every call, different between drawings.
    changes: dict[Any, Any] = {"axes.prop_cycle": cycler(color=colours), "svg.hashsalt": drawing.name}
    with _style, warnings.catch_warnings(), rc_context({**STYLE, **changes}):
        warnings.filterwarnings("ignore", "Glyph")  # the page's font may have what Matplotlib's lacks
        figure = Figure(figsize=(drawing.width, drawing.height), layout=drawing.layout)
        drawing.draw(figure)
        for text in figure.findobj(Text):
            assert isinstance(text, Text)
            text.set_text(visible_lines(text.get_text()))
        yield figure


@functools.cache
def _light_colours() -> list[str]:
    """The page's light colours in the order of C0 to C10."""
    style = (
        (files.PACKAGE / "report" / "templates" / "page.css")
        .read_text(encoding="utf-8")
        .partition("@media")[0]
    )
    shades = dict(re.findall(r"--(\w+): (#\w+)", style))
    return [shades[name] for name in (*(f"c{i}" for i in range(SERIES)), "ink", "muted", "rule")]


def _with_boxes(text: str, *family: str) -> str:
    """A text with a box for each sign that Matplotlib's font lacks, of which it would warn."""
    known = _known_characters(family)
    return "".join(sign if ord(sign) in known or sign == "\n" else BOX for sign in text)


@functools.cache
def _known_characters(family: tuple[str, ...]) -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties(family=list(family)))).get_charmap())


def colour(number: int) -> str:
    """The name of the page's colour of that number; they repeat after SERIES.

    >>> colour(0), colour(9)
    ('C0', 'C1')
    """
    return f"C{number % SERIES}"


def shortened(text: str, longest: int = LONGEST) -> str:
    """A text of at most `longest` letters, all of them visible.

    >>> shortened("a name of more letters than fit")
    'a name of more letters …'
    """
    text = visible(text[: longest + 1])
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def name_axes(axes: Axes, horizontal: str, vertical: str) -> None:
    """Names the axes, with a grid behind what is drawn."""
    axes.set_xlabel(horizontal)
    axes.set_ylabel(vertical)
    axes.grid(True)
    axes.set_axisbelow(True)


def plain_numbers(axis: Axis) -> None:
    """Writes the numbers of a logarithmic axis as they are: 0.1, 1, 10."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def mean_and_band(
    axes: Axes, curves: Sequence[Sequence[float]], shade: str, *, linewidth: float, **line: Any
) -> list[float]:
    """Draws the replicates' mean and range from 1 on, and returns the means.

    Args:
        axes: where to draw.
        curves: one a replicate; where some are longer, the mean goes on over those.
        shade: the colour of the line and of the band.
        linewidth: in points; a wider line has a darker band.
        line: further properties of the line, as Matplotlib names them.
    """
    length = max(map(len, curves))
    values = [np.array([curve[i] for curve in curves if i < len(curve)]) for i in range(length)]
    steps, means = np.arange(1, length + 1), [float(column.mean()) for column in values]
    if length == 1:  # makes no line
        line = {"marker": "o", "markersize": 3, **line}
    axes.plot(steps, means, color=shade, linewidth=linewidth, **line)
    if len(curves) > 1:
        low, high = [column.min() for column in values], [column.max() for column in values]
        axes.fill_between(steps, low, high, color=shade, alpha=0.1 * linewidth, linewidth=0)
    return means
