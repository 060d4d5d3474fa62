"""A run's records on their way to its store: an append-only file with checksums, and files beside it.

One folder a run, in the user's state folder under a key of the store's address:

    STATE/journal/KEY/address             the store's address, which KEY is the hash of
    STATE/journal/KEY/RUN/records         a line a record: CRC-32 of the rest, a space, JSON
    STATE/journal/KEY/RUN/delivered       how many of them the store has, with a CRC-32
    STATE/journal/KEY/RUN/files/N/...     the files of record N
    STATE/journal/KEY/RUN/refused         what the store refused or the disk damaged, and why
    STATE/journal/KEY/RUN/lock            held by the process that writes or delivers

A process that dies leaves the folder behind, and `vae-lab sync` delivers what it holds.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from vae_lab.tracking.places import made_place

Entry = dict[str, Any]
log = logging.getLogger(__name__)


class Damaged(NamedTuple):
    """A line of a journal that cannot be read."""

    reason: str


class Journal:
    """The journal of one run in this process; safe to use from several threads.

    Use `Journal.open`.
    """

    def __init__(self, folder: Path, lock: FileLock) -> None:
        self.folder, self._lock = folder, lock
        self.run_id = run_of(folder)
        self.delivering = threading.Lock()  # held by the thread that delivers from it
        self._guard = threading.RLock()
        self._records = os.open(folder / "records", os.O_RDWR | os.O_CREAT, 0o600)
        self._mark = os.open(folder / "delivered", os.O_RDWR | os.O_CREAT, 0o600)
        self._starts, self._end = _line_starts(self._records)
        noted = _delivered(folder)
        self.replaying = noted is None  # then files of records that the store has are gone already
        self.delivered = min(noted or 0, len(self._starts))
        if self._end and os.pread(self._records, 1, self._end - 1) != b"\n":
            # The last writer died in the middle of a line, and has told nobody that the record is safe.
            self._end = self._starts.pop()
            os.ftruncate(self._records, self._end)
            self.delivered = min(self.delivered, len(self._starts))
            log.warning(f"{folder}: the last record was cut off when its process ended, and is not counted.")
        self._note()

    @classmethod
    def open(cls, uri: str, run_id: str) -> Journal:
        """The run's journal, gone on with if an earlier process left one.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        place, number = made_place(uri), 0
        while True:  # another process may be at work on the same run: then one more journal
            folder = place / (f"{run_id}.{number}" if number else run_id)
            folder.mkdir(exist_ok=True, mode=0o700)
            if (lock := locked(folder)) is not None:
                return cls(folder, lock)
            number += folder.is_dir()

    @property
    def pending(self) -> int:
        """How many records the store does not have yet."""
        return len(self._starts) - self.delivered

    def append(self, entry: Entry, *, durable: bool = False) -> None:
        """Adds a record; when this returns, it survives the process, and a power cut if `durable`.

        Raises:
            OSError: the disk is full or cannot be written; the journal is as it was before.
        """
        text = json.dumps(entry).encode()
        with self._guard:
            start = self._end
            self._write(b"%08x %s\n" % (zlib.crc32(text), text))
            if durable:
                os.fsync(self._records)
            self._starts.append(start)

    def first(self) -> Entry | Damaged | None:
        """The oldest record that the store does not have."""
        with self._guard:
            if not self.pending:
                return None
            start = self._starts[self.delivered]
            after = self.delivered + 1
            end = self._starts[after] if after < len(self._starts) else self._end
            return _parsed(os.pread(self._records, end - start, start))

    def done(self) -> None:
        """Counts the oldest record as delivered and lets go of its files."""
        with self._guard:
            entry = self.first()
            self.delivered += 1
            with suppress(OSError):  # a record delivered twice does no harm
                self._note()
        if isinstance(entry, dict) and "files" in entry:
            shutil.rmtree(self.files / entry["files"], ignore_errors=True)

    def refuse(self, what: str, reason: str) -> None:
        """Notes what could not be delivered and never will be; it stays in the folder to be looked at."""
        with (self.folder / "refused").open("a") as file:
            file.write(json.dumps({"what": what, "reason": reason}) + "\n")

    @property
    def files(self) -> Path:
        """Where the files of its records lie."""
        return self.folder / "files"

    def new_files(self) -> Path:
        """A new empty folder for the files of one record."""
        with self._guard:
            number = len(self._starts)
            while True:
                made = self.files / f"{number:06d}"
                try:
                    made.mkdir(parents=True)
                    return made
                except FileExistsError:
                    number += 1

    def close(self) -> None:
        """Lets go of the run; the folder goes with it unless something waits in it or was refused."""
        with self._guard:
            empty = not self.pending and not (self.folder / "refused").exists()
            os.close(self._records)
            os.close(self._mark)
            if empty:
                shutil.rmtree(self.folder, ignore_errors=True)
            self._lock.release()

    def _note(self) -> None:
        count = b"%d" % self.delivered
        os.pwrite(self._mark, b"%s %08x\n" % (count, zlib.crc32(count)), 0)

    def _write(self, data: bytes) -> None:
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._records, data[written:], self._end + written)
        except OSError:
            os.ftruncate(self._records, self._end)
            raise
        self._end += len(data)


