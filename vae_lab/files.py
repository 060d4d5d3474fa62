"""The lab's and the user's folders, and files that are written whole and checked when they are read."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EDQUOT, EFBIG, ENOSPC
from pathlib import Path
from typing import Any

import platformdirs

from vae_lab.errors import LabError, UserError, quoted

PACKAGE = Path(__file__).resolve().parent
# A wheel carries the YAML folders inside the package; in the repository they lie beside it.
CONFIG_ROOT = PACKAGE if (PACKAGE / "conf").is_dir() else PACKAGE.parent
CONF = CONFIG_ROOT / "conf"
FULL = (ENOSPC, EFBIG, EDQUOT)  # errors of a disk, or a user's share of it, that takes no more
LITTLE_SPACE = 1 << 20  # bytes; with fewer left, a failed write is put down to a full disk
DIGEST = hashlib.sha256().digest_size  # bytes of the seal before a sealed file's content


_start_folder: Path | None = None  # if it is another than the process's own


class DamagedError(LabError):
    """A file is not as it was written."""


@contextmanager
def full_disk_told(folder: Path, told: Callable[[OSError], LabError]) -> Iterator[None]:
    """Raises `told` of the error in place of whatever comes out of the block because a disk is full.

    Args:
        folder: That the block writes into. Some writers raise errors of their own where it is full.
        told: Returns the message.
    """
    try:
        yield
    except LabError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise told(error) from error
        if shutil.disk_usage(folder).free < LITTLE_SPACE:
            raise told(OSError(ENOSPC, os.strerror(ENOSPC))) from error
        raise


def from_home(name: str, setting: str = "") -> Path:
    """Returns a path that a user gave, whose ~ or ~name at the beginning is a home folder.

    Args:
        name: The path as it was given.
        setting: What a message begins with.

    Raises:
        UserError: There is no user of that name.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise UserError(
            f"{setting}{quoted(name)}: no user has this home folder; write ~/ for yours, or the whole path."
        ) from None


def from_start(path: Path) -> Path:
    """Returns a path that a user gave; what is not absolute is meant from where the command was started."""
    return path if _start_folder in (None, Path.cwd()) else _start_folder / path


@contextmanager
def started_in(folder: Path) -> Iterator[None]:
    """Has the block know in which folder the command was started, as Hydra may have changed into another."""
    global _start_folder
    before, _start_folder = _start_folder, folder
    try:
        yield
    finally:
        _start_folder = before


def imported(target: str) -> Any:
    """Returns what a dotted name stands for, from an installed package or the folder of the command.

    That folder is searched after all others, so nothing in it goes before an installed package; `python -P`
    leaves it out. Importing runs a module's code: names from a store are for `config.trust` first.

    Raises:
        ImportError: There is nothing of that name, or importing it fails; the cause says why.

    Examples:
        >>> imported("pathlib.Path").__name__
        'Path'
    """
    from hydra._internal.utils import _locate  # its `get_object` logs what it raises

    folder = str((_start_folder or Path()).absolute())
    if not sys.flags.safe_path and folder not in sys.path:
        sys.path.append(folder)
    return _locate(target)


def cache_folder(name: str) -> Path:
    """Returns the user's folder of files that can be made again, such as `data/mnist`; it need not exist."""
    return Path(platformdirs.user_cache_dir("vae_lab", appauthor=False)) / name


def cache_hint(folder: Path) -> str:
    """Returns what to do about a folder of the user's cache that cannot be written; nothing for any other.

    Examples:
        >>> cache_hint(cache_folder("locks"))
        ' Choose another folder for the cache with XDG_CACHE_HOME.'
        >>> cache_hint(Path("/somewhere/else"))
        ''
    """
    inside = folder.is_relative_to(cache_folder(""))
    return " Choose another folder for the cache with XDG_CACHE_HOME." if inside else ""


def state_folder(name: str) -> Path:
    """Returns the user's folder of files that must not be lost, such as `spool`; it need not exist."""
    return Path(platformdirs.user_state_dir("vae_lab", appauthor=False)) / name


def replace_file(path: Path, content: bytes) -> None:
    """Writes a file that holds the old content or the whole new one at every moment, even at a power cut.

    Raises:
        OSError: The disk is full or cannot be written; the file holds the old content.
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
    if os.name == "posix":  # the new name belongs to the folder, which reaches the disk only now
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_sealed(path: Path, content: bytes) -> None:
    """Writes a file as `replace_file` does, with a checksum before its content, for `read_sealed`.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_sealed(Path(folder, "weights"), b"1 2 3")
        ...     read_sealed(Path(folder, "weights"))
        b'1 2 3'
    """
    replace_file(path, hashlib.sha256(content).digest() + content)


def read_sealed(path: Path) -> bytes:
    """Returns the content of a file of `write_sealed`.

    Raises:
        FileNotFoundError: The file does not exist.
        DamagedError: The file is not as it was written, or cannot be read.
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
    """Returns the first sixteen hex digits of a file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def unaltered(path: Path, expected: str | None) -> Path:
    """Returns the file, if it has the expected checksum or none is known.

    Raises:
        DamagedError: The file is not as it was recorded.
    """
    if expected is not None and checksum(path) != expected:
        raise DamagedError(f"{path}: is damaged: its checksum is not the one that the run recorded.")
    return path
