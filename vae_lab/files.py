"""Files: where the lab's and the user's lie, and how they are written whole."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import platformdirs

from vae_lab.errors import LabError

PACKAGE = Path(__file__).resolve().parent
# A wheel carries the YAML folders inside the package; in the repository they lie beside it.
CONFIG_ROOT = PACKAGE if (PACKAGE / "conf").is_dir() else PACKAGE.parent
CONF = CONFIG_ROOT / "conf"


def cache_folder(name: str) -> Path:
    """The per-user cache folder of one kind of thing, such as `data/mnist`; it need not exist."""
    return Path(platformdirs.user_cache_dir("vae_lab", appauthor=False)) / name


def state_folder(name: str) -> Path:
    """The per-user folder of one kind of thing not to be lost, such as `journal`; it need not exist."""
    return Path(platformdirs.user_state_dir("vae_lab", appauthor=False)) / name


DIGEST = hashlib.sha256().digest_size


class DamagedError(LabError):
    """A file is not as it was written."""


def replace_file(path: Path, content: bytes) -> None:
    """Writes a file so that at every moment, a power cut included, the old or the whole new content is there.

    Raises:
        OSError: the disk is full or cannot be written; the old content is there.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with scratch.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    if os.name == "posix":  # the new name is part of the folder, which is on the disk only after this
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_sealed(path: Path, content: bytes) -> None:
    """Writes a file for `read_sealed`, as `replace_file` does."""
    replace_file(path, hashlib.sha256(content).digest() + content)


def read_sealed(path: Path) -> bytes:
    """The content of a file of `write_sealed`.

    Raises:
        FileNotFoundError: there is none.
        DamagedError: it is not as it was written, or cannot be read.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamagedError(f"{path}: cannot be read: {error.strerror or error}.") from error
    if hashlib.sha256(raw[DIGEST:]).digest() != raw[:DIGEST]:
        raise DamagedError(f"{path}: is damaged: its checksum does not match.")
    return raw[DIGEST:]


def checksum(path: Path) -> str:
    """Sixteen hex digits of the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
