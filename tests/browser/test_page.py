"""The study page in a real browser: on a phone, on a desk, in the dark and on paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vae_lab import files
from vae_lab.report.page.contents import gather
from vae_lab.report.page.rendering import write
from vae_lab.studies.claims import judge_study
from vae_lab.studies.study import load_study
from vae_lab.tracking import Store

pytestmark = pytest.mark.timeout(240)


JUDGED = """
# @package _global_
study:
  name: judged
  question: Does width lower the loss within three epochs, and which explanation survives?
  claims:
    - {id: A, text: A wider network ends lower., metric: test/loss, expect: decreasing, along: model.hidden_size, explanation: wide networks learn faster}
    - {id: B, text: A narrower network ends lower., metric: test/loss, expect: increasing, along: model.hidden_size, explanation: narrow networks learn faster}
model: {hidden_size: 2, latent_size: 5}
sweep: {one_at_a_time: {model.hidden_size: [2, 64]}, replicate: {seed: [0, 1, 2, 3, 4, 5, 6]}}
evaluation: {posterior_draws: 1}
hydra: {mode: MULTIRUN}
"""  # noqa: E501  one line a claim, as in experiments/
CLAIMED = {"judged", "reference", "recommended", "latent_oracle", "why_depth", "precision"}
UNMEASURED = {"precision"}  # its runs draw nothing from the posterior: no dimensions to show
PUBLISHED = sorted((Path(files.CONFIG_ROOT) / "docs" / "published").glob("*.html"))


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the page of a study lies whose claims have verdicts, and whose runs were measured further."""
    from vae_lab.cli import train

    folder = tmp_path_factory.mktemp("judged")
    (folder / "own" / "experiments").mkdir(parents=True)
    (folder / "own" / "experiments" / "judged.yaml").write_text(JUDGED)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        small = ["data=digits", "train.epochs=3", "train.device=cpu"]
        assert train.run_hydra(["--config-dir", "own", "experiments=judged", *small]) == 0
        store = Store.open()
        study = load_study(store, "judged")
        verdicts = judge_study(study)
        assert [verdict.verdict for verdict in verdicts] == ["supported", "refuted"]
        file, _ = write(gather(store, study, verdicts), folder / "judged.html")
    return file.as_uri()


@pytest.fixture(scope="module", params=["judged", *(file.stem for file in PUBLISHED)])
def complete(request: pytest.FixtureRequest) -> str:
    """Where pages with everything on them lie: the judged study's and those that the lab published."""
    if request.param == "judged":
        return str(request.getfixturevalue("judged"))
    return next(file for file in PUBLISHED if file.stem == request.param).as_uri()


@pytest.fixture(scope="module")
def address(ablations: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the page of the small study lies."""
    store = Store.open(f"sqlite:///{ablations / 'mlflow.db'}")
    contents = gather(store, load_study(store, "ablations"))
    claims = [("C1", "A claim of a length that no phone shows in one line, so that it has to be broken.")]
    file, _ = write(contents._replace(claims=claims), tmp_path_factory.mktemp("page") / "page.html")
    return file.as_uri()


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


def fits(page: Any, width: int) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") == width
    # Wide tables scroll inside their own box; everything else fits.
    outside = page.evaluate(
        "[...document.querySelectorAll('main *')].filter(e => !e.closest('.table, .chart, pre')"
        " && e.getBoundingClientRect().right > innerWidth).map(e => e.outerHTML.slice(0, 80))"
    )
    assert outside == []


@pytest.mark.parametrize("width", [320, 768, 1280])
def test_nothing_reaches_beyond_the_window(browser: Any, address: str, width: int) -> None:
    fits(opened(browser, address, width), width)


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (1280, "light"), (1280, "dark")])
def test_a_complete_page_is_whole_on_every_window(
    browser: Any, complete: str, width: int, scheme: str, screenshots: Path
) -> None:
    page = opened(browser, complete, width, scheme)
    fits(page, width)
    headings = page.locator("h2").all_inner_texts()
    assert {"Tables", "Loss curves", "Setup"} <= {*headings}
    measured = Path(complete).stem not in UNMEASURED
    assert ("Latent dimensions" in headings) == measured
    assert ("Verdicts" in headings) == (Path(complete).stem in CLAIMED)
    if "Verdicts" in headings:
        assert page.locator("#verdicts tbody tr").count() >= 2
        ends = page.evaluate(
            "[...document.querySelectorAll('#verdicts td')].map(e => e.getBoundingClientRect().right)"
        )
        assert max(ends) <= width, "a verdict's sentence is read without scrolling sideways"
    assert (page.locator("#latent svg").count() >= 1) == measured
    unlabelled = page.evaluate(
        "[...document.querySelectorAll('.chart')].filter(e => (e.ariaLabel || '').length < 20).length"
    )
    assert unlabelled == 0
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    name = f"{Path(complete).stem}_{width}_{scheme}.png"
    page.screenshot(path=screenshots / name, full_page=True)
    with Image.open(screenshots / name) as shot:
        assert shot.width == width
        assert shot.height > 2000
        assert np.ptp(np.asarray(shot.convert("L"))) > 150, "letters stand out"


def test_a_verdict_stands_with_its_claim_and_the_explanations_with_their_fate(
    browser: Any, judged: str
) -> None:
    page = opened(browser, judged)
    table = page.locator("#verdicts table").inner_text()
    assert "A wider network ends lower." in table
    fates = page.locator("#verdicts .claims dd.verdict").all_inner_texts()
    assert fates == ["survives", "contradicted"]


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
