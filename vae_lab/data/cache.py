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
from vae_lab.files import replace_file

log = logging.getLogger(__name__)


def verified(
    dataset: str, folder: Path, md5: Mapping[str, str], sources: Callable[[], Iterable[Source]]
) -> dict[str, Path]:
    """Paths of the data set's raw files, each with its MD5; what is missing or altered is fetched.

    Args:
        dataset: name for messages.
        folder: where the files are kept.
        md5: file name to hex digest of the raw file.
        sources: asked only if something must be fetched; tried in order.

    Raises:
        LabError: no source gave every file, or the folder cannot be written.
    """
    if wrong(folder, md5):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / ".lock"):
                _fill(dataset, folder, md5, sources)
        except OSError as error:
            raise LabError(f"data={dataset}: cannot write to {folder}: {error}.") from None
    return {name: folder / name for name in md5}


def wrong(folder: Path, md5: Mapping[str, str]) -> dict[str, str]:
    """The files that are missing, unreadable or altered, and which of the three."""
    faults = {}
    for name, digest in md5.items():
        path = folder / name
        try:
            # Not to be read: a pipe, which never ends, and what is larger than any of the files.
            usable = stat.S_ISREG(path.stat().st_mode) and path.stat().st_size <= LARGEST
            found = hashlib.md5(path.read_bytes()).hexdigest() if usable else ""
        except FileNotFoundError:
            faults[name] = "not there"
        except OSError as error:
            faults[name] = str(error)
        else:
            if found != digest:
                faults[name] = "damaged"
    return faults


def _fill(
    dataset: str, folder: Path, md5: Mapping[str, str], sources: Callable[[], Iterable[Source]]
) -> None:
    missing = wrong(folder, md5)  # again, now that no other process is writing
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
