from pathlib import Path

import numpy as np
import pytest
import torch

from vae_lab.report import pictures
from vae_lab.report.drawing import save, save_figures, standalone_figure


def test_a_grid_holds_each_image_at_its_place() -> None:
    images = torch.zeros(3, 4)
    images[1] = torch.tensor([0.0, 1.0, 0.5, 0.0])
    grid = pictures.tile(images, (1, 2, 2), columns=2)
    assert grid.shape == (5, 5, 1)
    assert grid[:2, 3:, 0].tolist() == [[0, 255], [128, 0]]
    assert grid.sum() == 255 + 128


def test_colours_stay_together() -> None:
    grid = pictures.tile(torch.tensor([[1.0, 0.0, 0.5]]), (3, 1, 1), columns=1)
    assert grid.tolist() == [[[255, 0, 128]]]


def test_pixels_beyond_the_range_are_clipped() -> None:
    assert pictures.tile(torch.tensor([[-1.0, 2.0]]), (1, 1, 2), columns=1)[..., 0].tolist() == [[0, 255]]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_saved_picture_comes_back(tmp_path: Path, channels: int) -> None:
    picture = np.arange(6 * channels, dtype=np.uint8).reshape(2, 3, channels)
    pictures.save_picture(picture, tmp_path / "a.png")
    assert np.array_equal(pictures.load_picture(tmp_path / "a.png"), picture)


def test_enlarging_repeats_pixels() -> None:
    small = np.array([[[1], [2]]], dtype=np.uint8)
    assert pictures.enlarged(small, 2)[..., 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2]]


def test_the_contact_sheet_has_a_row_a_run_and_says_which_has_no_samples(tmp_path: Path) -> None:
    strip = np.zeros((8, 80, 1), dtype=np.uint8)
    sheet = pictures.contact_sheet([("vae L2", strip), ("vae L3", "the run did not finish")], "depth")
    with standalone_figure(sheet) as figure:
        texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert texts == ["vae L2", "no samples: the run did not finish", "vae L3"]
    save(sheet, tmp_path / "sheet.png")


def test_row_labels_stand_beside_their_rows(tmp_path: Path) -> None:
    grid = pictures.image_grid("grid", torch.rand(6, 16), (1, 4, 4), 2, "classes", ["0", "1", "2"])
    with standalone_figure(grid) as figure:
        assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["0", "1", "2"]
    save_figures(tmp_path, [grid])
    assert (tmp_path / "figures" / "grid.png").stat().st_size > 1000
