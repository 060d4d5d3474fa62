"""Blends on the explorer's page: what lies between two images, and which image ends a blend."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.trained.explorer.conftest import images, said
from vae_lab.trained.model import TrainedModel

pytestmark = pytest.mark.timeout(240)
LEVEL = 1 / 255
OF_CLASSES = """(classes) => {
    const [from, to] = classes.map((label) => session.labels.indexOf(label));
    session.take(session.heldOut(from));
    session.blendTo(session.heldOut(to));
    return [from, to].map((i) => Array.from(session.images[i]));
}"""
AT_SHARES = """(shares) => shares.map((share) => {
    session.share(share);
    return Array.from(session.models[3].decode(session.z[3], session.labelNow()));
})"""
TILES = """() => {
    const pixels = (canvas, left) => Array.from(canvas.getContext("2d").getImageData(left, 0, 8, 8).data);
    const strip = document.querySelector("#strips .m3 canvas");
    return [0, strip.width - 8].map((left) => pixels(strip, left))
        .concat([pixels(document.querySelector("#images .m3 canvas"), 0)]);
}"""


def test_a_cvaes_blend_of_two_classes_is_that_of_python(
    opened: Any, address: str, models: list[TrainedModel]
) -> None:
    page = opened(address)
    ends = torch.tensor(page.evaluate(OF_CLASSES, [2, 0])).reshape(2, 1, 8, 8)
    decoded = torch.tensor(page.evaluate(AT_SHARES, [0, 0.25, 0.5, 0.75, 1]))
    expected = models[3].interpolate(ends[0], ends[1], steps=5, labels=[2, 0]).flatten(1)
    assert float((decoded - expected).abs().max()) <= LEVEL
    images(page)
    first, last, shown = page.evaluate(TILES)
    assert shown == last != first, "the strip ends where the blend does"


def test_the_labels_of_a_blend_are_said_and_one_can_be_chosen(opened: Any, address: str) -> None:
    page = opened(address)
    page.evaluate(OF_CLASSES, [2, 0])
    page.locator("#share").fill("25")
    images(page)
    assert str(page.locator("#labels-of").text_content()).endswith(": 75 % 2, 25 % 0")
    assert page.locator("#labels input:checked").count() == 0
    assert "a CVAE's labels as well" in page.locator("#strips .lead").inner_text()
    page.get_by_role("radio", name="7", exact=True).check(force=True)
    for share in ("0", "40", "100"):
        page.locator("#share").fill(share)
        images(page)
        assert page.evaluate("session.labelNow()") == 7
    assert page.locator("#labels input:checked").input_value() == "7"
    page.evaluate(OF_CLASSES, [1, 1])
    images(page)
    assert page.locator("#labels input:checked").input_value() == "1"


def test_a_blend_of_a_blend_starts_at_its_labels(opened: Any, address: str) -> None:
    page = opened(address)
    page.evaluate(OF_CLASSES, [2, 0])
    page.evaluate("session.blendTo(session.heldOut(session.labels.indexOf(5)))")
    assert page.evaluate("session.labelNow()") == [[2, 0.25], [0, 0.25], [5, 0.5]]
    page.evaluate("session.share(0)")
    assert page.evaluate("session.labelNow()") == [[2, 0.5], [0, 0.5]]


def stroke(page: Any, share: float) -> None:
    """Draws a line from the top of the pad to its bottom, at a share of its width."""
    box = page.locator("#pad").bounding_box()
    x = box["x"] + share * box["width"]
    page.mouse.move(x, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(x, box["y"] + box["height"] - 20, steps=4)


def test_an_opened_picture_ends_a_blend_that_waits_for_an_image(opened: Any, address: str) -> None:
    page = opened(address)
    page.locator("#await").click()
    written = io.BytesIO()
    Image.fromarray(np.eye(20, dtype=np.uint8) * 255).save(written, "PNG")
    page.locator("#file").set_input_files(
        {"name": "one.png", "mimeType": "image/png", "buffer": written.getvalue()}
    )
    page.locator("#said", has_text="one.png").wait_for(state="attached")
    assert said(page).startswith("Blend from “Held-out image 1, ")
    assert "” to “one.png" in said(page)
    assert page.locator("#await").get_attribute("aria-pressed") == "false"
    page.locator("#centred").click()
    assert "” to “one.png" in said(page), "what is made of the picture changes, and the blend stays"


def test_a_drawing_of_several_strokes_ends_a_blend_that_waits_for_an_image(opened: Any, address: str) -> None:
    page = opened(address)
    page.locator("#await").click()
    stroke(page, 0.3)
    images(page)
    assert str(page.evaluate("session.awaiting && session.preview?.words")).startswith("Your drawing")
    page.mouse.up()
    assert said(page).startswith("Blend from “Held-out image 1, ")
    page.locator("#share").fill("80")
    first = page.evaluate("Array.from(session.blend.to.image)")
    stroke(page, 0.7)
    page.mouse.up()
    assert said(page).startswith("Blend from “Held-out image 1, ")
    assert page.evaluate("session.blend.share") == 0.8
    assert page.evaluate("Array.from(session.blend.to.image)") != first
    page.get_by_role("button", name="Draw from the prior").click()
    stroke(page, 0.5)
    page.mouse.up()
    assert said(page).startswith("Your drawing"), "a blend that is over is not taken up again"
