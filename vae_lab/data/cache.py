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
from vae_lab.errors import LabError, UserError, quoted
from vae_lab.files import cache_hint, replace_file

log = logging.getLogger(__name__)

NOT_THERE, DAMAGED = "not there", "damaged"  # faults of a file


def verified_files(
    dataset: str,
    folder: Path,
    md5: Mapping[str, str],
    sources: Callable[[], Iterable[Source]],
    *,
    of_the_user: bool = False,
) -> dict[str, bytes]:
    """Returns the content of the data set's raw files by name, as verified; fetches what cannot be used.

    Args:
        dataset: Name for messages.
        folder: The folder of the files.
        md5: File name to hex digest of the raw file.
        sources: Called only if a file must be fetched; returns the sources in the order of trying.
        of_the_user: Whether the folder is not the lab's cache: what is there is the user's, and no file of it
            is replaced.

    Raises:
        UserError: A file of the user's is not the one that the data set has by this name.
        LabError: No source has all missing files, or the folder cannot be written.
    """
    contents, faults = _verified(folder, md5)
    if not faults:
        return contents
    if of_the_user:
        _check_only_missing(dataset, folder, faults)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            contents, faults = _verified(folder, md5)  # again, now that no other process is writing
            if of_the_user:
                _check_only_missing(dataset, folder, faults)
            return contents | (_fetched(dataset, folder, md5, faults, sources) if faults else {})
    except OSError as error:
        reason = f"{error}.{cache_hint(folder)}"
        raise LabError(f"data={dataset}: cannot write to {folder}: {reason}") from None


def unusable_files(folder: Path, md5: Mapping[str, str]) -> dict[str, str]:
    """Returns the fault of each file that cannot be used: not there, damaged, or the system's reason."""
    return _verified(folder, md5)[1]


def _verified(folder: Path, md5: Mapping[str, str]) -> tuple[dict[str, bytes], dict[str, str]]:
    """Returns the content of each file that can be used, and the fault of each other one."""
    contents, faults = {}, {}
    for name, digest in md5.items():
        path = folder / name
        try:
            # A pipe, which never ends, and a file larger than any of the data sets' are not even read.
            readable = stat.S_ISREG(path.stat().st_mode) and path.stat().st_size <= LARGEST
            content = path.read_bytes() if readable else b""
        except FileNotFoundError:
            faults[name] = "a link that leads nowhere" if path.is_symlink() else NOT_THERE
        except OSError as error:
            faults[name] = str(error)
        else:
            if hashlib.md5(content).hexdigest() == digest:
                contents[name] = content
            else:
                faults[name] = DAMAGED
    return contents, faults


def _check_only_missing(dataset: str, folder: Path, faults: Mapping[str, str]) -> None:
    """Raises a UserError if a file that cannot be used is there: it is the user's own."""
    for name, fault in faults.items():
        if fault != NOT_THERE:
            reason = "its MD5 is another" if fault == DAMAGED else fault
            raise UserError(
                f"data={dataset}: {quoted(str(folder / name), 400)} is not the file of {dataset} ({reason}) "
                f"and is left as it is. Valid folders: one with the files of {dataset}, or one without files "
                "of these names, into which they are fetched."
            )


def _fetched(
    dataset: str,
    folder: Path,
    md5: Mapping[str, str],
    faults: Mapping[str, str],
    sources: Callable[[], Iterable[Source]],
) -> dict[str, bytes]:
    """Writes files that cannot be used anew, and returns their content."""
    contents, missing = dict[str, bytes](), list(faults)
    reasons = [f"cache {folder}: " + ", ".join(f"{name} is {fault}" for name, fault in faults.items())]
    for source in sources():
        log.info("Fetching %s from %s", dataset, source.name)
        try:
            for name, raw in source.fetch(list(missing)):
                if hashlib.md5(raw).hexdigest() != md5[name]:
                    raise OSError(f"{name} does not have the MD5 {md5[name]}")
                replace_file(folder / name, raw)
                contents[name] = raw
                missing.remove(name)
            return contents
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
