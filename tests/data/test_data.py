import gzip
import hashlib
import http.server
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig

from tests.conftest import patterns
from vae_lab import files
from vae_lab.data import Batches, Dataset, binarized, cache, digits, idx, in_order, one_hot, sets, sources
from vae_lab.data import idx as load_idx
from vae_lab.data.idx import read, write
from vae_lab.data.sources import FILES, Folder, Mirror, PackageIndex
from vae_lab.errors import LabError, UserError
from vae_lab.jobs.parts import datasets

IMAGES = np.arange(5 * 3 * 2, dtype=np.uint8).reshape(5, 3, 2)
LABELS = np.array([0, 1, 2, 1, 0], dtype=np.uint8)


def fill(folder: Path) -> Path:
    """A folder of four small IDX files."""
    for name, array in zip(FILES, (IMAGES, LABELS, IMAGES[:2], LABELS[:2]), strict=True):
        write(folder / name, array)
    return folder


# IDX files


@pytest.mark.parametrize("packed", [False, True])
def test_idx_round_trip(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "images"
    write(path, IMAGES)
    if packed:
        path = tmp_path / "images.gz"
        path.write_bytes(gzip.compress((tmp_path / "images").read_bytes()))
    assert np.array_equal(read(path), IMAGES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "starts with nothing"),
        (b"\x00\x00\x0d\x01\x00\x00\x00\x01\x00", "starts with 00000d01"),
        (b"\x00\x00\x08\x03\x00\x00", "ends within its header"),
        (b"\x00\x00\x08\x01\x00\x00\x00\x05abcd", "5 bytes, but 4 follow"),
        (b"\x00\x00\x08\x01\x00\x00\x00\x02abcd", "2 bytes, but more follow"),
        (b"\x00\x00\x08\x03" + struct.pack(">3I", *[2**32 - 1] * 3), "at most"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(tmp_path / "bad")


def test_a_cut_gzip_file_is_named(tmp_path: Path) -> None:
    write(tmp_path / "images", IMAGES)
    (tmp_path / "cut.gz").write_bytes(gzip.compress((tmp_path / "images").read_bytes())[:-9])
    with pytest.raises(UserError, match=r"cut\.gz"):
        read(tmp_path / "cut.gz")


# sources and cache


class Memory:
    """A source that counts what it is asked for."""

    name = "memory"

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.asked = files, list[str]()

    def fetch(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        for name in names:
            self.asked.append(name)
            if name not in self.files:
                raise FileNotFoundError(f"no {name} here")
            yield name, self.files[name]


CONTENT = {"a": b"first", "b": b"second"}
SUMS = {name: hashlib.md5(content).hexdigest() for name, content in CONTENT.items()}


def test_what_is_in_the_cache_is_not_fetched_again(tmp_path: Path) -> None:
    source = Memory(CONTENT)
    for _ in range(2):
        assert cache.verified_files("x", tmp_path, SUMS, lambda: [source]) == CONTENT
    assert source.asked == ["a", "b"]
    assert {name: (tmp_path / name).read_bytes() for name in CONTENT} == CONTENT


@pytest.mark.parametrize("damage", [b"", b"firs", b"fIrst"])
def test_a_damaged_file_is_fetched_again_and_no_other(tmp_path: Path, damage: bytes) -> None:
    source = Memory(CONTENT)
    cache.verified_files("x", tmp_path, SUMS, lambda: [source])
    (tmp_path / "a").write_bytes(damage)
    cache.verified_files("x", tmp_path, SUMS, lambda: [source])
    assert source.asked == ["a", "b", "a"]
    assert (tmp_path / "a").read_bytes() == b"first"


def test_what_is_read_is_what_was_verified_whoever_writes_meanwhile(tmp_path: Path) -> None:
    class Meddling(Memory):
        def fetch(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
            for name, raw in super().fetch(names):
                (tmp_path / "a").write_bytes(b"another's")
                yield name, raw

    (tmp_path / "a").write_bytes(CONTENT["a"])
    assert cache.verified_files("x", tmp_path, SUMS, lambda: [Meddling(CONTENT)]) == CONTENT


@pytest.mark.parametrize("content", [b"", b"firs", b"of another data set"])
def test_no_file_of_the_users_is_replaced(tmp_path: Path, content: bytes) -> None:
    source = Memory(CONTENT)
    (tmp_path / "b").write_bytes(content)
    with pytest.raises(UserError) as caught:
        cache.verified_files("x", tmp_path, SUMS, lambda: [source], of_the_user=True)
    assert str(caught.value).startswith(f"data=x: {tmp_path / 'b'} is not the file of x (its MD5 is another)")
    assert source.asked == []
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("b", content)]


def test_a_link_of_the_users_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "b").symlink_to(tmp_path / "annexed")
    with pytest.raises(UserError, match=r"b is not the file of x \(a link that leads nowhere\)"):
        cache.verified_files("x", tmp_path, SUMS, lambda: [Memory(CONTENT)], of_the_user=True)
    assert (tmp_path / "b").is_symlink()


def test_into_a_folder_of_the_users_only_what_is_missing_is_fetched(tmp_path: Path) -> None:
    source = Memory(CONTENT)
    (tmp_path / "b").write_bytes(CONTENT["b"])
    assert cache.verified_files("x", tmp_path, SUMS, lambda: [source], of_the_user=True) == CONTENT
    assert source.asked == ["a"]


def test_the_labs_cache_mends_itself_by_whatever_name_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sets, "torchvision_mirrors", lambda _: [Memory({})])
    monkeypatch.setattr(sets, "MNIST_ARCHIVE", Memory({}))
    folder = files.cache_folder("data/mnist")
    folder.mkdir(parents=True)
    (folder / FILES[0]).write_bytes(b"damaged")
    for root in (None, str(folder)):
        with pytest.raises(LabError, match="no source has the files"):
            sets.mnist(root)
    with pytest.raises(UserError, match="is left as it is"):
        sets.fashion_mnist(str(folder))


def test_the_next_source_is_asked_for_what_is_still_missing(tmp_path: Path) -> None:
    half, whole = Memory({"a": b"first"}), Memory(CONTENT)
    cache.verified_files("x", tmp_path, SUMS, lambda: [half, whole])
    assert (half.asked, whole.asked) == (["a", "b"], ["b"])


def test_altered_files_are_never_kept_and_every_source_is_named(tmp_path: Path) -> None:
    altered = Memory({"a": b"wrong", "b": b"second"})
    nowhere = Mirror("http://127.0.0.1:9/")
    with pytest.raises(LabError) as caught:
        cache.verified_files("x", tmp_path, SUMS, lambda: [altered, nowhere, Folder(tmp_path / "none")])
    message = str(caught.value)
    assert "memory: OSError: a does not have the MD5" in message
    assert "mirror http://127.0.0.1:9/: ConnectionRefusedError" in message
    assert f"folder {tmp_path / 'none'}: FileNotFoundError" in message
    assert f"Put a, b into {tmp_path}, or name a folder that holds them with data.root=" in message
    assert not (tmp_path / "a").exists()


def test_an_unwritable_cache_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LabError, match="cannot write to"):
        cache.verified_files("x", tmp_path / "file" / "cache", SUMS, lambda: [Memory(CONTENT)])


