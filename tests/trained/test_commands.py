"""`vae-lab sample`, `interpolate`, `traverse` and `reconstruct`, in this process and with real models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image, ImageDraw

from vae_lab.cli.group import commands
from vae_lab.cli.sample import parsed_labels
from vae_lab.errors import UserError
from vae_lab.report.drawing import Drawing
from vae_lab.report.pictures import image_grid
from vae_lab.trained import sheets
from vae_lab.trained.model import TrainedModel

Command = Callable[..., Result]
CVAE, VAE = "reference:cvae L3 Z15 s0", "reference:vae L3 Z15 s0"


@pytest.fixture
def command(uri: str, folder: Path) -> Command:
    """A command in an empty folder, on the store with the study."""

    def run(*words: str) -> Result:
        return CliRunner().invoke(commands, [*words, "--uri", uri], standalone_mode=False)

    return run


LINES = [
    (("sample", "reference:best"), "samples.png"),
    (("sample", CVAE, "--digits", "0-2,7", "--count", "4", "--seed", "3"), "samples.png"),
    (("sample", CVAE, "--digits", "5", "--count", "7", "--out", "five.png"), "five.png"),
    (("interpolate", VAE, "--from", "3", "--to", "8"), "interpolation.png"),
    (("interpolate", "reference:best"), "interpolation.png"),
    (("traverse", VAE), "traversal.png"),
    (("traverse", CVAE, "--around", "5", "--rows", "3", "--steps", "5", "--span", "2"), "traversal.png"),
    (("reconstruct", VAE), "reconstruction.png"),
]


@pytest.mark.parametrize(("line", "file"), LINES, ids=[" ".join(line[:1] + line[2:]) for line, _ in LINES])
def test_a_picture_is_drawn_and_said(
    command: Command, folder: Path, line: tuple[str, ...], file: str
) -> None:
    result = command(*line)
    assert result.exception is None
    with Image.open(folder / file) as image:
        size, colours = image.size, np.asarray(image.convert("L"))
    assert result.output.splitlines()[0] == f"{folder / file}  {size[0]} x {size[1]} pixels"
    named = line[1].partition(":")[2].replace("best", "")
    assert named in result.output
    assert colours.min() < 30
    assert colours.max() > 225


def test_an_earlier_picture_of_the_labs_is_replaced_and_nothing_else(command: Command, folder: Path) -> None:
    assert command("sample", VAE, "--count", "4").exception is None
    first = (folder / "samples.png").read_bytes()
    assert command("sample", VAE, "--count", "4").exception is None
    assert (folder / "samples.png").read_bytes() == first
    assert command("sample", VAE, "--count", "4", "--seed", "1").exception is None
    assert (folder / "samples.png").read_bytes() != first
    Image.new("L", (4, 4)).save("mine.png")
    with pytest.raises(UserError, match=r"mine\.png: is there and no picture of the lab's"):
        raise_of(command("sample", VAE, "--out", "mine.png"))


def raise_of(result: Result) -> None:
    assert result.exception is not None
    raise result.exception


def test_what_was_done_to_a_picture_of_ones_own_is_said(command: Command, folder: Path) -> None:
    picture = Image.new("RGB", (300, 500), "white")
    ImageDraw.Draw(picture).line([(150, 100), (150, 400)], fill="black", width=40)
    picture.save("one.jpg")
    result = command("reconstruct", CVAE, "one.jpg", "4")
    assert result.exception is None
    said = result.output.splitlines()[0]
    assert said.startswith("one.jpg: 300 x 500 pixels; ")
    assert "inverted, as its ground is light" in said
    assert "taken as class " in said
    given = command("reconstruct", CVAE, "one.jpg", "--digit", "1", "--no-invert").output
    assert "taken as class" not in given
    assert "inverted" not in given


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (("sample", "reference"), "reference: is a study of 10 runs; which of them?"),
        (("sample", VAE, "--digits", "3"), "label=3: vae L3 Z15 s0 is a VAE"),
        (("sample", CVAE, "--digits", "12"), "labels: 12 is no class of this model"),
        (("sample", CVAE, "--labels", "a-b"), "--digits or --labels a-b: must be classes"),
        (("sample", CVAE, "--count", "0"), "count=0: must be a whole number from 1 to 2000"),
        (("sample", CVAE, "--digits", "0-9", "--count", "50"), "count=50: must be a whole number from"),
        (("sample", VAE, "--out", "x.gif"), "--out x.gif: the picture is a PNG"),
        (("sample", VAE, "--out", "no/x.png"), "--out no/x.png: there is no folder no"),
        (("interpolate", VAE, "--from", "x.png"), "x.png: there is no such file"),
        (("interpolate", VAE, "--from", "11"), "label=11: no held-out image has it"),
        (("interpolate", VAE, "--steps", "1"), "steps=1: must be a whole number from 2 to 38"),
        (("traverse", VAE, "--steps", "1"), "steps=1: must be a whole number from 2 to 40"),
        (("traverse", VAE, "--span", "nan"), "span=nan: must be a finite number"),
        (("traverse", VAE, "--rows", "16"), "rows=16: must be a whole number from 1 to 15"),
        (
            ("reconstruct", CVAE, "3", "--digit", "7"),
            "--digit 7: is said of pictures of your own",
        ),
        (("reconstruct", CVAE, "--invert"), "--invert: is said of pictures of your own, and no file"),
        (("reconstruct", CVAE, "3", "--no-invert"), "--no-invert: is said of pictures of your own"),
        (
            ("reconstruct", VAE, "x.png", "--digit", "9"),
            "--digit 9: vae L3 Z15 s0 is a VAE, which is told",
        ),
        (("reconstruct", VAE, "~no-such-user/x.png"), "~no-such-user/x.png: no user has this home folder"),
        (("interpolate", VAE, "--to", "~no-such-user/x"), "~no-such-user/x: no user has this home folder"),
        (("traverse", VAE, "--around", "~no-such-user/x"), "~no-such-user/x: no user has this home folder"),
        (("reconstruct", VAE, "."), ".: is no picture that can be read"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    command: Command, folder: Path, line: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError) as raised:
        raise_of(command(*line))
    assert str(raised.value).startswith(message)
    assert len(str(raised.value).splitlines()) == 1
    assert [*folder.iterdir()] == []


@pytest.mark.parametrize("text", ["", "3-1", "-1", "0-999999", "1;2", "1-2-3", "²"])
def test_labels_are_numbers_and_spans_of_them(text: str) -> None:
    with pytest.raises(UserError, match="must be classes"):
        parsed_labels(text)


def test_dimensions_that_are_not_drawn_are_said(vae: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    titles = []

    def drawn(*parts: Any) -> Drawing:
        titles.append(parts[4].splitlines()[1])
        return image_grid(*parts)

    monkeypatch.setattr(sheets, "image_grid", drawn)
    sheets.traversals(vae, None, None, 2, 3.0)
    sheets.traversals(vae, None, 3, 2, 3.0)
    monkeypatch.setattr(sheets, "HIGHEST", 4)
    sheets.traversals(vae, None, None, 2, 3.0)
    first = [f"along the first {count} of 15 latent dimensions from" for count in (3, 4)]
    starts = ["along each latent dimension from", *first]
    assert [title.startswith(start) for title, start in zip(titles, starts, strict=True)] == [True] * 3, (
        titles
    )
    with pytest.raises(UserError, match="rows=5: must be a whole number from 1 to 4"):
        sheets.traversals(vae, None, 5, 2, 3.0)
