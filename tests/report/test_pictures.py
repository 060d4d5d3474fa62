from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from vae_lab.report import pictures


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


def test_loss_curves_show_train_and_held_out_with_units() -> None:
    epochs = [
        {
            f"{part}/{name}": float(i)
            for part in ("train", "test")
            for name in ("loss", "reconstruction", "kl")
        }
        for i in range(3)
    ]
    figure = pictures.loss_curves(epochs, "vae")
    assert [axes.get_title() for axes in figure.axes] == ["Loss", "Reconstruction", "KL"]
    assert figure.axes[0].get_ylabel() == "nats per image"
    assert [line.get_label() for line in figure.axes[0].lines] == ["train", "held out"]
    assert figure.axes[1].lines[0].get_xdata().tolist() == [1, 2, 3]  # type: ignore[union-attr]


def test_the_contact_sheet_has_a_row_a_run_and_says_which_has_no_samples(tmp_path: Path) -> None:
    strip = np.zeros((8, 80, 1), dtype=np.uint8)
    sheet = pictures.contact_sheet([("vae L2", strip), ("vae L3", None)], "depth")
    texts = [text.get_text() for axes in sheet.axes for text in axes.texts]
    assert texts == ["vae L2", "no samples: the run did not finish", "vae L3"]
    sheet.savefig(tmp_path / "sheet.png")


def test_a_sweeps_curves_have_a_legend_as_long_as_it_can_be_read(tmp_path: Path) -> None:
    def drawn(number: int) -> Figure:
        curves = {f"vae L2 Z{size}": [[9.0, 8.0], [7.0]] for size in range(number)}
        figure = pictures.sweep_curves(curves, {}, "sizes")
        figure.savefig(tmp_path / f"{number}.png")
        return figure

    for number in (1, 20, pictures.MOST_NAMED):
        legend = drawn(number).axes[0].get_legend()
        assert legend is not None
        assert len(legend.texts) == number
        figure = drawn(number)
        box = figure.axes[0].get_legend().get_window_extent()  # type: ignore[union-attr]
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
    assert drawn(pictures.MOST_NAMED + 1).axes[0].get_legend() is None


def test_row_labels_stand_beside_their_rows(tmp_path: Path) -> None:
    figure = pictures.grid_figure(torch.rand(6, 16), (1, 4, 4), 2, "classes", ["0", "1", "2"])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["0", "1", "2"]
    figure.savefig(tmp_path / "grid.png")
