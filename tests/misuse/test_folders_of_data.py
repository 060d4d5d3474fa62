import gzip
import os
import re
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.misuse.conftest import PROFILE, TINY, Answer, Lab
from vae_lab import machine
from vae_lab.data import cache, idx
from vae_lab.data.idx import write
from vae_lab.data.sources import FILES, LARGEST, gunzip
from vae_lab.errors import LabError, UserError

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]

IMAGES = np.arange(6 * 4 * 4, dtype=np.uint8).reshape(6, 4, 4)
LABELS = np.array([0, 1, 2, 0, 1, 2], dtype=np.uint8)


def fill(folder: Path) -> Path:
    """A folder of four small IDX files that can be trained on."""
    for name, array in zip(FILES, (IMAGES, LABELS, IMAGES, LABELS), strict=True):
        write(folder / name, array)
    return folder


def header(*shape: int, kind: int = 8) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, kind, len(shape), *shape)


@settings(PROFILE, max_examples=150)
@given(
    place=st.sampled_from(FILES),
    packed=st.booleans(),
    content=st.one_of(
        st.binary(max_size=40),
        st.tuples(
            st.builds(
                lambda sizes, kind: header(*sizes, kind=kind),
                st.lists(st.one_of(st.integers(0, 8), st.integers(0, 2**32 - 1)), min_size=1, max_size=4),
                st.sampled_from([8, 8, 8, 9, 13, 14]),
            ),
            st.binary(max_size=200),
        ).map(b"".join),
    ),
    damage=st.none() | st.integers(0, 60),
)
@example(place=FILES[0], packed=False, content=header(6, 0, 4), damage=None)
@example(place=FILES[0], packed=True, content=header(6, 4, 4) + bytes(96), damage=14)
def test_a_file_of_any_bytes_is_read_or_named(
    tmp_path: Path, place: str, packed: bool, content: bytes, damage: int | None
) -> None:
    for file in tmp_path.iterdir():
        file.unlink()
    fill(tmp_path)
    written = gzip.compress(content, mtime=0) if packed else content
    if damage is not None and damage < len(written):
        written = written[:damage] + bytes([written[damage] ^ 255]) + written[damage + 1 :]
    (tmp_path / place).unlink()
    (tmp_path / f"{place}{'.gz' if packed else ''}").write_bytes(written)
    message, found = "", None
    try:
        found = idx(str(tmp_path))
    except UserError as error:
        message = str(error)
    if found is None:
        assert str(tmp_path) in message or message.startswith(f"data {tmp_path.name}")
    else:
        assert len(found.train) >= 1
        assert found.size >= 1
        assert found.shape[0] in (1, 3)


CASES = {
    "wrong magic": (FILES[0], b"\x89PNG", "starts with 89504e47"),
    "floats": (FILES[0], header(6, 4, 4, kind=13) + bytes(4 * 96), "starts with 00000d03"),
    "one dimension": (FILES[0], header(96) + bytes(96), "they must be (N, height, width)"),
    "cut": (FILES[0], header(6, 4, 4) + bytes(95), "96 bytes, but 95 follow"),
    "longer": (FILES[0], header(6, 4, 4) + bytes(97), "96 bytes, but more follow"),
    "2^31 images": (FILES[0], header(2**31, 28, 28) + bytes(9), "at most 8589934592 are read"),
    "2^31 labels": (FILES[1], header(2**31) + bytes(9), "which a file of its size cannot hold"),
    "no images": (FILES[0], header(0, 4, 4), "N >= 1"),
    "no pixels": (FILES[0], header(6, 4, 0), "a pixel at least"),
    "two channels": (FILES[0], header(6, 2, 4, 4) + bytes(192), "1 channel (grey) or 3"),
    "other length": (FILES[1], header(5) + bytes(5), "labels of shape (5,)"),
    "label out of range": (FILES[3], header(6) + bytes([0, 1, 2, 9, 0, 0]), "held-out label 9"),
    "empty": (FILES[2], b"", "starts with nothing"),
}


@pytest.mark.parametrize("case", CASES)
def test_damage_is_one_message_of_the_command_and_leaves_nothing(
    answer: Answer, tmp_path_factory: pytest.TempPathFactory, case: str
) -> None:
    place, content, named = CASES[case]
    root = fill(tmp_path_factory.mktemp("data"))
    (root / place).write_bytes(content)
    if case == "two channels" or case == "no pixels":
        (root / FILES[2]).write_bytes(content)
    assert named in answer("data=idx", f"data.root={root}", *TINY[1:])


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "nowhere", "socket"])
def test_what_is_no_file_is_not_waited_for(
    answer: Answer, tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    root = fill(tmp_path_factory.mktemp("data"))
    path = root / FILES[0]
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "nowhere":
        path.symlink_to(root / "nowhere")
    else:
        import socket

        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    assert f"no {FILES[0]} or {FILES[0]}.gz there" in answer("data=idx", f"data.root={root}", *TINY[1:])
    sums = {FILES[0]: "0" * 32}
    with pytest.raises(LabError, match=rf"{FILES[0]} is|cannot write"):
        cache.verified_files("mnist", root, sums, list)


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    fill(tmp_path)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=rf"{FILES[0]}: cannot be read: .*Permission denied"):
        idx(str(tmp_path))


