"""Where a store's spools and the state of its runs lie: in the user's state, by a key of its one address."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from filelock import FileLock, Timeout

from vae_lab import files
from vae_lab.errors import LabError
from vae_lab.tracking.address import store_address

PROBE_BYTES = 1 << 16  # must be free before a run starts


def spool_folder(uri: str) -> Path:
    """Returns the folder of the spools of a store's runs; it need not exist."""
    return files.state_folder("spool") / _key(store_address(uri))


def spool_folders() -> list[Path]:
    """Returns the folders of all stores that have spools."""
    root = files.state_folder("spool")
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def spool_address(folder: Path) -> str | None:
    """Returns the store whose spools lie in `folder`; None if its note is missing or damaged."""
    try:
        uri = (folder / "address").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return uri if _key(uri) == folder.name else None


def state_folders(address: str) -> tuple[Path, Path]:
    """Returns the folders of what a store's runs need to go on and of its spools, by its one address."""
    key = _key(address)
    return files.state_folder("runs") / key, files.state_folder("spool") / key


def run_folder(uri: str, run_id: str) -> Path:
    """Returns the folder of what a run needs to go on; it need not exist."""
    return files.state_folder("runs") / _key(store_address(uri)) / run_id


def _key(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()[:16]


def start_lock(uri: str) -> FileLock:
    """Returns a lock of a store on this machine: whoever holds it sees every run that was started before.

    Raises:
        LabError: The disk is full or cannot be written.
    """
    folder, _ = state_folders(store_address(uri))
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise unwritable(folder, error) from error
    return FileLock(folder / "starting")


def make_spool_folder(uri: str) -> Path:
    """Returns the folder of the spools of a store's runs, made if it is not there."""
    folder = spool_folder(uri)
    if spool_address(folder) is None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        files.replace_file(folder / "address", store_address(uri).encode())
    return folder


def check_writable(uri: str) -> None:
    """Tries to write where the spools of a store's runs lie.

    Raises:
        LabError: The disk is full or cannot be written.
    """
    try:
        with tempfile.TemporaryFile(dir=make_spool_folder(uri)) as file:
            file.write(bytes(PROBE_BYTES))
    except OSError as error:
        raise unwritable(spool_folder(uri), error) from error


def unwritable(folder: Path, error: OSError) -> LabError:
    """Returns the message for a folder in which nothing of a run can be kept."""
    return LabError(
        f"{folder}: records cannot be kept here: {error.strerror or error}. Free some space, or "
        "choose another folder with XDG_STATE_HOME."
    )


def lock_folder(folder: Path) -> FileLock | None:
    """Returns the lock of a folder, taken; None if another process has it or the folder is gone.

    Raises:
        OSError: The disk is full or cannot be written.
    """
    lock = FileLock(folder / "lock", timeout=0, thread_local=False)
    try:
        lock.acquire()
    except (Timeout, FileNotFoundError):
        return None
    if not (folder / "lock").exists():  # its last owner was done and removed it in this moment
        lock.release()
        return None
    return lock
