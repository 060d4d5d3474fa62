"""Images of one's own on the explorer's page: opened pictures and drawings, on data of other shapes, too."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torch.nn import functional

from tests.trained.explorer.conftest import images, said, with_name
from tests.trained.test_own_pictures import seven
from vae_lab.data import Images
from vae_lab.models import VAE
from vae_lab.trained.explorer.contents import gather
from vae_lab.trained.explorer.page import html
from vae_lab.trained.model import TrainedModel

pytestmark = pytest.mark.timeout(240)


def of_shape(lab: TrainedModel, height: int, width: int) -> TrainedModel:
    """A model of the digits in the middle of images of another shape, on a dark ground."""

    def placed(images: Images) -> Images:
        scale = min(height, width) // 14
        large = images.pixels.reshape(-1, 8, 8).repeat_interleave(scale, 1).repeat_interleave(scale, 2)
        rows, columns = height - 8 * scale, width - 8 * scale
        sides = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
        return Images(functional.pad(large, sides).flatten(1), images.labels, images.peak)

    other = with_name(lab, "other", VAE(height * width, 0, 5, layers=1, hidden_size=8).eval())
    other.shape = (1, height, width)
    other.data = lab.data._replace(
        train=placed(lab.data.train), test=placed(lab.data.test), shape=other.shape, checksum="0" * 12
    )
    return other


@pytest.fixture(scope="module")
def large(models: list[TrainedModel]) -> TrainedModel:
    """A model of 28 x 28 images."""
    return of_shape(models[0], 28, 28)


@pytest.fixture(scope="module")
def large_page(large: TrainedModel, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the page of that model lies."""
    file = tmp_path_factory.mktemp("large") / "large.html"
    file.write_text(html(gather([large])), encoding="utf-8")
    return file.as_uri()


def chosen(page: Any, picture: Image.Image, name: str = "own.png") -> np.ndarray[Any, Any]:
    """What the page makes of a picture that is opened there."""
    written = io.BytesIO()
    picture.save(written, "PNG")
    content = {"name": name, "mimeType": "image/png", "buffer": written.getvalue()}
    page.locator("#file").set_input_files(content)
    page.locator("#said", has_text=name).wait_for(state="attached")
    return np.array(page.evaluate("Array.from(session.start.image)"))


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (seven((400, 400), "black", "white"), ["centred, scaled to 28 × 28"]),
        (seven((400, 400), "white", "black"), ["inverted, centred"]),
        (seven((400, 400), "#00000000", "#ffffffff", "RGBA"), ["what is transparent made black, centred"]),
        (seven((400, 400), "#00000000", "#000000ff", "RGBA"), ["what is transparent made white, inverted"]),
        (seven((400, 400), "#b4b4b4", "#202020"), ["inverted, contrast raised: 0.29 to 0.87 made 0 to 1"]),
        (seven((300, 300), "#d8d0b8", "#203080"), ["colour made grey, inverted, contrast raised"]),
        (seven((500, 500), "black", "#404040"), ["contrast raised: 0.00 to 0.25"]),
    ],
    ids=["dark", "light", "light on nothing", "dark on nothing", "grey paper", "paper", "faint"],
)
def test_the_page_makes_of_a_picture_what_python_makes(
    opened: Any, large_page: str, large: TrainedModel, picture: Image.Image, words: list[str]
) -> None:
    page = opened(large_page)
    image = chosen(page, picture)
    for part in words:
        assert part in said(page)
    assert ("inverted" in said(page)) == any("inverted" in part for part in words)
    expected = large.read(picture).image.flatten().cpu().numpy()
    assert abs(image - expected).max() <= 1 / 255
    assert image.max() > 0.95
    assert np.median(image) < 0.02


def speckled(lab: TrainedModel, channels: int) -> TrainedModel:
    """A model of images that have no even ground, 10 x 6."""
    size, generator = channels * 60, torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (40, size), generator=generator, dtype=torch.uint8)
    other = with_name(lab, "speckled", VAE(size, 0, 5, layers=1, hidden_size=8).eval())
    other.shape = (channels, 10, 6)
    held_out = Images(pixels, torch.zeros(40, dtype=torch.int64), 255)
    other.data = lab.data._replace(train=held_out, test=held_out, shape=other.shape, checksum="1" * 12)
    return other


@pytest.mark.parametrize("kind", ["digits", "large", "oblong", "speckled", "coloured"])
def test_a_pixel_read_by_the_page_is_that_read_by_python(
    opened: Any, models: list[TrainedModel], tmp_path: Path, kind: str
) -> None:
    digits = models[0]
    lab = {
        "digits": lambda: digits,
        "large": lambda: of_shape(digits, 28, 28),
        "oblong": lambda: of_shape(digits, 16, 40),
        "speckled": lambda: speckled(digits, 1),
        "coloured": lambda: speckled(digits, 3),
    }[kind]()
    file = tmp_path / "own.html"
    file.write_text(html(gather([lab])), encoding="utf-8")
    page = opened(file.as_uri())
    grain = np.random.default_rng(0).integers(0, 256, (45, 61, 3), dtype=np.uint8)
    pictures = [
        seven((101, 64), "#d8d0b8", "#203080").filter(ImageFilter.GaussianBlur(1)),
        seven((1500, 1100), "black", "white"),
        Image.fromarray(grain),
        Image.fromarray(grain[: lab.shape[1], : lab.shape[2], 0]),
        seven((lab.shape[2], lab.shape[1]), "white", "black"),
        seven((5, 3), "white", "black"),
        Image.new("L", (30, 40), "white"),
    ]
    for number, picture in enumerate(pictures):
        image = chosen(page, picture, f"{number}.png")
        expected, changes = lab.read(picture)
        error = abs(image - expected.flatten().cpu().numpy()).max()
        assert error <= 1 / 255, f"picture {number}: {said(page)}; {changes}"
        assert ("inverted" in said(page)) == ("inverted" in " ".join(changes)), f"picture {number}"


