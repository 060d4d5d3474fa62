from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter

from vae_lab.errors import UserError
from vae_lab.trained.model import TrainedModel
from vae_lab.trained.own_pictures import Look, adapted, look_of, open_picture

DARK = Look((1, 28, 28), ground=0.0, extent=20.0, centre=(13.5, 13.5))  # MNIST's


def seven(size: tuple[int, int], ground: str, ink: str, mode: str = "RGB") -> Image.Image:
    """A seven in the middle of a picture, a third of its height."""
    width, height = size
    picture = Image.new(mode, size, ground)
    left, right, top, bottom = width * 0.4, width * 0.6, height * 0.3, height * 0.63
    draw = ImageDraw.Draw(picture)
    draw.line([(left, top), (right, top), (width * 0.47, bottom)], fill=ink, width=max(2, height // 30))
    return picture


EXPECTED = adapted(seven((400, 400), "black", "white"), DARK).image


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (seven((400, 400), "black", "white"), []),
        (seven((1200, 1200), "white", "black"), ["inverted, as its ground is light"]),
        (seven((300, 300), "#d8d0b8", "#203080"), ["colour made grey", "inverted", "contrast raised"]),
        (seven((400, 400), "#00000000", "#ff0000ff", "RGBA"), ["what is transparent made white", "inverted"]),
        (seven((400, 400), "#00000000", "#ffffffff", "RGBA"), ["what is transparent made black"]),
        (seven((400, 400), "white", "black").convert("P"), ["inverted"]),
        (seven((400, 400), "white", "black").convert("1"), ["inverted"]),
        (
            Image.fromarray(np.asarray(seven((400, 400), "white", "black", "L"), np.uint16) * 257),
            ["values from 0 to 65535 made 0 to 1", "inverted"],
        ),
        (seven((500, 500), "black", "#404040"), ["contrast raised: 0.00 to 0.25"]),
    ],
    ids=["dark", "light", "paper", "clear", "light on nothing", "palette", "bits", "two bytes", "faint"],
)
def test_a_digit_of_any_size_and_colour_becomes_the_same_image(picture: Image.Image, said: list[str]) -> None:
    image, changes = adapted(picture, DARK)
    assert image.shape == (1, 1, 28, 28)
    assert changes[0] == f"{picture.width} x {picture.height} pixels"
    for words in said:
        assert words in "; ".join(changes)
    assert len(changes) >= len(said) + 2
    assert (image - EXPECTED).abs().mean() < 0.04  # a stroke may lie a pixel further
    assert image.amax() > 0.95


def test_it_has_the_size_and_place_of_the_models_images() -> None:
    look = look_of(EXPECTED)
    assert look.ground == 0
    assert look.extent == DARK.extent
    assert look.centre == pytest.approx(DARK.centre, abs=1)


def test_a_photo_with_shadow_and_grain_is_read(tmp_path: Path) -> None:
    drawn = seven((800, 800), "#b8b0a0", "#404050").filter(ImageFilter.GaussianBlur(2))
    pixels = np.asarray(drawn, np.float64)
    pixels *= np.linspace(0.85, 1.1, 800)[None, :, None]
    pixels += np.random.default_rng(0).normal(0, 6, pixels.shape)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / "photo.jpg")
    image, _ = adapted(open_picture(tmp_path / "photo.jpg"), DARK)
    assert (image - EXPECTED).abs().mean() < 0.05


