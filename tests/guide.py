"""The pages of the documentation: the files, commands and programs in them, and commands made quick."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.house import ROOT

README = "README.md"
BLOCK = re.compile(r"^```\w*\n((?:.*\n)*?)```$|(?<=\n\n)((?: {4}.*\n|\n)+)", re.MULTILINE)
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
SUBSTITUTED = re.compile(r"^source <\((.*?)\)")
NAME = re.compile(r"vae-lab ([\w-]+)")  # of a command, without anything that is asked of it
FILE = re.compile(r"# ([\w/]+\.(?:py|yaml))$")
COMMAND = re.compile(r"(?:\S*/)?(?:vae-lab|make|python3?|pytest|pip|mlflow|curl|export)(?= )|source <\(")


class Page(NamedTuple):
    """What stands in the blocks of a page, and the commands between its words."""

    name: str
    files: dict[str, str]  # path to content
    commands: list[str]
    mentioned: list[str]  # commands in a line of words
    programs: list[str]  # of Python
    shown: list[str]  # the first lines of everything else: what commands print, parts of files


def page(name: str) -> str:
    """Returns the text of README.md or of a page of docs/."""
    return (ROOT / ("" if name == README else "docs") / name).read_text(encoding="utf-8")


def pages() -> Iterator[Page]:
    """Yields README.md and every page of docs/ that people write."""
    yield from map(read, (README, *sorted(file.name for file in (ROOT / "docs").glob("*.md"))))


def read(name: str) -> Page:
    """Returns what stands in README.md or in a page of docs/."""
    text, contents = page(name), Page(name, {}, [], [], [], [])
    for fenced, indented in BLOCK.findall(text):
        if block := textwrap.dedent(fenced or indented).strip("\n"):
            _read_block(block, contents)
    spans = [" ".join(span.split()) for span in SPAN.findall(BLOCK.sub("\n\n", text))]
    contents.mentioned.extend(span for span in spans if COMMAND.match(span))
    return contents


def _read_block(block: str, contents: Page) -> None:
    """Adds a block to a page: a program as a whole, files up to the next command or file, and commands."""
    if re.match(r"import |from |vae_lab\.", block):
        contents.programs.append(block)
        return
    path, shown = "", False
    for line in block.replace("\\\n", "").split("\n"):
        if file := FILE.match(line):
            path = file[1]
            contents.files[path] = ""
        elif COMMAND.match(line):
            path, shown = "", False
            contents.commands.append(line)
        elif path:
            contents.files[path] = f"{contents.files[path]}{line}\n".lstrip("\n")
        elif not shown and line:
            shown = True
            contents.shown.append(line)


def words_of(lines: Sequence[str], in_place: Mapping[str, str]) -> list[list[str]]:
    """Returns the words of commands, without their comments.

    Args:
        lines: The commands as they stand on a page.
        in_place: Patterns of what a reader puts in, such as STUDY, and what stands in their place.
    """
    words = []
    for line in lines:
        given = SUBSTITUTED.sub(r"\1", line)
        for pattern, text in in_place.items():
            given = re.sub(pattern, text, given)
        words.append(shlex.split(given, comments=True))
    return words


def lines(
    page: Page, program: str, in_place: Mapping[str, str], *, blocks: bool = True, text: bool = True
) -> list[list[str]]:
    """Returns the words behind a program in the commands of a page's blocks, of its text, or of both."""
    given = [
        *(page.commands if blocks else ()),
        *(line for line in page.mentioned if text and not NAME.fullmatch(line)),
    ]
    return [words[1:] for words in words_of(given, in_place) if Path(words[0]).name == program]


def trains(words: Sequence[str]) -> bool:
    """Returns whether a command of `vae-lab` trains."""
    return words[0] == "train" and not {"--help", "--cfg"} & {*words}


def write_files(page: Page, folder: Path) -> Path:
    """Writes the files of a page into a folder; returns it."""
    for path, content in page.files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content.strip("\n") + "\n", encoding="utf-8")
    return folder


def scaled(words: Sequence[str], fewer: Mapping[str, Sequence[str]], short: Sequence[str] = ()) -> list[str]:
    """Returns a command with less to do: words in the place of others, and keys that it leaves open.

    Examples:
        >>> scaled(["train", "seeds=10"], {"seeds=10": ["seeds=1"]}, ["seeds=2", "train.epochs=1"])
        ['train', 'seeds=1', 'train.epochs=1']
    """
    given = [new for word in words for new in fewer.get(word, (word,))]
    keys = {word.partition("=")[0] for word in given}
    return [*given, *(word for word in short if word.partition("=")[0] not in keys)]
