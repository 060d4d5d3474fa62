"""The real MLflow UI in a real browser: does a newcomer find what depth did?"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from vae_lab.cli.group import commands
from vae_lab.cli.servers import serving
from vae_lab.report import views
from vae_lab.studies.study import load_study
from vae_lab.tracking import EXPLORER_FILE, Store

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.timeout(240)
PATIENCE = 60_000  # milliseconds; the UI's first page is slow on a small machine


@pytest.fixture(scope="module")
def explored(ablations: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the small study's folder in which its explorer has been kept."""
    folder = shutil.copytree(ablations, tmp_path_factory.mktemp("explored") / "lab")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    line = ["explore", "ablations", "--no-open", "--uri", uri, "--out", str(folder / "explorer.html")]
    result = CliRunner().invoke(commands, line)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def link(explored: Path) -> Iterator[str]:
    """What `vae-lab ui` prints, while it runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "vae-lab"), "ui", "--port", str(port)]
    process = subprocess.Popen(command, cwd=explored, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = (line.strip() for line in process.stdout)
    yield next(line for line in lines if line.startswith("http"))
    process.terminate()
    assert process.wait(timeout=30) == 0
    process.stdout.close()
    for _ in range(50):
        if not serving.obstacle(port):
            break
        time.sleep(0.1)
    assert not serving.obstacle(port), "the server must end with the command"


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A first visit: nothing is remembered from another."""
    context = browser.new_context(viewport={"width": 1600, "height": 3000})
    playwright.expect.set_options(timeout=PATIENCE)
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE)
    yield opened
    context.close()


@pytest.fixture(scope="module")
def store(explored: Path) -> Store:
    return Store.open(f"sqlite:///{explored / 'mlflow.db'}")


def base(link: str) -> str:
    return link.partition("#")[0]


def test_the_printed_link_opens_the_charts_of_what_depth_did(page: Page, link: str) -> None:
    page.goto(link)
    playwright.expect(page.get_by_test_id("saved-views-trigger")).to_have_text("1 What depth does")
    section = page.get_by_test_id("experiment-view-compare-runs-section-header").first
    playwright.expect(section).to_contain_text("1 Held-out loss by depth")
    cards = page.get_by_test_id("experiment-view-compare-runs-card")
    playwright.expect(cards.nth(0)).to_contain_text("model.layers vs. test/loss")
    playwright.expect(cards.nth(0).locator(".scatterlayer .trace .points path")).to_have_count(6)
    playwright.expect(cards.nth(1)).to_contain_text("vae L4 Z15 s0 (test/loss)")
    playwright.expect(cards.nth(2).locator(".barlayer .point")).to_have_count(6)
    grid = cards.filter(has_text="images/samples")
    playwright.expect(grid.locator(".rc-image img")).to_have_count(6)
    playwright.expect(grid.locator("[role=slider]")).to_have_attribute("aria-valuenow", "2")
    playwright.expect(page.get_by_text("MLflow Assistant")).to_have_count(0)


def test_the_table_shows_every_run_with_what_varied_and_what_came_of_it(
    page: Page, link: str, store: Store
) -> None:
    study = load_study(store, "ablations")
    everything = views.study_views(study)[-1]
    page.goto(base(link) + views.page(study.parent.experiment_id, everything, "TABLE"))
    playwright.expect(page.locator(".ag-center-cols-container .ag-row")).to_have_count(10)
    columns = ["params.`model`", "params.`model.layers`", "params.`model.latent_size`", "metrics.`test/loss`"]
    for column in columns:
        playwright.expect(page.locator(f'.ag-header-cell[col-id="{column}"]')).to_be_visible()
    best = min(study.runs, key=lambda run: run.metrics["test/loss"])
    first = page.locator('.ag-pinned-left-cols-container .ag-row[row-index="0"] a[href*="/runs/"]')
    playwright.expect(first).to_have_text(best.name)


def test_a_runs_pictures_come_first_and_slide_over_the_epochs(page: Page, link: str, store: Store) -> None:
    run = next(run for run in load_study(store, "ablations").runs if run.name == "cvae L4 Z15 s0")
    page.goto(base(link) + views.run_page(run, "/model-metrics"))
    header = page.get_by_test_id("experiment-view-compare-runs-section-header").first
    playwright.expect(header).to_contain_text("images(3)")
    card = page.get_by_test_id("experiment-view-compare-runs-card").filter(
        has_text=re.compile("^images/samples")
    )
    slider, number = card.locator("[role=slider]"), card.locator("input[type=number]")
    playwright.expect(slider).to_have_attribute("aria-valuenow", "0")
    number.fill("2")
    number.press("Tab")
    playwright.expect(slider).to_have_attribute("aria-valuenow", "2")
    playwright.expect(card.locator("img")).to_have_attribute("src", re.compile(r"samples.*step%2B2"))


def test_the_parent_shows_answer_tables_and_contact_sheet(page: Page, link: str, store: Store) -> None:
    study = load_study(store, "ablations")
    page.goto(base(link) + views.run_page(study.parent))
    playwright.expect(page.get_by_text("10 of 10 runs finished.")).to_be_visible()
    playwright.expect(
        page.get_by_text(re.compile(r"vae: held-out loss .* for layers 2, 3, 4"))
    ).to_be_visible()
    page.get_by_text("Show more").click()
    loss = f"{next(run for run in study.runs if run.name == 'vae L2 Z15 s0').metrics['test/loss']:.2f}"
    playwright.expect(page.locator("td", has_text=loss).first).to_be_visible()
    page.goto("about:blank")
    page.goto(base(link) + views.run_page(study.parent, "/artifacts/figures/contact_sheet.png"))
    playwright.expect(page.locator('img[src^="blob:"]').first).to_be_visible()


def test_the_explorer_decodes_in_the_viewer_of_artifacts(page: Page, link: str, store: Store) -> None:
    parent = load_study(store, "ablations").parent
    page.goto(base(link) + views.run_page(parent, f"/artifacts/{EXPLORER_FILE}"))
    explorer = page.frame_locator('iframe[src^="blob:"]')
    explorer.locator("html[data-state=ready]").wait_for()
    assert explorer.locator("#images .model canvas").count() == 4
    drawn = "canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, 8, 8).data).join()"
    image = explorer.locator("#images .model canvas").first
    before = image.evaluate(drawn)
    slider = explorer.locator("#dimension-1")
    slider.press("End")
    playwright.expect(slider).to_have_value(slider.get_attribute("max") or "")
    page.wait_for_timeout(200)  # the next frame draws
    assert image.evaluate(drawn) != before
