"""The study page in a real browser: on a phone, on a desk, in the dark and on paper."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vae_lab.comparison import load_study
from vae_lab.report import gather, write
from vae_lab.tracking import Store

playwright: Any = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
    pytest.mark.timeout(240),
]
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


@pytest.fixture(scope="module")
def address(ablations: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the page of the small study lies."""
    store = Store.open(f"sqlite:///{ablations / 'mlflow.db'}")
    contents = gather(store, load_study(store, "ablations"))
    claims = [("C1", "A claim of a length that no phone shows in one line, so that it has to be broken.")]
    file, _ = write(contents._replace(claims=claims), tmp_path_factory.mktemp("page") / "page.html")
    return file.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


def opened(browser: Any, address: str, width: int = 1280, scheme: str = "light") -> Any:
    page = browser.new_page(
        viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce"
    )
    page.goto(address)
    return page


def test_it_asks_for_nothing_and_complains_of_nothing(browser: Any, address: str) -> None:
    page = browser.new_page()
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address)
    assert complaints == []
    assert requests[0] == address
    assert [url for url in requests[1:] if not url.startswith("data:")] == []


@pytest.mark.parametrize("width", [320, 768, 1280])
def test_nothing_reaches_beyond_the_window(browser: Any, address: str, width: int) -> None:
    page = opened(browser, address, width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    # Wide tables scroll inside their own box; everything else fits.
    outside = page.evaluate(
        "[...document.querySelectorAll('main *')].filter(e => !e.closest('.table, .chart, pre')"
        " && e.getBoundingClientRect().right > innerWidth).map(e => e.outerHTML.slice(0, 80))"
    )
    assert outside == []


def test_wide_tables_scroll_on_a_phone_and_fit_on_a_desk(browser: Any, address: str) -> None:
    overflow = "(e => e.scrollWidth - e.clientWidth)(document.querySelector('#tables .table'))"
    assert opened(browser, address, 320).evaluate(overflow) > 100
    assert opened(browser, address, 1280).evaluate(overflow) <= 0


def test_every_picture_is_there(browser: Any, address: str) -> None:
    page = opened(browser, address)
    widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(widths) == 12 + 10 + 5
    assert min(widths) > 0
    assert page.evaluate("[...document.images].every(image => image.alt.length > 10)")
    assert page.locator(".chart svg").count() == 5


def test_the_headings_lead_through_the_page(browser: Any, address: str) -> None:
    page = opened(browser, address)
    assert page.locator("h1").all_inner_texts() == ["ablations"]
    headings = page.locator("h2").all_inner_texts()
    assert headings == [
        "Verdicts", "Tables", "Loss curves", "Rate and distortion", "Samples", "Interpolations",
        "Class grids", "Setup", "Environment", "Reproduce", "In MLflow",
    ]  # fmt: skip
    page.get_by_role("link", name="Class grids").click()
    assert 0 <= page.locator("#classes h2").bounding_box()["y"] < 800


def shade(page: Any, selector: str, kind: str) -> float:
    """The mean of the colour's channels, 0 to 255."""
    colour = page.evaluate(
        f"getComputedStyle(document.querySelector({selector!r})).{kind}.match(/[0-9.]+/g).map(Number)"
    )
    return float(sum(colour[:3]) / 3)


def test_the_dark_page_is_dark_in_its_charts_too(browser: Any, address: str) -> None:
    light, dark = opened(browser, address), opened(browser, address, scheme="dark")
    assert shade(light, "body", "backgroundColor") > 230
    assert shade(dark, "body", "backgroundColor") < 40
    assert shade(dark, "body", "color") > 200
    label = ".chart svg text[style*='--muted']"
    assert shade(light, label, "fill") < 128 < shade(dark, label, "fill")
    curve = ".chart svg path[style*='--c0']"
    assert shade(light, curve, "stroke") + 30 < shade(dark, curve, "stroke")


def test_letters_in_charts_are_large_enough_on_a_phone(browser: Any, address: str) -> None:
    page = opened(browser, address, 320)
    heights = page.evaluate(
        "[...document.querySelectorAll('#curves svg text')].map(e => Math.hypot(e.getScreenCTM().a,"
        " e.getScreenCTM().b) * parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(heights) > 9


def test_it_prints_on_a_few_sheets_with_whole_tables(browser: Any, address: str) -> None:
    page = opened(browser, address)
    printed = page.pdf(format="A4")
    assert printed.startswith(b"%PDF")
    assert 3 <= printed.count(b"/Type /Page\n") <= 14
    page.set_viewport_size({"width": 688, "height": 1000})  # A4 less the margins, in CSS pixels
    page.emulate_media(media="print", color_scheme="dark")
    assert shade(page, "body", "backgroundColor") == 255
    widths = page.evaluate(
        "[...document.querySelectorAll('table')].map(e => e.getBoundingClientRect().right)"
    )
    assert max(widths) <= 688
