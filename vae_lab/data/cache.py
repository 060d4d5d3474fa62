"""The folder of a data set's raw files: verified, filled by one process at a time, written atomically."""

from __future__ import annotations

import hashlib
import logging
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from filelock import FileLock

from vae_lab.data.sources import LARGEST, Source
from vae_lab.errors import LabError
from vae_lab.files import cache_hint, replace_file

log = logging.getLogger(__name__)


def verified_files(
    dataset: str, folder: Path, md5: Mapping[str, str], sources: Callable[[], Iterable[Source]]
) -> dict[str, Path]:
    """Returns the paths of the data set's raw files by name; fetches files that are missing or damaged.

    Args:
        dataset: Name for messages.
        folder: The folder of the files.
        md5: File name to hex digest of the raw file.
        sources: Called only if a file must be fetched; returns the sources in the order of trying.

    Raises:
        LabError: No source has all missing files, or the folder cannot be written.
    """
    if unusable_files(folder, md5):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / ".lock"):
                _fetch(dataset, folder, md5, sources)
        except OSError as error:
            reason = f"{error}.{cache_hint(folder)}"
            raise LabError(f"data={dataset}: cannot write to {folder}: {reason}") from None
    return {name: folder / name for name in md5}


def unusable_files(folder: Path, md5: Mapping[str, str]) -> dict[str, str]:
    """Returns the fault of each file that cannot be used: not there, damaged, or the system's reason."""
    faults = {}
    for name, digest in md5.items():
        path = folder / name
        try:
            # A pipe, which never ends, and a file larger than any of the data sets' are not even read.
            readable = stat.S_ISREG(path.stat().st_mode) and path.stat().st_size <= LARGEST
            actual = hashlib.md5(path.read_bytes()).hexdigest() if readable else ""
        except FileNotFoundError:
            faults[name] = "not there"
        except OSError as error:
            faults[name] = str(error)
        else:
            if actual != digest:
                faults[name] = "damaged"
    return faults


def _fetch(
    dataset: str, folder: Path, md5: Mapping[str, str], sources: Callable[[], Iterable[Source]]
) -> None:
    missing = unusable_files(folder, md5)  # again, now that no other process is writing
    if not missing:
        return
    reasons = [f"cache {folder}: " + ", ".join(f"{name} is {fault}" for name, fault in missing.items())]
    for source in sources():
        log.info("Fetching %s from %s", dataset, source.name)
        try:
            for name, raw in source.fetch(list(missing)):
                if hashlib.md5(raw).hexdigest() != md5[name]:
                    raise OSError(f"{name} does not have the MD5 {md5[name]}")
                replace_file(folder / name, raw)
                del missing[name]
            return
        except (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile) as error:
            reasons.append(f"{source.name}: {_short(error)}")
    tried = "\n".join(f"  {reason}" for reason in reasons)
    raise LabError(
        f"data={dataset}: no source has the files.\n{tried}\n"
        f"Put {', '.join(missing)} into {folder}, or name a folder that holds them with data.root=..."
    )


def _short(error: BaseException) -> str:
    reason: BaseException = error
    while reason.__cause__ or reason.__context__:
        reason = reason.__cause__ or reason.__context__ or reason
    text = f"{type(reason).__name__}: {reason}".splitlines()[0]
    return text if len(text) <= 160 else f"{text[:157]}..."
