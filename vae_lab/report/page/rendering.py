"""The page of a study: one HTML file that needs nothing else, and the same in Markdown."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from PIL import Image

from vae_lab import __version__, files
from vae_lab.report import tables
from vae_lab.report.page.contents import Contents
from vae_lab.report.pictures import Picture
from vae_lab.report.tables import Table

ARTIFACT = "report.html"  # of the parent run; report.md beside it
WIDEST = 640  # pixels of a picture on the page
LONGEST_FILE = 60  # letters of the page's file name, each of which can take four bytes


def html(contents: Contents) -> str:
    """A complete page; every text that comes from a run is escaped."""
    environment = Environment(
        loader=PackageLoader("vae_lab.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(table=_table, svg=Markup, data=data)
    templates = files.PACKAGE / "report" / "templates"
    style = "".join((templates / name).read_text() for name in ("page.css", "table.css"))
    return environment.get_template("page.html.jinja").render(
        page=contents, style=Markup(style), version=__version__
    )


def markdown(contents: Contents) -> str:
    """The page's words, tables and commands; its pictures are in the HTML page only."""
    environment = Environment(loader=PackageLoader("vae_lab.report"), trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(table=tables.markdown, text=tables.markdown_text, code=_code)
    text = environment.get_template("page.md.jinja").render(page=contents, version=__version__)
    return re.sub(r"\n{3,}", "\n\n", text)


def write(contents: Contents, file: Path) -> tuple[Path, Path]:
    """Writes the HTML page to `file` and the Markdown beside it; gives both places."""
    beside = file.with_suffix(".md")
    file.write_text(html(contents), encoding="utf-8")
    beside.write_text(markdown(contents), encoding="utf-8")
    return file, beside


def data(picture: Picture) -> str:
    """The picture as a `data:` address, at most WIDEST pixels wide."""
    image = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture[..., :3])
    written = io.BytesIO()
    if image.width <= WIDEST:
        image.save(written, "WEBP", lossless=True, method=2)
    else:  # a figure, where an older lab kept no plain grid
        size = (WIDEST, round(image.height * WIDEST / image.width))
        image.resize(size, Image.Resampling.LANCZOS).save(written, "WEBP", quality=85, method=2)
    return f"data:image/webp;base64,{base64.b64encode(written.getvalue()).decode()}"


def file_name(study: str) -> str:
    """A study's name as the name of a file in whatever folder, which no file system finds too long."""
    return re.sub(r"[^\w.-]+", "-", study)[:LONGEST_FILE].strip("-.") or "study"


def _table(table: Table) -> Markup:
    return Markup(tables.fragment(table))


def _code(text: str) -> str:
    """A block of code whose fence is longer than any run of backticks in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}sh\n{text}\n{fence}"
