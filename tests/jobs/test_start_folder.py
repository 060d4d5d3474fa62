"""Relative paths are meant from the folder in which a command was started, wherever Hydra has changed to."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vae_lab import tracking
from vae_lab.data.idx import write
from vae_lab.data.sources import FILES
from vae_lab.tracking import reader

Lab = Callable[..., tuple[int, str, str]]
TINY = ("data=idx", "data.root=images", "model.hidden_size=4", "train.epochs=1", "train.device=cpu")
PLAIN = ("evaluation.pictures=false", "hydra.job.chdir=true")


@pytest.fixture
def images(folder: Path) -> Path:
    (folder / "images").mkdir()
    pixels, labels = np.arange(8 * 16, dtype=np.uint8).reshape(8, 4, 4), np.arange(8, dtype=np.uint8) % 2
    for name, array in zip(FILES, (pixels, labels, pixels[:4], labels[:4]), strict=True):
        write(folder / "images" / name, array)
    return folder


@pytest.mark.parametrize("address", [(), ("tracking.uri=sqlite:///mlflow.db",)], ids=["default", "relative"])
def test_a_run_that_hydra_puts_into_a_folder_is_kept_where_it_was_started(
    lab: Lab, images: Path, address: tuple[str, ...]
) -> None:
    code, _, err = lab(*TINY, *PLAIN, *address, "hydra.run.dir=out/now")
    assert code == 0, err
    assert list((images / "out" / "now").iterdir()) == []
    [run] = reader().tagged(tracking.KIND, tracking.RUN)
    assert run.params["data.root"] == "images"
    code, out, err = lab(*TINY, *PLAIN, *address, "hydra.run.dir=out/then")
    assert "is there already" in out + err


@pytest.mark.parametrize("launcher", ["basic", "workers", "stacked"])
def test_the_runs_of_a_multirun_are_kept_together_under_every_launcher(
    lab: Lab, images: Path, launcher: str, caplog: pytest.LogCaptureFixture
) -> None:
    folders = ("hydra.sweep.dir=out", "hydra.sweep.subdir=${hydra:job.num}")
    code, _, err = lab("-m", *TINY, *PLAIN, *folders, f"hydra/launcher={launcher}", "seed=0,1")
    assert code == 0, err
    assert [*images.rglob("*.db")] == [images / "mlflow.db"]
    store = reader()
    [parent] = store.tagged(tracking.KIND, tracking.SWEEP)
    assert len(store.members(parent.run_id)) == 2
    assert "${hydra:job.num}" in parent.tags[tracking.COMMAND]
    assert ("stay in this folder" in caplog.text) == (launcher != "basic")
