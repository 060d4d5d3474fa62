"""A page of the documentation: its files, indented below a comment with their path, and its commands."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from tests.house import ROOT

FILE = re.compile(
    r"    # ([\w/]+\.(?:py|yaml))\n((?:    .*\n|\n)*?)(?=    # [\w/]+\.(?:py|yaml)\n|    vae-lab |\S|\Z)"
)
COMMAND = re.compile(r"^    vae-lab (.+)$", re.MULTILINE)


def page(name: str) -> str:
    """Returns a page of docs/."""
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def files_of(text: str) -> dict[str, str]:
    """Returns the files of a page: path to content."""
    return {path: textwrap.dedent(content).strip("\n") + "\n" for path, content in FILE.findall(text)}


def commands_of(text: str) -> list[str]:
    """Returns what stands behind `vae-lab` in the commands of a page."""
    return COMMAND.findall(text)


def write_files(text: str, folder: Path) -> Path:
    """Writes the files of a page into a folder; returns it."""
    for path, content in files_of(text).items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
    return folder