def test_a_photo_lies_as_its_camera_was_held(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    seven((300, 400), "white", "black").save(tmp_path / "turned.jpg", exif=exif)
    assert open_picture(tmp_path / "turned.jpg").size == (400, 300)


def test_an_image_of_the_models_own_stays_as_it_is(vae: TrainedModel) -> None:
    images, _ = vae.examples(1)
    pixels = (images[0, 0].cpu().numpy() * 255).round().astype(np.uint8)
    image, changes = vae.read(Image.fromarray(pixels))
    assert changes == ["8 x 8 pixels", "taken as it is"]
    torch.testing.assert_close(image.cpu(), images.cpu(), atol=1 / 255, rtol=0)


def test_what_the_user_says_of_its_ground_counts() -> None:
    picture = seven((100, 100), "white", "black")
    assert "inverted" not in adapted(picture, DARK, invert=False).changes
    assert "inverted" in adapted(seven((100, 100), "black", "white"), DARK, invert=True).changes


@pytest.mark.parametrize(("height", "width"), [(16, 40), (40, 16)])
def test_a_drawing_keeps_its_proportions_on_images_that_are_no_squares(height: int, width: int) -> None:
    look = Look((1, height, width), 0.0, 32.0, (height / 2, width / 2))
    for size in ((100, 200), (200, 100), (100, 100)):
        picture = Image.new("L", (300, 300), "black")
        picture.paste("white", (50, 50, 50 + size[0], 50 + size[1]))
        image, changes = adapted(picture, look)
        rows, columns = ((image[0, 0] > 0.5).any(axis).sum().item() for axis in (1, 0))
        assert columns / rows == pytest.approx(size[0] / size[1], rel=0.1), changes
        assert max(rows / height, columns / width) == 1 or max(rows, columns) == 32


@pytest.mark.parametrize(
    ("values", "white"),
    [
        (np.full((8, 8), 199, np.uint16), 65535),
        (np.full((8, 8), 60000, np.uint16), 65535),
        (np.full((8, 8), 199, np.int32), 255),
        (np.full((8, 8), 0.5, np.float32), 1),
    ],
    ids=["dim two bytes", "two bytes", "whole numbers", "floats"],
)
def test_the_value_that_is_white_is_its_kinds_and_is_said(values: np.ndarray, white: int) -> None:
    image, changes = adapted(Image.fromarray(values), Look((1, 8, 8), None))
    assert f"values from 0 to {white} made 0 to 1" in changes
    assert float(image.max()) == pytest.approx(float(values.max()) / white)


def test_colour_images_are_cropped_in_the_middle_and_scaled() -> None:
    picture = Image.new("RGB", (90, 60), "#ff0000")
    picture.paste("#0000ff", (15, 0, 75, 60))
    image, changes = adapted(picture, Look((3, 32, 32), None))
    assert changes == ["90 x 60 pixels", "cropped to the middle 60 x 60 pixels", "scaled to 32 x 32"]
    torch.testing.assert_close(image, torch.tensor([0.0, 0.0, 1.0]).reshape(1, 3, 1, 1).expand(1, 3, 32, 32))


def test_an_empty_picture_is_said_to_be_one() -> None:
    image, changes = adapted(Image.new("RGB", (50, 40), "white"), DARK)
    assert "nothing is drawn on it" in changes
    assert image.abs().max() == 0


def test_images_of_no_even_ground_have_none() -> None:
    assert look_of(torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))).ground is None
    assert look_of(torch.zeros(2, 3, 8, 8)).ground is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        (b"", "is no picture that can be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is no picture that can be read. Valid: PNG"),
        (b"\x89PNG\r\n\x1a\n damaged", "is no picture that can be read"),
    ],
)
def test_what_is_no_picture_is_one_line(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "picture.png"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError) as raised:
        open_picture(file)
    assert str(raised.value).startswith(f"{file}: {message}")
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("pixel", [np.nan, np.inf])
def test_a_picture_of_no_numbers_is_one_line(tmp_path: Path, pixel: float) -> None:
    picture = Image.fromarray(np.full((9, 9), pixel, np.float32))
    picture.save(tmp_path / "none.tiff")
    with pytest.raises(UserError, match=r"none\.tiff: has pixels that are NaN or infinite"):
        open_picture(tmp_path / "none.tiff")
    with pytest.raises(UserError, match="picture: has pixels that are NaN or infinite"):
        adapted(picture, DARK)


def test_a_picture_that_would_fill_the_memory_is_not_read(tmp_path: Path) -> None:
    Image.new("1", (9000, 9000)).save(tmp_path / "bomb.png")
    with pytest.raises(UserError, match="has 9000 x 9000 pixels; at most 67,108,864 are read"):
        open_picture(tmp_path / "bomb.png")
