"""The files and the commands of docs/extending.md, in a folder that nothing else knows of."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import trained
from tests.guide import commands_of, page, write_files

GUIDE = page("extending.md")
SHORT = ("train.epochs=1", "train.device=cpu", "evaluation.pictures=false")
FEWER = {  # words of a command, and what makes it quick: fewer seeds and points
    "objective=importance_weighted": ("seed=0",),
    "experiments=disentangling": ("objective.beta=1.0,4.0", "seed=0,1"),
    "experiments=clothes": ("data=digits", "model.layers=2,3"),
}


def shortened(words: list[str]) -> list[str]:
    """A command of the guide with one epoch, on the digits unless it is about data, and with fewer runs."""
    fewer = [extra for word in words for extra in FEWER.get(word, ())]
    given = [word for word in words if word.partition("=")[0] not in ("seed", "seeds") or not fewer]
    about_data = any(word.startswith(("data=", "experiments=")) for word in words)
    return [*given, *fewer, *(() if about_data else ("data=digits",)), *SHORT]


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
    for command in commands_of(GUIDE):
        words = shlex.split(command.replace("/path/to/folder", str(guide / "kanji")))
        if words[0] == "train":
            trained(guide, *shortened(words[1:]))
    return guide