class Waiting(NamedTuple):
    """What a look from outside finds in a journal's folder."""

    folder: Path
    run_id: str
    records: int  # that the store does not have
    refused: list[dict[str, str]]
    busy: bool  # held by a process that is alive


def run_of(folder: Path) -> str:
    """The id of the run whose journal lies in `folder`."""
    return folder.name.partition(".")[0]


def waiting(place: Path) -> Iterator[Waiting]:
    """The journals in `place`, oldest first; those of dead processes that hold nothing are removed."""
    found = [each for each in place.iterdir() if each.is_dir()] if place.is_dir() else []
    for folder in sorted(found, key=_age):
        records, refused = _records(folder), refusals(folder)
        try:
            lock = locked(folder)
        except OSError:  # a disk that cannot be written
            lock = None
        if lock is not None:
            if not records and not refused:
                shutil.rmtree(folder, ignore_errors=True)
            lock.release()
        if records or refused:
            yield Waiting(folder, run_of(folder), records, refused, busy=lock is None)


def reopened(folder: Path) -> Journal | None:
    """The journal in `folder`, to deliver what a dead process left; None if another process has it."""
    lock = locked(folder)
    return None if lock is None else Journal(folder, lock)


def refusals(folder: Path) -> list[dict[str, str]]:
    """What of a journal could not be delivered and never will be, each with `what` and `reason`."""
    try:
        lines = (folder / "refused").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    found = []
    for line in lines:
        try:
            found.append({str(key): str(value) for key, value in json.loads(line).items()})
        except (ValueError, AttributeError):
            found.append({"what": "a note on a refused record", "reason": "is damaged itself"})
    return found


def checksum(file: Path) -> int:
    """The CRC-32 of a file."""
    total = 0
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            total = zlib.crc32(chunk, total)
    return total


def sync_files(folder: Path) -> None:
    """Makes every file below `folder` survive a power cut."""
    for file in folder.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)


def locked(folder: Path) -> FileLock | None:
    """The lock of a folder, taken; None if another process has it or the folder is gone.

    Raises:
        OSError: the disk is full or cannot be written.
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


def _parsed(line: bytes) -> Entry | Damaged:
    check, _, text = line.rstrip(b"\n").partition(b" ")
    if check != b"%08x" % zlib.crc32(text):
        return Damaged("is damaged or was cut off: its checksum does not match")
    entry = json.loads(text)
    assert isinstance(entry, dict)
    return entry


def _line_starts(descriptor: int) -> tuple[list[int], int]:
    """The offsets at which lines begin, and the length of the file."""
    starts, position = [0], 0
    while chunk := os.pread(descriptor, 1 << 20, position):
        found = chunk.find(b"\n")
        while found >= 0:
            starts.append(position + found + 1)
            found = chunk.find(b"\n", found + 1)
        position += len(chunk)
    if starts[-1] == position:
        starts.pop()
    return starts, position


def _delivered(folder: Path) -> int | None:
    """How many records the store has; None if the note is damaged: delivering all again does no harm."""
    try:
        note = (folder / "delivered").read_bytes()
    except OSError:
        return 0
    count, _, check = note.partition(b"\n")[0].partition(b" ")
    valid = count.isdigit() and check == b"%08x" % zlib.crc32(count)
    return (int(count) if valid else None) if note else 0


def _records(folder: Path) -> int:
    try:
        descriptor = os.open(folder / "records", os.O_RDONLY)
    except OSError:
        return 0
    try:
        return max(len(_line_starts(descriptor)[0]) - (_delivered(folder) or 0), 0)
    finally:
        os.close(descriptor)


def _age(folder: Path) -> float:
    """When the journal's first record was written, in milliseconds since 1970; 0 if it cannot be read."""
    try:
        with (folder / "records").open("rb") as file:
            entry = _parsed(file.readline())
    except OSError:
        return 0
    return 0 if isinstance(entry, Damaged) else float(entry.get("at", 0))
