"""Where a store's journals and the state of its runs lie: in the user's state, under a key of its address."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from vae_lab import files

PROBE_BYTES = 1 << 16  # must be free before a run starts


def place_of(uri: str) -> Path:
    """The folder of a store's journals."""
    return files.state_folder("journal") / _key(uri)


def run_folder(uri: str, run_id: str) -> Path:
    """The folder of what a run needs to go on; it need not exist."""
    return files.state_folder("runs") / _key(uri) / run_id


def _key(uri: str) -> str:
    return hashlib.sha256(uri.encode()).hexdigest()[:16]


def made_place(uri: str) -> Path:
    """The folder of a store's journals, made if it is not there."""
    place = place_of(uri)
    if address_of(place) is None:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile("w", dir=place, delete=False) as file:
            file.write(uri)
        os.replace(file.name, place / "address")
    return place


def check(uri: str) -> None:
    """Tries to write where the store's journals lie.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    with tempfile.TemporaryFile(dir=made_place(uri)) as file:
        file.write(bytes(PROBE_BYTES))


def address_of(place: Path) -> str | None:
    """The store whose journals lie in `place`; None if its note is missing or damaged."""
    try:
        uri = (place / "address").read_text()
    except (OSError, UnicodeDecodeError):
        return None
    return uri if place_of(uri).name == place.name else None


def all_places() -> list[Path]:
    """The folders of all stores that have journals."""
    root = files.state_folder("journal")
    return sorted(each for each in root.iterdir() if each.is_dir()) if root.is_dir() else []
