"""A loader of one's own (`data._target_=my_data.load`): what it returns is checked as a file would be."""

import itertools
import re
import sys
import textwrap
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tests.house import ROOT
from tests.misuse.conftest import TINY, Answer, Lab
from vae_lab.data import Dataset, Images, arrays, dataset
from vae_lab.data.arrays import remarks
from vae_lab.jobs.parts import datasets

CPU = torch.device("cpu")
PIXELS = np.arange(6 * 4 * 4, dtype=np.uint8).reshape(6, 4, 4)
LABELS = np.array([0, 1, 2, 0, 1, 2])
NUMBERS = itertools.count()  # data sets are loaded once by name: every test has a name of its own

Loader = Callable[[Callable[[], Any]], str]


def images(pixels: Any = PIXELS, labels: Any = LABELS, peak: Any = 255) -> Images:
    return Images(pixels, labels, peak)


def own(train: Any = None, test: Any = None, **others: Any) -> Any:
    """A data set as a loader of one's own may return it: of arrays, and without a checksum."""
    fields: dict[str, Any] = {
        "name": "own",
        "shape": (1, 4, 4),
        "classes": 3,
        "checksum": "",
        "origin": "here",
    } | others
    return Dataset(
        train=images() if train is None else train, test=images() if test is None else test, **fields
    )


@pytest.fixture
def loader(monkeypatch: pytest.MonkeyPatch) -> Loader:
    """Makes a function the loader of a module of one's own, and returns its dotted name."""

    def make(load: Callable[[], Any]) -> str:
        module = types.ModuleType(f"my_data_{next(NUMBERS)}")
        module.load = lambda root=None: load()  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return f"{module.__name__}.load"

    return make


def loaded_from(data: Any) -> Dataset:
    """What the lab takes of a data set that a loader of one's own returns."""
    return arrays.checked(data, "data own")