def test_replacing_leaves_nothing_half_written(tmp_path: Path) -> None:
    files.replace_file(tmp_path / "a", b"old")
    files.replace_file(tmp_path / "a", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"new")]


def test_several_processes_fill_one_cache_together(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    fill(store)
    sums = {name: hashlib.md5((store / name).read_bytes()).hexdigest() for name in FILES}
    program = (
        "import sys, pathlib; from vae_lab.data import cache, sources; "
        f"cache.verified_files('x', pathlib.Path(sys.argv[1]), {sums!r}, "
        "lambda: [sources.Folder(pathlib.Path(sys.argv[2]))])"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "cache"), str(store)]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait(timeout=120) for process in processes] == [0] * 4
    assert not cache.unusable_files(tmp_path / "cache", sums)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server on this machine, and the folder that it serves."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/", folder
        running.shutdown()
        thread.join()


def test_a_mirror_is_read(server: tuple[str, Path]) -> None:
    url, folder = server
    (folder / "a.gz").write_bytes(gzip.compress(b"first"))
    assert list(Mirror(url).fetch(["a"])) == [("a", b"first")]
    with pytest.raises(OSError, match="404"):
        list(Mirror(url).fetch(["missing"]))


def test_the_package_index_is_read_as_a_zip_archive(
    server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import zipfile

    url, folder = server
    (folder / "simple" / "things").mkdir(parents=True)
    with zipfile.ZipFile(folder / "things-1-py3-none-any.whl", "w") as archive:
        archive.writestr("deep/train-images.idx3-ubyte", b"raw")
    digest = hashlib.sha256((folder / "things-1-py3-none-any.whl").read_bytes()).hexdigest()
    link = '<a href="/things-1-py3-none-any.whl">things-1-py3-none-any.whl</a>'
    (folder / "simple" / "things" / "index.html").write_text(f"<html><body>{link}</body></html>")
    monkeypatch.setenv("PIP_INDEX_URL", f"{url}simple/")
    index = PackageIndex("things", "things-1-py3-none-any.whl", digest)
    assert list(index.fetch([FILES[0]])) == [(FILES[0], b"raw")]
    with pytest.raises(OSError, match="SHA-256"):
        list(index._replace(sha256="0" * 64).fetch([FILES[0]]))
    with pytest.raises(OSError, match="lists no other"):
        list(index._replace(filename="other").fetch([FILES[0]]))
    with pytest.raises(OSError, match="nothing-here"):
        list(index._replace(project="nothing-here").fetch([FILES[0]]))


def test_torchvision_names_the_mirrors() -> None:
    mirrors = sources.torchvision_mirrors("MNIST")
    assert mirrors
    assert all(source.name.startswith("mirror http") for source in mirrors)


# data sets


def test_digits_need_no_file() -> None:
    data = digits()
    assert (len(data.train), len(data.test), data.shape, data.classes) == (1437, 360, (1, 8, 8), 10)
    assert data.train.scaled(slice(None)).max() == 1
    assert data.checksum == digits().checksum


def test_mnist_is_whole(tmp_path: Path) -> None:
    from vae_lab.data import mnist

    data = mnist()
    assert (len(data.train), len(data.test), data.shape, data.classes) == (60_000, 10_000, (1, 28, 28), 10)
    assert data.train.labels.bincount().tolist()[:3] == [5923, 6742, 5958]
    assert data.train.scaled(slice(None)).mean().item() == pytest.approx(0.1307, abs=1e-4)


@pytest.mark.parametrize("spelling", ["{}", "{}.gz", "dotted"])
def test_a_folder_of_idx_files_sets_size_and_classes(tmp_path: Path, spelling: str) -> None:
    fill(tmp_path)
    for name in FILES if spelling != "{}" else ():
        path = tmp_path / name
        if spelling == "dotted":
            path.rename(tmp_path / name.replace("-idx", ".idx"))
        else:
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    data = load_idx(str(tmp_path))
    assert (data.shape, data.size, data.classes, len(data.train), len(data.test)) == ((1, 3, 2), 6, 3, 5, 2)
    assert torch.equal(data.train.pixels, torch.from_numpy(IMAGES.reshape(5, 6)))


def test_channels_come_from_the_file(tmp_path: Path) -> None:
    fill(tmp_path)
    write(tmp_path / FILES[0], np.zeros((5, 3, 4, 2), dtype=np.uint8))
    write(tmp_path / FILES[2], np.zeros((2, 3, 4, 2), dtype=np.uint8))
    assert load_idx(str(tmp_path)).shape == (3, 4, 2)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (FILES[1], LABELS[:3], r"images of shape \(5, 3, 2\) with labels of shape \(3,\)"),
        (FILES[0], IMAGES[:0], r"N >= 1"),
        (FILES[0], IMAGES[:, 0], r"images of shape \(5, 2\)"),
        (FILES[2], IMAGES[:2, :2], "training images have shape"),
        (FILES[3], np.array([0, 9], dtype=np.uint8), "held-out label 9, but training labels end at 2"),
    ],
)
def test_files_that_do_not_fit_each_other_are_named(
    tmp_path: Path, name: str, array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], message: str
) -> None:
    fill(tmp_path)
    write(tmp_path / name, array)
    with pytest.raises(UserError, match=message):
        load_idx(str(tmp_path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    fill(tmp_path)
    os.remove(tmp_path / FILES[3])
    with pytest.raises(UserError, match=rf"no {FILES[3]} or {FILES[3]}\.gz there"):
        idx(str(tmp_path))


# batches


def test_an_epoch_shows_every_image_once_with_its_label(rows: Dataset) -> None:
    batches = Batches(rows.train, batch_size=36, C=3, seed=0)
    minibatches = list(batches(1))
    assert [len(x) for x, _ in minibatches] == batches.sizes() == [36, 36, 24]
    x, c = torch.cat([x for x, _ in minibatches]), torch.cat([c for _, c in minibatches])
    assert sorted(x.tolist()) == sorted(rows.train.scaled(slice(None)).tolist())
    assert torch.equal(x.view(-1, 4, 4).mean(-1).argmax(-1), c.argmax(-1))  # the bright row is the class


def test_epochs_are_shuffled_by_seed_and_number(rows: Dataset) -> None:
    def first(epoch: int, seed: int) -> torch.Tensor:
        return next(Batches(rows.train, batch_size=96, C=0, seed=seed)(epoch))[0]

    assert torch.equal(first(1, 0), first(1, 0))
    assert not torch.equal(first(1, 0), first(2, 0))
    assert not torch.equal(first(1, 0), first(1, 1))


def test_pixels_run_from_zero_to_one(device: torch.device) -> None:
    images = patterns(6, 0).to(device)
    x, _ = next(in_order(images, batch_size=6, C=0))
    assert x.dtype == torch.float32
    torch.testing.assert_close(x, images.pixels.float() / 255)


def test_no_classes_give_an_empty_condition(device: torch.device) -> None:
    labels = torch.tensor([2, 0], device=device)
    assert one_hot(labels, 0).shape == (2, 0)
    assert one_hot(labels, 3).tolist() == [[0, 0, 1], [1, 0, 0]]


def test_fixed_binarization_is_one_draw_with_the_grey_value_as_probability(device: torch.device) -> None:
    images = patterns(3000, 0).to(device)
    once, again = binarized(images, "train"), binarized(images, "train")
    assert torch.equal(once.pixels, again.pixels)
    assert once.scaled(slice(None)).unique().tolist() == [0, 1]
    torch.testing.assert_close(
        once.scaled(slice(None)).mean(0), images.scaled(slice(None)).mean(0), atol=0.05, rtol=0
    )
    assert not torch.equal(binarized(images, "test").pixels, once.pixels)


@pytest.mark.parametrize("binarize", ["fixed", "dynamic"])
def test_images_that_are_drawn_once_are_the_same_on_every_device(
    composed: Callable[..., DictConfig], device: torch.device, binarize: str
) -> None:
    settings = composed("data=digits", f"data.binarize={binarize}")
    grey, drawn = digits(), datasets.run_data(settings, device)
    assert torch.equal(drawn.test.pixels.cpu(), binarized(grey.test, "test").pixels)
    train = grey.train if binarize == "dynamic" else binarized(grey.train, "train")
    assert torch.equal(drawn.train.pixels.cpu(), train.pixels)
    faulty = datasets.run_data(composed("data=digits", "fault=grey_binarized"), device)
    assert torch.equal(faulty.train.pixels.cpu(), binarized(grey.train, "train").pixels)


@pytest.mark.parametrize("line", ["data.binarize=fixed", "data.binarize=dynamic", "fault=grey_binarized"])
def test_a_devices_generator_draws_no_data(composed: Callable[..., DictConfig], line: str) -> None:
    nowhere = torch.device("meta")  # which has no generator
    data = datasets.run_data(composed("data=digits", line), nowhere)
    assert {data.train.pixels.device, data.test.labels.device} == {nowhere}


def test_dynamic_binarization_draws_anew_every_epoch(rows: Dataset) -> None:
    batches = Batches(rows.train, batch_size=96, C=0, seed=0, dynamic=True)
    (first, _), (again, _), (other, _) = next(batches(1)), next(batches(1)), next(batches(2))
    assert first.unique().tolist() == [0, 1]
    assert torch.equal(first, again)
    assert not torch.equal(first.sort(0).values, other.sort(0).values)
