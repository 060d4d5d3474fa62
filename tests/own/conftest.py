"""The files and the commands of docs/extending.md, in a folder that nothing else knows of."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import trained
from tests.guide import lines, read, scaled, trains, write_files

GUIDE = read("extending.md")
SHORT = ("train.epochs=1", "train.device=cpu", "evaluation.pictures=false")
FEWER = {  # words of a command, and what makes it quick: fewer seeds and points
    "experiments=several_draws": ("experiments=several_draws", "data=digits", "seed=0"),
    "experiments=disentangling": ("experiments=disentangling", "objective.beta=1.0,4.0", "seed=0,1"),
    "experiments=clothes": ("experiments=clothes", "data=digits", "model.layers=2,3", "seeds=1"),
    "experiments=width_study": (
        "experiments=width_study",
        "data=digits",
        "model=vae",
        "model.hidden_size=100",
        "model.latent_size=15",
        "seed=0",
    ),
    **dict.fromkeys(("seeds=6", "seeds=10", "seeds=auto"), ()),
}


def shortened(words: list[str]) -> list[str]:
    """A command of the guide with one epoch, on the digits unless it is about data, and with fewer runs."""
    about_data = any(word.startswith(("data=", "experiments=")) for word in words)
    return scaled(words, FEWER, SHORT if about_data else ("data=digits", *SHORT))


@pytest.fixture(scope="package")
def guide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the files of the guide, whose modules can be imported while its tests run."""
    folder = write_files(GUIDE, tmp_path_factory.mktemp("guide"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, str(folder)])
        yield folder
    for name in [name for name in sys.modules if (folder / f"{name}.py").exists()]:
        del sys.modules[name]


@pytest.fixture(scope="package")
def trained_guide(guide: Path) -> Path:
    """The same, once every command of the guide that trains has run in it."""
    from vae_lab.data.idx import write

    (guide / "kanji").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8)).astype(np.uint8)
    for part in ("train", "t10k"):
        write(guide / "kanji" / f"{part}-images-idx3-ubyte", pixels)
        write(guide / "kanji" / f"{part}-labels-idx1-ubyte", np.arange(40).astype(np.uint8) % 4)
    for words in filter(trains, lines(GUIDE, "vae-lab", {"/path/to/folder": "kanji"})):
        trained(guide, *shortened(words[1:]))
    return guide