def loaded(name: str) -> Dataset:
    return datasets._dataset(name, None, "none", CPU)


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "floats to 255 with peak 1": (
        lambda: own(images(PIXELS + 0.5, peak=1)),
        "train: pixels run from 0.5 to 95.5; with peak=1, which is white, they lie between 0 and 1",
    ),
    "bytes to 95 with peak 1": (lambda: own(images(peak=1)), "train: pixels run from 0 to 95; with peak=1"),
    "pixels from -1 to 1": (
        lambda: own(images(PIXELS / 47.5 - 1, peak=1)),
        "train: pixels run from -1 to 1; with peak=1, which is white, they lie between 0 and 1",
    ),
    "floats to 1 with peak 255": (
        lambda: own(images(PIXELS / 255, peak=255)),
        "train: pixels run from 0 to 0.372549; with peak=255 they would be black; fractions of white have",
    ),
    "NaN": (lambda: own(images(np.full((6, 4, 4), np.nan), peak=1)), "train: a pixel is not a finite number"),
    "a label beyond the classes": (
        lambda: own(images(labels=LABELS + 1)),
        "train: labels run from 1 to 3; with classes=3 they lie between 0 and 2",
    ),
    "a held-out label of -1": (
        lambda: own(test=images(labels=LABELS - 1)),
        "test: labels run from -1 to 1; with classes=3 they lie between 0 and 2",
    ),
    "a label of 0.5": (
        lambda: own(images(labels=LABELS / 2)),
        "train: a label is 0.5; labels are whole numbers",
    ),
    "words for labels": (lambda: own(images(labels=np.array([*"abcabc"]))), "train: labels are of type <U1"),
    "one-hot labels": (
        lambda: own(images(labels=np.eye(3)[LABELS])),
        "train: images of shape (6, 4, 4) with labels of shape (6, 3)",
    ),
    "unequal lengths": (
        lambda: own(images(labels=LABELS[:5])),
        "train: images of shape (6, 4, 4) with labels of shape (5,)",
    ),
    "an empty held-out part": (
        lambda: own(test=images(PIXELS[:0], LABELS[:0])),
        "test: images of shape (0, 4, 4) with labels of shape (0,); they must be",
    ),
    "channels last": (
        lambda: own(images(np.zeros((6, 4, 5, 3), np.uint8)), shape=(3, 4, 5)),
        "train: images have shape (4, 5, 3), but shape=(3, 4, 5): channels, height, width",
    ),
    "another shape": (
        lambda: own(images(PIXELS.reshape(6, 16)), shape=(1, 5, 5)),
        "train: images have 16 pixels, but shape=(1, 5, 5)",
    ),
    "no shape": (lambda: own(images(PIXELS.reshape(6, 16)), shape=None), "train: images of shape (6, 16)"),
    "a number for a shape": (lambda: own(shape=16), "shape=16: must be channels, height and width"),
    "two channels": (lambda: own(images(np.zeros((6, 2, 4, 4), np.uint8)), shape=(2, 4, 4)), "1 channel"),
    "no classes": (lambda: own(classes=0), "classes=0: must be a whole number of 1 or more"),
    "a peak of 0": (lambda: own(images(peak=0)), "train: peak=0: must be the pixel value"),
    "a pair for Images": (lambda: own((PIXELS, LABELS)), "train: is a tuple, not a vae_lab.data.Images"),
    "ragged lists": (lambda: own(images([[[1]], [[1, 2]]])), "train: images are no array"),
    "a number for a name": (lambda: own(name=3), "name=3: must be a text"),
    "a pair for a Dataset": (lambda: (images(), images()), "returns a tuple, not a vae_lab.data.Dataset"),
    "the helper": (lambda: dataset("h", PIXELS, LABELS[:5], PIXELS, LABELS), "labels of shape (5,)"),
    "an exception": (lambda: 1 / 0, "division by zero"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_loader_returns_is_checked_in_one_line_that_names_it(
    answer: Answer, loader: Loader, case: str
) -> None:
    load, rule = WRONG[case]
    name = loader(load)
    message = answer(*TINY[1:], f"data._target_={name}", "model=cvae")
    assert message.startswith(f"data._target_={name}: ")
    assert rule in message


TAKEN: dict[str, Callable[[], Any]] = {
    "arrays (N, H, W)": own,
    "tensors": lambda: own(images(torch.from_numpy(PIXELS), torch.from_numpy(LABELS))),
    "arrays (N, D)": lambda: own(images(PIXELS.reshape(6, 16))),
    "arrays (N, C, H, W)": lambda: own(images(PIXELS.reshape(6, 1, 4, 4))),
    "a shape without channels": lambda: own(shape=(4, 4)),
    "labels (N, 1)": lambda: own(images(labels=LABELS[:, None])),
    "labels as floats": lambda: own(images(labels=LABELS.astype(float))),
    "lists": lambda: own(images(PIXELS.tolist(), LABELS.tolist())),
    "long integers": lambda: own(images(PIXELS.astype(np.int64))),
    "floats to 255": lambda: own(images(PIXELS.astype(np.float64))),
    "big-endian": lambda: own(images(PIXELS.astype(">f4"), LABELS.astype(">i4"))),
    "reversed views": lambda: own(images(PIXELS[::-1].copy()[::-1], LABELS[::-1].copy()[::-1])),
    "a checksum of its own": lambda: own(checksum="v1"),
    "the helper": lambda: dataset("own", PIXELS, LABELS, PIXELS, LABELS),
    "the helper with pixels (N, C, H, W)": lambda: dataset(
        "own", PIXELS[:, None], LABELS, PIXELS, LABELS[:, None]
    ),
}


@pytest.mark.parametrize("case", TAKEN)
def test_what_can_be_taken_without_doubt_is_the_same_data_set(loader: Loader, case: str) -> None:
    data = loaded(loader(TAKEN[case]))
    assert (data.shape, data.classes, data.size, data.train.peak) == ((1, 4, 4), 3, 16, 255)
    assert data.train.pixels.dtype == torch.uint8
    assert data.train.labels.dtype == torch.int64
    assert torch.equal(data.train.pixels, torch.from_numpy(PIXELS.reshape(6, 16)))
    assert data.train.labels.tolist() == LABELS.tolist()
    # The checksum is that of pixels and labels, whoever made the data set.
    assert data.checksum == dataset("other", PIXELS, LABELS, PIXELS, LABELS).checksum


def test_fractions_of_white_stay_as_they_are(loader: Loader) -> None:
    fractions = np.linspace(0, 1, 96).reshape(6, 4, 4)
    for load in (
        lambda: own(images(fractions, peak=1)),
        lambda: own(images(fractions * 4095, peak=4095)),
        lambda: dataset("own", fractions, LABELS, fractions, LABELS),
    ):
        data = loaded(loader(load))
        for _ in range(2):  # scaling leaves what is stored as it was
            torch.testing.assert_close(
                data.train.scaled(slice(None)), torch.from_numpy(fractions.reshape(6, 16)).float()
            )


GREY = np.linspace(0, 1, 96).reshape(6, 4, 4)
BINARY = (PIXELS % 2).reshape(6, 4, 4)


@pytest.mark.parametrize("kind", ["float64", "uint8", "bool"])
@pytest.mark.parametrize("peak", [None, 1])
def test_zeros_and_ones_beside_fractions_are_black_and_white(kind: str, peak: int | None) -> None:
    for parts in ((GREY, BINARY.astype(kind)), (BINARY.astype(kind), GREY)):
        data = dataset("binary", parts[0], LABELS, parts[1], LABELS, peak=peak)
        for images, numbers in zip((data.train, data.test), parts, strict=True):
            assert images.peak == 1
            expected = torch.from_numpy(numbers.reshape(6, 16)).float()
            torch.testing.assert_close(images.scaled(slice(None)), expected)
        assert not [*remarks(data)]


def test_whole_numbers_beside_fractions_keep_their_own_white() -> None:
    data = dataset("mixed", GREY, LABELS, PIXELS, LABELS)
    torch.testing.assert_close(
        data.test.scaled(slice(None)), torch.from_numpy(PIXELS.reshape(6, 16)).float() / 255
    )


def test_held_out_images_that_were_read_as_almost_black_pass_for_no_others() -> None:
    wrong, right = (loaded_from(own(images(GREY, peak=1), images(BINARY, peak=peak))) for peak in (255, 1))
    assert wrong.checksum != right.checksum
    # Whoever trained on the wrong ones before there was this rule has a run of this checksum.
    assert right.checksum != arrays._checksum(
        right.train, Images(torch.from_numpy(BINARY.reshape(6, 16)), right.test.labels, 1), (1, 4, 4), 3
    )
    in_bytes = [own(images(PIXELS), images(BINARY, peak=peak)) for peak in (255, 1)]
    assert len({loaded_from(data).checksum for data in in_bytes}) == 2


def test_the_checksum_of_parts_of_one_kind_is_that_of_earlier_versions() -> None:
    checksums = [
        dataset("own", pixels, LABELS, pixels, LABELS, peak=peak).checksum
        for pixels, peak in ((PIXELS, None), (GREY, None), (BINARY, 1), (PIXELS * 9.0, 4095))
    ]
    assert checksums == ["c2c450d56452", "fa6635863f13", "012fd739a5b8", "5eb8baecf0b9"]


def test_parts_of_unlike_brightness_are_said() -> None:
    said = "the brightest pixel is 0.373 of white in training images, 0.00392 in held-out ones."
    for data in (dataset("own", PIXELS, LABELS, BINARY, LABELS), own(images(PIXELS), images(BINARY))):
        assert [*remarks(loaded_from(data))] == [f"data own: {said}"]
    assert not [*remarks(loaded_from(own(images(PIXELS), images(BINARY, peak=1))))]


def test_a_loader_of_ones_own_trains_and_is_measured(lab: Lab, loader: Loader) -> None:
    name = loader(lambda: own(images(PIXELS / 95, peak=1), images(PIXELS / 95, LABELS[:, None], peak=1)))
    code, _, err = lab(f"data._target_={name}", "model=cvae", *TINY[1:], "data.binarize=dynamic")
    assert code == 0, err


def test_the_loader_of_the_guide_works(loader: Loader) -> None:
    (code,) = re.findall(
        r"# my_data\.py\n((?:    .*\n|\n)+?)\n    #", (ROOT / "docs" / "extending.md").read_text()
    )
    names: dict[str, Any] = {}
    exec(textwrap.dedent(code), names)
    data = loaded(loader(lambda: names["load"](None)))
    assert (data.name, len(data.train), len(data.test), data.classes) == ("stripes", 1000, 200, 3)


def test_an_error_inside_a_module_of_ones_own_is_named(
    answer: Answer, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("modules")
    (folder / "my_broken_data.py").write_text("import a_module_that_nobody_has\n")
    monkeypatch.syspath_prepend(str(folder))
    message = answer(*TINY[1:], "data._target_=my_broken_data.load")
    assert "No module named 'a_module_that_nobody_has'" in message
    assert "no function of that name can be imported" in answer(*TINY[1:], "data._target_=my_nothing.load")
