"""The explorer's pages of small models, and a real browser that opens them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vae_lab.models import VAE
from vae_lab.studies.study import load_study
from vae_lab.tracking import reader
from vae_lab.trained.explorer.contents import gather
from vae_lab.trained.explorer.page import html
from vae_lab.trained.loading import model_of
from vae_lab.trained.model import TrainedModel

READY = "html[data-state=ready]"
SHOWN = "[...document.querySelectorAll('#images .model canvas')].map((c) => c.toDataURL())"
NAMES = ("vae L2 Z15 s0", "vae L4 Z15 s0", "vae L3 Z10 s0", "cvae L3 Z15 s0")


def images(page: Any) -> list[str]:
    """What the models show, after the next frame."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return list(page.evaluate(SHOWN))


def said(page: Any) -> str:
    images(page)
    return str(page.locator("#said").text_content())


def with_name(lab: TrainedModel, name: str, module: VAE | None = None) -> TrainedModel:
    """The same model under another name, or with another module."""
    return TrainedModel(
        replace(lab.run, name=name),
        lab.config,
        module or lab.module,
        lab.objective,
        device=lab.device,
        load_data=lambda: lab.data,
    )


@pytest.fixture(scope="session")
def models(ablations: Path) -> list[TrainedModel]:
    """Four models of the small study: two depths, another latent size, and a CVAE.

    After two epochs a decoder hardly answers to its latent vector. Larger weights make it answer, so that a
    move shows by more than the 1/255 to which the page is true.
    """
    store = reader(f"sqlite:///{ablations / 'mlflow.db'}")
    runs = {run.name: run for run in load_study(store, "ablations").runs}
    models = [model_of(store, runs[name]) for name in NAMES]
    for model in models:
        for name, weights in model.module.state_dict().items():
            if name.startswith(("decoder", "pixels")) and weights.ndim > 1:
                weights.mul_(2)
    return models


@pytest.fixture(scope="session")
def address(ablations: Path, models: list[TrainedModel], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the page of the four models lies."""
    study = load_study(reader(f"sqlite:///{ablations / 'mlflow.db'}"), "ablations")
    file = tmp_path_factory.mktemp("explorer") / "explorer.html"
    file.write_text(html(gather(models, study)), encoding="utf-8")
    return file.as_uri()


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens an address in a window of its own, and waits until the page is ready."""
    contexts = []

    def show(address: str, width: int = 1280, scheme: str = "light", **options: Any) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 860}, color_scheme=scheme, reduced_motion="reduce", **options
        )
        contexts.append(context)
        page = context.new_page()
        page.goto(address)
        page.locator(READY).wait_for()  # a condition would be polled by eval, which the page forbids
        return page

    yield show
    for context in contexts:
        context.close()
