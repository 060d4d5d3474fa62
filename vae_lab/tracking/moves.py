"""A store that was moved or copied is made at home where its database lies now."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path

from vae_lab import files
from vae_lab.errors import LabError
from vae_lab.tracking.address import file_address
from vae_lab.tracking.artifacts import HOMES, carried, homes, homes_of, homes_tag
from vae_lab.tracking.database import open_database
from vae_lab.tracking.folders import lock_folder, make_spool_folder, state_folders, unwritable

_LOCATIONS = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}


def settle(file: Path) -> bool:
    """Makes a store at home at `file`, if its database lay elsewhere when it was written to last.

    The locations of its artifacts name the new folder then, for MLflow, too. What its runs need to go on, and
    what waits for the store on this machine, is kept for the new address: taken along if no database is left
    where it lay, else copied, as this one is a copy then.

    Returns:
        Whether it has lain elsewhere.

    Raises:
        LabError: The database, or the disk, cannot be written.
    """
    if not _away(file, homes(file)):
        return False
    try:
        with open_database(file, "rw") as connection:
            connection.execute("BEGIN IMMEDIATE")  # of two processes, the second comes to a settled store
            if _away(file, earlier := homes_of(connection, file.name)):
                make_spool_folder(file_address(file))
                _take_along(earlier[0], file)
                _write_down(connection, earlier, file)
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise LabError(f"{file}: was moved or copied, and cannot be written: {error}") from error
    except OSError as error:
        raise unwritable(files.state_folder(""), error) from error
    return True


def copy_for_reading(file: Path, folder: Path) -> Path:
    """Copies a database that can only be read, with the locations at which its artifacts lie now.

    Returns:
        The copy, which others may write to.

    Raises:
        LabError: It cannot be read, or the copy not be written.
    """
    copy = folder / file.name
    try:
        with open_database(file) as source, open_database(copy, "rwc") as target:
            source.backup(target)
            if _away(file, earlier := homes_of(target, file.name)):
                _write_down(target, earlier, file)
    except sqlite3.Error as error:
        raise LabError(f"{file}: cannot be copied to {copy}: {error}") from error
    return copy


def _away(file: Path, earlier: list[Path]) -> bool:
    """Returns whether a database is known to have lain elsewhere last."""
    return bool(earlier) and earlier[0] != file


def _write_down(connection: sqlite3.Connection, earlier: list[Path], file: Path) -> None:
    """Rewrites the locations of a database's artifacts, and where it has lain."""
    connection.create_function("carried", 1, lambda location: location and carried(location, earlier, file))
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    for table in _LOCATIONS.keys() & tables:
        for column in _LOCATIONS[table]:
            connection.execute(f"UPDATE {table} SET {column} = carried({column})")
    tag = homes_tag(file, earlier)
    if not connection.execute("UPDATE experiment_tags SET value = ? WHERE key = ?", (tag, HOMES)).rowcount:
        connection.execute(
            "INSERT INTO experiment_tags (key, value, experiment_id) "
            "SELECT ?, ?, min(experiment_id) FROM experiments",
            (HOMES, tag),
        )


def _take_along(old: Path, new: Path) -> None:
    """Gives a store at its new path what this machine keeps for its runs under the old one.

    A folder that a process holds stays where it is, as does one of which the new path has its own.
    """
    moved = not old.exists() or old.samefile(new)  # by its folder, which may have left a link behind
    for source, target in zip(
        state_folders(file_address(old)), state_folders(file_address(new)), strict=True
    ):
        for folder in sorted(path for path in source.glob("*") if path.is_dir()):
            if not (target / folder.name).exists() and (lock := lock_folder(folder)) is not None:
                _copy_folder(folder, target)
                if moved:
                    shutil.rmtree(folder, ignore_errors=True)
                lock.release()


def _copy_folder(folder: Path, target: Path) -> None:
    """Copies a folder into another, where it is whole or not at all."""
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    scratches = files.state_folder("moves")
    scratches.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=scratches) as scratch:
        copied = Path(scratch) / folder.name
        shutil.copytree(folder, copied, ignore=shutil.ignore_patterns("lock", ".*"))
        copied.rename(target / folder.name)