@pytest.mark.parametrize("root", ["~nobody-of-that-name/x", "[red]", "x" * 900, "-", "..", "'a b'"])
def test_a_strange_folder_is_named(answer: Answer, root: str) -> None:
    assert "data.root" in answer("data=idx", f"data.root={root}", *TINY[1:])


def test_a_gzip_bomb_ends_where_its_header_does(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / FILES[0]).unlink()
    bomb = gzip.compress(header(6, 4, 4) + bytes(2**26), 9)
    (tmp_path / f"{FILES[0]}.gz").write_bytes(bomb)
    begin = time.monotonic()
    with pytest.raises(UserError, match="96 bytes, but more follow"):
        idx(str(tmp_path))
    assert time.monotonic() - begin < 1


def test_a_header_may_not_promise_more_than_memory_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)
    monkeypatch.setattr(machine, "free_memory", lambda _: 200)
    with pytest.raises(UserError, match="96 bytes; 200 bytes of memory are free"):
        idx(str(tmp_path))


def test_a_mirrors_gzip_bomb_is_not_unpacked() -> None:
    assert gunzip(gzip.compress(b"raw"), "x") == b"raw"
    with pytest.raises(OSError, match=f"holds more than {LARGEST} bytes"):
        gunzip(gzip.compress(bytes(LARGEST + 1), 1), "x")


@pytest.mark.parametrize(
    ("shape", "count"), [((1, 1), 1), ((1, 300), 2), ((300, 1), 2), ((3, 2, 5), 1)], ids=str
)
def test_the_oddest_data_that_fit_are_trained_on(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory, shape: tuple[int, ...], count: int
) -> None:
    root = tmp_path_factory.mktemp("$odd [red]")
    images = np.arange(count * np.prod(shape), dtype=np.uint8).reshape(count, *shape)
    labels = np.full(count, 0, dtype=np.uint8)
    for name, array in zip(FILES, (images, labels, images, labels), strict=True):
        write(root / name, array)
    code, _, err = lab("data=idx", f"data.root='{root}'", "model=cvae", *TINY[1:-1])
    assert code == 0, err


def described(command: Lab, root: Path, images: Pixels, labels: Pixels = LABELS, *flags: str) -> str:
    """What `vae-lab data` says of images and their labels, which are also those held out."""
    for name, array in zip(FILES, (images, labels, images, labels), strict=True):
        write(root / name, array)
    code, out, err = command("data", "idx", "--root", str(root), *flags)
    assert code == 0, err
    return " ".join(out.split())


def test_a_spectrum_is_compared_at_the_latent_sizes_that_fit(command: Lab, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 300)).astype(np.uint8)
    labels = (np.arange(40) % 3).astype(np.uint8)
    for (height, width), sizes in {(4, 5): "10 15", (5, 8): "10 15 30", (2, 3): "5", (1, 1): ""}.items():
        images = noise[:, : height * width].reshape(-1, height, width)
        out = described(
            command, tmp_path, images, labels, "--svd", "--figure", str(tmp_path / f"{width}.png")
        )
        rows = re.findall(r" (\d+) \d+\.\d 0\.\d{4} -?[\d,]+\.\d \d+(?= )", out)
        assert " ".join(rows) == sizes, out
        assert ("no latent size is below the one pixel of an image" in out) == (not sizes)


def test_a_latent_size_without_noise_has_no_density_and_says_why(command: Lab, tmp_path: Path) -> None:
    code, out, err = command("data", "digits", "--svd", "--latent-size", "61", "--latent-size", "20")
    assert code == 0, err
    assert re.search(r"61 +100\.0 +0\.0000 +– +60", out)  # 60 pixels vary
    assert "–: Z dimensions hold all variance" in out
    few = np.random.default_rng(0).integers(0, 256, (4, 5, 5)).astype(np.uint8)
    out = described(command, tmp_path, few, np.array([0, 1, 2, 0], np.uint8), "--svd")
    assert "10 100.0 0.0000 – 3" in out  # four centred images span three dimensions


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_a_folder_of_other_images_of_the_same_names_is_left_as_it_is(
    command: Lab, tmp_path: Path, name: str
) -> None:
    fill(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    code, _, err = command("data", name, "--root", str(tmp_path))
    assert code == 2
    assert err.startswith(f"vae-lab: data={name}: {tmp_path / FILES[0]} is not the file of {name} ")
    assert err.count("\n") == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_images_that_are_all_the_same_have_no_spectrum(command: Lab, tmp_path: Path) -> None:
    images = np.full((6, 4, 4), 100, np.uint8)
    out = described(command, tmp_path, images)
    assert "mean 0.3922" in out
    code, _, err = command("data", "idx", "--root", str(tmp_path), "--svd")
    assert code == 2
    assert (
        err
        == f"vae-lab: --svd: all training images of {tmp_path.name} are the same; they have no spectrum.\n"
    )


def test_classes_without_images_and_a_wrong_white_are_said(command: Lab, tmp_path: Path) -> None:
    out = described(command, tmp_path, IMAGES, LABELS + 1)
    assert "classes 3 of 4, with 2 to 2 training images each" in out
    assert "no training image has label 0; nothing is drawn or counted of such a class." in out
    out = described(command, tmp_path, IMAGES // 64, LABELS)
    assert "classes 3, with 2 to 2 training images each" in out
    assert "pixels run from 0 to 1, but white is 255." in out
