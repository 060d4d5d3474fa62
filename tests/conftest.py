"""What the tests share: the device option, a folder of their own, small data, and the lab's command line."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from vae_lab.data import Dataset, Images
from vae_lab.files import CONF

BROWSER_FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
SMALL = ("data=digits", "model.hidden_size=16", "train.epochs=2", "train.device=cpu")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="where tensors lie: cpu, cuda, cuda:N or mps")
    parser.addoption("--screenshots", type=Path, help="a folder that keeps what browsers showed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that lie on the chosen device: `-m on_device --device cuda` leaves out all others."""
    for item in items:
        if "device" in getattr(item, "fixturenames", ()):
            item.add_marker("on_device")


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.config.getoption("--device"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real Chromium; while it is open no other can be, and no test of the process has an event loop."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=chromium, args=BROWSER_FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def screenshots(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures of pages go: the folder of `--screenshots`, else pytest's own."""
    chosen = request.config.getoption("--screenshots")
    folder = tmp_path_factory.mktemp("screenshots") if chosen is None else chosen.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return Path(folder)


@pytest.fixture(scope="session", autouse=True)
def _signals() -> None:
    """Signals that the tests were started to ignore, by `nohup` or in the background, are heard in the tests.

    What a test starts inherits an ignored signal, and not a handler.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.fixture(scope="session", autouse=True)
def _coarse_figures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Figures have few pixels: at their full size they are most of what a small run takes."""
    from vae_lab.report import drawing

    with pytest.MonkeyPatch.context() as patch:
        if request.config.getoption("--screenshots") is None:
            patch.setattr(drawing, "DOTS", 30)
        yield


@pytest.fixture(autouse=True)
def _no_handlers_of_others() -> Iterator[None]:
    """A command that ran in this process leaves no handler that logs to its own, closed streams."""
    yield
    for logger in (logging.getLogger(), logging.getLogger("vae_lab")):
        for handler in [*logger.handlers]:
            if not type(handler).__module__.startswith("_pytest"):
                logger.removeHandler(handler)


@pytest.fixture(scope="session", autouse=True)
def _state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Spools go to a folder of the tests' own; processes that a test starts inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture
def folder(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, with no tracking server in the environment and no spools."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh SQLite store; MLflow takes seconds to make one."""
    from vae_lab.tracking import Store

    file = tmp_path_factory.mktemp("fresh") / "mlflow.db"
    Store.open(f"sqlite:///{file}", create=True)
    return file


@pytest.fixture
def lab(folder: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """`vae-lab train ...` in this process: gives exit code, standard output and standard error."""
    from vae_lab.cli import train as command

    def train(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = command.run_hydra(list(arguments))
        out, err = capfd.readouterr()
        return code, out, err

    return train


@pytest.fixture
def composed() -> Callable[..., DictConfig]:
    """The config that overrides compose to, without its `hydra` node."""

    def make(*overrides: str) -> DictConfig:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose("config", list(overrides))

    return make


def patterns(count: int, seed: int, classes: int = 3, side: int = 4) -> Images:
    """Noisy images whose class is the row that is bright: learnable, and made in a millisecond."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    pixels = torch.randint(0, 40, (count, side, side), generator=generator)
    pixels[torch.arange(count), labels] += 200
    return Images(pixels.to(torch.uint8).reshape(count, -1), labels, 255)


@pytest.fixture
def rows(device: torch.device) -> Dataset:
    """A data set of 4 x 4 images in three classes."""
    made = Dataset("rows", patterns(96, 0), patterns(32, 1), (1, 4, 4), 3, "0" * 12, "nowhere")
    return made.to(device)


def trained(folder: Path, *line: str) -> Path:
    """Runs `vae-lab train` with a line in a folder, where store and state are kept, too; returns it."""
    from vae_lab.cli import train

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert train.run_hydra([*line]) == 0
    return folder


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Returns a folder that one of the processes in which tests run has filled; all of them only read it."""
    base = factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = base / name
    with FileLock(base / f"{name}.lock"):
        if not folder.exists():
            folder.mkdir()
            try:
                make(folder)
            except BaseException:  # the next that asks for it shall see the error, too
                shutil.rmtree(folder)
                raise
    return folder


@pytest.fixture(scope="session")
def ablations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `sweeps=ablations` has run on the 8 x 8 digits with narrow layers."""
    line = ("sweeps=ablations", *SMALL)
    return made_once(tmp_path_factory, "ablations", lambda folder: trained(folder, *line))
