"""Files that are either whole or known to be damaged: written atomically, sealed by a checksum."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from vae_lab.errors import LabError

DIGEST = hashlib.sha256().digest_size


class DamagedError(LabError):
    """A file is not as it was written."""


def replace(path: Path, content: bytes) -> None:
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


def write(path: Path, content: bytes) -> None:
    """Writes a file for `read`, as `replace` does."""
    replace(path, hashlib.sha256(content).digest() + content)


def read(path: Path) -> bytes:
    """The content of a file of `write`.

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
