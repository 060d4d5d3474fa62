"""The page of a study: one HTML file that needs nothing else, and the same in Markdown."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
from collections.abc import Mapping
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from vae_lab import __version__
from vae_lab.errors import UserError
from vae_lab.files import replace_file
from vae_lab.report import tables
from vae_lab.report.drawing import Drawing, svg
from vae_lab.report.page.contents import Contents
from vae_lab.report.pictures import Picture
from vae_lab.report.tables import Table
from vae_lab.report.template import filled, style

ARTIFACT = "report.html"  # of the parent run; report.md beside it
SEAL = "\n<!-- Written by vae_lab. SHA-256 of all above:"  # ends both files, so that the lab knows its own
WIDEST = 640  # pixels of a picture on the page
HIGHEST = 16_383  # pixels; WebP has no more
LONGEST_FILE = 60  # letters of the page's file name, each of which can take four bytes


def html(contents: Contents) -> str:
    """Returns a complete page; every text that comes from a run is escaped."""
    return filled(
        "page.html.jinja",
        {"table": _table_markup, "svg": _svg_markup, "data": data},
        page=contents,
        style=Markup(style("page.css", "table.css")),
        version=__version__,
    )


def markdown(contents: Contents) -> str:
    """Returns the page's words, tables and commands; its pictures are in the HTML page only."""
    text = filled(
        "page.md.jinja",
        {"table": tables.markdown, "text": tables.markdown_text, "code": _code},
        page=contents,
        version=__version__,
    )
    return re.sub(r"\n{3,}", "\n\n", text)


def write(contents: Contents, file: Path) -> tuple[Path, Path]:
    """Writes the HTML page to `file` and the Markdown beside it; returns both files.

    Raises:
        UserError: One of them is there and not as the lab wrote it; nothing is written.
    """
    beside = file.with_suffix(".md")
    replace_own({file: html(contents), beside: markdown(contents)}, "--out")
    return file, beside


def replace_own(texts: Mapping[Path, str], option: str) -> None:
    """Writes pages, each in the place of an earlier one of the lab's or of nothing.

    Args:
        texts: Of every file.
        option: With which the user can choose another name.

    Raises:
        UserError: A file is there and not as the lab wrote it; nothing is written.
    """
    for path in texts:
        if os.path.lexists(path) and not is_own(path):
            raise UserError(
                f"{path}: is there and no page of the lab's, or has been changed since. Remove it, or choose "
                f"another name with {option}."
            )
    for path, text in texts.items():
        replace_file(path, (text + _seal(text.encode())).encode())


def is_own(path: Path) -> bool:
    """Returns whether a file is a page that the lab made and nobody has changed since."""
    try:
        text, sign, digest = path.read_bytes().rpartition(SEAL.encode())
    except OSError:
        return False
    return sign + digest == _seal(text).encode()


def _seal(text: bytes) -> str:
    return f"{SEAL} {hashlib.sha256(text).hexdigest()} -->\n"


def data(picture: Picture) -> str:
    """Returns the picture as a `data:` address, at most WIDEST pixels wide and HIGHEST high."""
    image = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
    written = io.BytesIO()
    share = min(WIDEST / image.width, HIGHEST / image.height)
    if share >= 1:
        image.save(written, "WEBP", lossless=True, method=2)
    else:  # a figure, where an older lab kept no plain grid
        size = (max(1, round(image.width * share)), max(1, round(image.height * share)))
        image.resize(size, Image.Resampling.LANCZOS).save(written, "WEBP", quality=85, method=2)
    return f"data:image/webp;base64,{base64.b64encode(written.getvalue()).decode()}"


def file_name(study: str) -> str:
    """Returns a study's name as the name of a file in whatever folder, which no file system finds too long.

    Examples:
        >>> file_name("layers x seed"), file_name("../../etc/passwd")
        ('layers-x-seed', 'etc-passwd')
    """
    return re.sub(r"[^\w.-]+", "-", study)[:LONGEST_FILE].strip("-.") or "study"


def _table_markup(table: Table) -> Markup:
    return Markup(tables.fragment(table))


def _svg_markup(drawing: Drawing) -> Markup:
    return Markup(svg(drawing))


def _code(text: str) -> str:
    """A block of code whose fence is longer than any run of backticks in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}sh\n{text}\n{fence}"