@pytest.mark.parametrize("ground", ["white", "#909090", "black"])
def test_an_empty_sheet_is_said_to_be_one(
    opened: Any, large_page: str, large: TrainedModel, ground: str
) -> None:
    page = opened(large_page)
    sheet = Image.new("L", (60, 50), ground)
    assert chosen(page, sheet).max() < 0.02
    assert "nothing is drawn on it" in said(page)
    image, changes = large.read(sheet)
    assert float(image.max()) < 0.02
    assert "nothing is drawn on it" in changes


@pytest.mark.parametrize(("height", "width"), [(28, 14), (14, 28)])
def test_ink_lies_where_the_pointer_is_on_images_that_are_no_squares(
    opened: Any, models: list[TrainedModel], tmp_path: Path, height: int, width: int
) -> None:
    file = tmp_path / "oblong.html"
    file.write_text(html(gather([of_shape(models[0], height, width)])), encoding="utf-8")
    page = opened(file.as_uri())
    page.locator("#centred").uncheck()
    pad = page.locator("#pad")
    box = pad.bounding_box()
    assert box["width"] / box["height"] == pytest.approx(width / height, rel=0.03)
    for share in (0.1, 0.5, 0.9):
        page.locator("#clear").click()
        pad.scroll_into_view_if_needed()
        box = pad.bounding_box()
        page.mouse.move(box["x"] + share * box["width"], box["y"] + share * box["height"])
        page.mouse.down()
        page.mouse.up()
        image = np.reshape(page.evaluate("Array.from(session.start.image)"), (height, width))
        assert image.max() > 0.5, f"a dot at {share} on {box}"
        rows, columns = np.indices(image.shape) + 0.5
        for places, side in ((rows, height), (columns, width)):
            centre = (places * image).sum() / image.sum() / side
            assert centre == pytest.approx(share, abs=0.6 / side), "a dot at the edge is cut"
    pad.focus()
    for key in ["ArrowLeft"] * 30 + ["ArrowUp"] * 30:
        page.keyboard.press(key)
    pen, paper = page.locator("#pen").bounding_box(), pad.bounding_box()
    for edge, length in (("x", "width"), ("y", "height")):
        assert pen[edge] + pen[length] / 2 == pytest.approx(paper[edge], abs=2), "the pen is in the corner"


def test_a_file_that_is_no_picture_is_said_where_it_is_seen(opened: Any, address: str) -> None:
    for width in (360, 1280):
        page = opened(address, width)
        page.locator("#dimension-8").scroll_into_view_if_needed()
        content = {"name": "no.png", "mimeType": "image/png", "buffer": b"no picture"}
        page.locator("#file").set_input_files(content)
        trouble = page.locator("#trouble", has_text="no.png is no picture that this browser can read.")
        trouble.wait_for(state="visible")
        box = trouble.bounding_box()
        assert 0 <= box["x"] < box["x"] + box["width"] <= width
        assert 0 <= box["y"] < box["y"] + box["height"] <= 860
        page.locator("#prior").click()
        images(page)
        assert trouble.is_hidden()


def test_what_keys_point_at_is_said_and_what_a_mouse_points_at_is_not(opened: Any, address: str) -> None:
    page = opened(address)
    at_first = said(page)
    page.locator("canvas.map").first.focus()
    words = []
    for _ in range(3):
        page.keyboard.press("Shift+ArrowRight")
        words.append(said(page))
    assert len({*words, at_first}) == 4, words
    assert all(
        re.match(r"Held-out image \d|An image decoded by .* at −?\d+\.\d\d, −?\d", one) for one in words
    )
    page.keyboard.press("Escape")
    assert said(page) == at_first
    box = page.locator("canvas.map").first.bounding_box()
    page.mouse.move(box["x"] + 9, box["y"] + 9)
    assert said(page) == at_first


def test_a_file_can_be_chosen_twice(opened: Any, address: str) -> None:
    page = opened(address)
    chosen(page, seven((40, 40), "black", "white"))
    assert page.locator("#file").input_value() == ""


def test_a_finger_scrolls_the_page_from_all_images_but_those_to_draw_on(opened: Any, address: str) -> None:
    page = opened(address, 360, has_touch=True)
    images(page)
    held = page.locator("canvas").evaluate_all(
        "all => all.filter((one) => getComputedStyle(one).touchAction !== 'auto')"
        ".map((one) => one.id || one.className)"
    )
    assert held == ["pad", *["map"] * 4]
