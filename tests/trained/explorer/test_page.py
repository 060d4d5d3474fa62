"""The explorer in a real browser: by mouse, finger and keys, on a desk and a phone, and in a frame."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.trained.explorer.conftest import READY, images, said, with_name
from vae_lab.data import Images, binarized
from vae_lab.errors import UserError
from vae_lab.models import VAE
from vae_lab.trained.explorer.contents import gather, principal_plane, short_names
from vae_lab.trained.explorer.page import html
from vae_lab.trained.explorer.widget import Explorer
from vae_lab.trained.model import TrainedModel

pytestmark = pytest.mark.timeout(240)
HOSTILE = "<img src=x onerror=document.body.remove()></script><b>\u202e"


def test_it_asks_for_nothing_and_complains_of_nothing(browser: Any, address: str) -> None:
    page = browser.new_page()
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address)
    page.locator(READY).wait_for()
    page.get_by_role("button", name="Draw from the prior").click()
    assert len(images(page)) == 4
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [address]
    policy = page.evaluate("document.querySelector('meta[http-equiv]').content")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    blocked = page.evaluate(
        "() => { try { document.body.innerHTML = '<b>x</b>'; return ''; } catch (e) { return e.name; } }"
    )
    assert blocked == "TypeError", "no text can become markup"


def test_a_slider_moves_every_model_along_its_own_dimension(
    opened: Any, address: str, models: list[TrainedModel]
) -> None:
    page = opened(address)
    before = page.evaluate("session.z.map((z) => Array.from(z))")
    first = page.get_by_role("slider", name="Dimension 1", exact=True)
    start = float(first.input_value())
    first.fill(str(start + 1 if start < 2 else start - 1))
    images(page)
    after = page.evaluate("session.z.map((z) => Array.from(z))")
    for lab, old, new in zip(models, before, after, strict=True):
        moved = [i for i in range(lab.latent_size) if abs(old[i] - new[i]) > 1e-6]
        assert moved == [int(lab.order[0])]


def test_the_sliders_are_sorted_and_collapsed_dimensions_are_called_so(
    opened: Any, address: str, models: list[TrainedModel]
) -> None:
    page = opened(address)
    texts = page.locator("#sliders li .use").evaluate_all("all => all.map((one) => one.textContent)")
    assert len(texts) == max(lab.latent_size for lab in models)
    for rank, text in enumerate(texts):
        for lab in models:
            kl = lab.kl[lab.order[rank]].item() if rank < lab.latent_size else None
            expected = "none" if kl is None else "collapsed" if kl < 0.01 else f"{kl:.2f} nats"
            assert f"{lab.run.name.removesuffix(' s0')}: {expected}" in text
    unused = sum(
        all(rank >= lab.latent_size or lab.kl[lab.order[rank]] < 0.01 for lab in models) for rank in range(15)
    )
    assert page.locator("#collapsed-dimensions li").count() == unused
    summary = page.locator("#collapsed-count").text_content()
    assert re.fullmatch(r"\d+ collapsed dimensions?: the posterior is the prior, whatever the image", summary)


def test_all_of_it_works_by_keyboard_alone(opened: Any, address: str) -> None:
    page = opened(address)
    reached = set()
    for _ in range(70):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
    for wanted in ("prior", "await", "reset", "dimension-1", "pad", "clear", "file", "centred", "map"):
        assert wanted in reached, reached

    page.locator("#dimension-1").focus()
    before = images(page)
    page.keyboard.press("ArrowRight")
    assert all(a != b for a, b in zip(before, images(page), strict=True))

    page.locator("canvas.map").first.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
    assert page.evaluate("session.preview !== null")
    page.keyboard.press("Enter")
    assert "image" in said(page)
    for key in (*["Shift+ArrowLeft"] * 6, *["Shift+ArrowDown"] * 6, "Shift+Enter"):  # far from there
        page.keyboard.press(key)
    assert said(page).startswith("Blend from")
    page.locator("#share").focus()
    before = images(page)
    page.keyboard.press("End")
    assert before != images(page)

    page.locator("#pad").focus()
    for key in (" ", *["ArrowDown"] * 6, " "):
        page.keyboard.press(key)
    assert said(page).startswith("Your drawing")


def test_labels_decide_what_a_cvae_decodes_and_no_vae(opened: Any, address: str) -> None:
    page = opened(address)
    before = images(page)
    page.get_by_role("radio", name="3", exact=True).check(force=True)
    after = images(page)
    assert before[:3] == after[:3]
    assert before[3] != after[3]


def test_pointing_decodes_a_click_keeps_and_dragging_blends(opened: Any, address: str) -> None:
    page = opened(address)
    start = images(page)
    box = page.locator("canvas.map").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    assert images(page) != start
    page.mouse.move(5, 5)
    assert images(page) == start, "what was only pointed at is gone"
    page.mouse.click(x, y)
    page.mouse.move(5, 5)
    kept = images(page)
    assert kept != start
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + box["width"] / 3, y, steps=3)
    page.mouse.up()
    assert said(page).startswith("Blend from")
    assert page.evaluate("session.blend.share") == 0.5
    ends = page.evaluate(
        "[session.blend.from.z[0], session.blend.to.z[0], session.z[0]].map((z) => Array.from(z))"
    )
    middle = (np.array(ends[0]) + ends[1]) / 2
    np.testing.assert_allclose(ends[2], middle, atol=1e-6)


def test_a_map_and_its_inverse_are_a_principal_plane(models: list[TrainedModel]) -> None:
    means = models[0].encode(models[0].examples(200)[0]).mean.numpy().astype(float)
    centre, axes, coordinates, share = principal_plane(means)
    np.testing.assert_allclose(axes @ axes.T, np.eye(2), atol=1e-9)
    np.testing.assert_allclose((centre + coordinates @ axes - centre) @ axes.T, coordinates, atol=1e-9)
    variances = np.linalg.eigvalsh(np.cov(means.T))[::-1]
    assert share == pytest.approx(variances[:2].sum() / variances.sum())
    assert principal_plane(means[:, :1])[2].shape == (200, 2)


def test_a_prior_draw_shares_its_noise_and_nothing_else(opened: Any, address: str) -> None:
    page = opened(address)
    page.get_by_role("button", name="Draw from the prior").click()
    assert said(page) == "A draw of the prior, decoded by each model"
    noise = page.evaluate("session.models.map((m, i) => m.order.map((d) => session.z[i][d]))")
    assert noise[0][:10] == noise[2][:10]
    assert page.locator("#images .original canvas").is_hidden()


def test_a_drawing_and_a_dropped_picture_reach_every_model(opened: Any, address: str) -> None:
    page = opened(address)
    box = page.locator("#pad").bounding_box()
    before = images(page)
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 20, steps=5)
    page.mouse.up()
    assert said(page).startswith("Your drawing")
    assert all(a != b for a, b in zip(before, images(page), strict=True))

    paper = np.full((90, 60, 3), 250, dtype=np.uint8)
    paper[20:70, 25:35] = 10
    written = io.BytesIO()
    Image.fromarray(paper).save(written, "PNG")
    page.locator("#file").set_input_files(
        {"name": "one.png", "mimeType": "image/png", "buffer": written.getvalue()}
    )
    page.locator("#said", has_text="one.png").wait_for(state="attached")
    assert "inverted" in said(page)
    assert "label" in said(page), "a CVAE is told one"
    page.locator("#file").set_input_files(
        {"name": "no.png", "mimeType": "image/png", "buffer": b"no picture"}
    )
    page.locator("#trouble", has_text="no picture that").wait_for(state="visible")


@pytest.mark.parametrize(
    ("width", "scheme"), [(360, "light"), (768, "dark"), (1280, "light"), (1280, "dark")]
)
def test_it_fits_every_window(opened: Any, address: str, width: int, scheme: str, screenshots: Path) -> None:
    page = opened(address, width, scheme)
    images(page)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    outside = page.evaluate(
        "[...document.querySelectorAll('body *')].filter((e) => !e.closest('.unseen') &&"
        " e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 80))"
    )
    assert outside == []
    sizes = page.evaluate(
        "[...document.querySelectorAll('#images .model canvas')].map((c) => [c.width, c.clientWidth])"
    )
    assert all(shown % own == 0 and shown >= 5 * own for own, shown in sizes), "in their own pixels"
    page.screenshot(path=screenshots / f"explorer_{width}_{scheme}.png", full_page=True)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (sum(ground) < 120) == (scheme == "dark")
    if width == 360:  # the images stay in sight while the sliders move
        page.locator("#dimension-8").scroll_into_view_if_needed()
        assert 0 <= page.locator("#images .model canvas").first.bounding_box()["y"] < 100


def test_everything_has_a_name_for_whoever_does_not_see_it(opened: Any, address: str) -> None:
    page = opened(address)
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, input, canvas[role], section')].filter((e) =>"
        " !(e.ariaLabel || e.getAttribute('aria-labelledby') || e.labels?.length || e.textContent.trim()))"
        ".map((e) => e.outerHTML)"
    )
    assert nameless == []


def test_the_facts_name_study_runs_commit_data_and_date(
    opened: Any, address: str, models: list[TrainedModel]
) -> None:
    page = opened(address)
    text = page.locator("footer").inner_text()
    assert "ablations, parent run" in text
    for lab in models:
        assert f"{lab.run.name}, {lab.run.run_id}" in text
    assert models[0].data.checksum in text
    assert page.locator("footer dt").all_inner_texts() == [
        "Study", "Runs", "Commit", "Trained", "Data", "Page written",
    ]  # fmt: skip


def test_texts_of_a_run_are_texts(opened: Any, models: list[TrainedModel], tmp_path: Path) -> None:
    file = tmp_path / "hostile.html"
    file.write_text(html(gather([with_name(models[0], HOSTILE)])), encoding="utf-8")
    page = opened(file.as_uri())
    assert page.locator("b").all_inner_texts() == [HOSTILE.replace("\u202e", "\\u202e")]
    assert page.evaluate("document.images.length") == 0
    assert page.locator("#images h3").nth(1).inner_text() == HOSTILE.replace("\u202e", "\\u202e")


class Sorting(VAE):
    """A model that does what no page knows."""

    def logits(self, z: Tensor, c: Tensor) -> Tensor:
        return super().logits(z, c).cumsum(-1)


def test_a_model_that_the_page_cannot_compute_says_so_and_the_rest_works(
    opened: Any, models: list[TrainedModel], tmp_path: Path
) -> None:
    lab = models[0]
    odd = Sorting(64, 0, lab.latent_size, layers=1, hidden_size=8).eval()
    contents = gather([with_name(lab, "odd", odd), models[3]])
    assert contents.remarks == ["odd: the page does not know its operation aten.cumsum.default"]
    file = tmp_path / "odd.html"
    file.write_text(html(contents), encoding="utf-8")
    page = opened(file.as_uri())
    assert "aten.cumsum" in page.locator("#images .m0 .note").inner_text()
    assert page.locator("#images .m0 canvas").count() == 0
    before = images(page)
    page.locator("#dimension-1").fill("3")
    assert images(page) != before
    alone = tmp_path / "alone.html"
    alone.write_text(html(gather([with_name(lab, "odd", odd)])), encoding="utf-8")
    assert "aten.cumsum" in opened(alone.as_uri()).locator("#images .m0 .note").inner_text()


def test_one_model_is_a_widget_in_a_frame_that_reaches_nothing(
    browser: Any, models: list[TrainedModel], tmp_path: Path
) -> None:
    widget = models[3].explore(height=700)
    assert isinstance(widget, Explorer)
    file = tmp_path / "notebook.html"
    file.write_text(f"<!doctype html><body>{widget._repr_html_()}</body>", encoding="utf-8")
    page = browser.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(file.as_uri())
    frame = page.frame_locator("iframe")
    frame.locator(READY).wait_for()
    assert frame.locator("#images .model canvas").count() == 1
    assert page.locator("iframe").get_attribute("sandbox") == "allow-scripts"
    assert complaints == []
    assert widget.save(tmp_path / "saved.html").read_text(encoding="utf-8") == widget.text


def test_names_are_short_where_they_share_words() -> None:
    assert short_names(["vae L2 s0", "vae L2 s0"]) == ["vae L2 s0", "vae L2 s0"]
    assert short_names(["a b", "a b c"]) == ["a b", "a b c"]


def test_models_of_other_data_share_no_page(models: list[TrainedModel]) -> None:
    other = with_name(models[1], "other")
    other.data = models[1].data._replace(checksum="0" * 12)
    with pytest.raises(Exception, match="models share a page if they share their images"):
        gather([models[0], other])


def test_models_that_see_the_same_images_otherwise_share_no_page(models: list[TrainedModel]) -> None:
    other = with_name(models[1], "other")
    other.data = models[1].data._replace(test=binarized(models[1].data.test, "test"))
    with pytest.raises(UserError, match=r"other: sees the held-out images of .* with data\.binarize=none"):
        gather([models[0], other])


def test_a_drawing_on_a_page_of_colour_images_has_all_channels(
    opened: Any, models: list[TrainedModel], tmp_path: Path
) -> None:
    lab = models[3]

    def coloured(images: Images) -> Images:
        return Images(images.pixels.repeat(1, 3), images.labels, images.peak)

    data = lab.data._replace(
        train=coloured(lab.data.train), test=coloured(lab.data.test), shape=(3, 8, 8), checksum="0" * 12
    )
    colour = with_name(lab, "colour", VAE(192, 10, 5, layers=1, hidden_size=8).eval())
    colour.data = data
    colour.shape = data.shape
    file = tmp_path / "colour.html"
    file.write_text(html(gather([colour])), encoding="utf-8")
    page = opened(file.as_uri())
    page.locator("#pad").focus()
    for key in (" ", "ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    assert re.search(r"label \d fits best", said(page))
    image = np.reshape(page.evaluate("Array.from(session.start.image)"), (3, 64))
    assert np.isfinite(image).all()
    assert 0.3 < image.max() <= 1
    np.testing.assert_allclose(image, image[[0, 0, 0]], atol=1 / 255)


def test_weights_of_no_numbers_are_said_to_be_none(models: list[TrainedModel]) -> None:
    broken = VAE(64, 0, 3, layers=1, hidden_size=4).eval()
    torch.nn.init.constant_(broken.pixels.bias, float("nan"))
    contents = gather([with_name(models[0], "broken", broken)])
    assert contents.remarks == ["broken: its weights are no finite numbers"]
