"""The records of a run that its store does not have yet: one sealed file a record, numbered in their order.

    STATE/spool/KEY/address               the store's address, which KEY is the hash of
    STATE/spool/KEY/RUN/00000001.record   a record and its files, as an uncompressed zip with a checksum
    STATE/spool/KEY/RUN/00000002.refused  a record that the store refused or the disk damaged, to be looked at
    STATE/spool/KEY/RUN/00000002.reason   why
    STATE/spool/KEY/RUN/lock              held by the process that writes or delivers

The file of a record goes when the store has the record. A process that dies leaves the folder behind, and
`vae-lab sync` delivers what it holds.
"""

from __future__ import annotations

import io
import json
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile

from filelock import FileLock

from vae_lab.errors import LabError
from vae_lab.files import DamagedError, full_disk_told, read_sealed, write_sealed
from vae_lab.tracking.folders import lock_folder, make_spool_folder, spool_folder, unwritable

HEAD = "record.json"  # in the zip, beside the record's files
SCRATCH = ".files."  # begins the name of a folder that a killed process may leave behind


class NewerRecordError(LabError):
    """A later version of the lab wrote a record, and can deliver it.

    Args:
        number: The record's.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"record {number} is of a kind that this version of the lab does not know")


@dataclass(frozen=True)
class Record:
    """What a store is told of a run at once; a field that is empty says nothing.

    Its time and the names of its files are chosen when it is made, so that it may be told twice: MLflow keeps
    one point of equal metric, step, time and value, and a tag or a file replaces its like.
    """

    at: int  # milliseconds since 1970
    metrics: Sequence[tuple[str, float, int]] = ()  # name, value and step of every point
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str | None] = field(default_factory=dict)  # None removes one
    dataset: Mapping[str, str] = field(default_factory=dict)  # of MLflow's `Dataset`
    files: Path | None = None  # the folder that holds them
    status: str = ""
    attempt: str = ""  # the run's tag ATTEMPT, as whoever says it knows it

    @property
    def content(self) -> str:
        """The fields that say something."""
        names = ("metrics", "params", "tags", "dataset", "files", "status")
        return ", ".join(name for name in names if getattr(self, name))

    def named_files(self) -> dict[str, Path]:
        """Returns the files by their names as artifacts."""
        if self.files is None:
            return {}
        paths = sorted(path for path in self.files.rglob("*") if path.is_file())
        return {path.relative_to(self.files).as_posix(): path for path in paths}


class Spool:
    """The waiting records of one run in this process; safe to use from several threads.

    Use `Spool.open` to write, `Spool.reopen` to deliver what a dead process left.
    """

    def __init__(self, folder: Path, lock: FileLock) -> None:
        self.folder, self._lock = folder, lock
        self.run_id = folder.name.partition(".")[0]
        self.refused: list[str] = []  # what this process has set aside and not yet said
        self.delivering = threading.RLock()  # held by the thread that delivers from it
        self.attempt: str | None = None  # to which the run belongs, as its store said at `asked`
        self.asked = 0.0  # seconds since 1970: a clock that goes on while the machine sleeps
        self.held_up = ""  # why the store does not take the run's records, though it may those of others
        self.rests_until = 0.0  # seconds on the clock that only goes forward; held up, it is not tried before
        self._guard = threading.Lock()
        for leftover in folder.glob(".*"):  # of a process that was killed
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        self._numbers = deque(_numbers(folder, "record"))
        self._last = max([0, *self._numbers, *_numbers(folder, "refused")])

    @classmethod
    def open(cls, uri: str, run_id: str) -> Spool:
        """Returns the run's spool, with what an earlier process left in it.

        Raises:
            LabError: The disk is full or cannot be written.
        """
        try:
            parent, number = make_spool_folder(uri), 0
            while True:  # another process may be at work on the same run: then one more spool
                folder = parent / (f"{run_id}.{number}" if number else run_id)
                folder.mkdir(exist_ok=True, mode=0o700)
                if (spool := cls.reopen(folder)) is not None:
                    return spool
                number += folder.is_dir()
        except OSError as error:
            raise unwritable(spool_folder(uri), error) from error

    @classmethod
    def reopen(cls, folder: Path) -> Spool | None:
        """Returns the spool in a folder; None if another process has it."""
        lock = lock_folder(folder)
        return None if lock is None else cls(folder, lock)

    @property
    def pending(self) -> int:
        """How many records the store does not have yet."""
        return len(self._numbers)

    @property
    def numbers(self) -> list[int]:
        """The numbers of the records that the store does not have, oldest first."""
        return list(self._numbers)

    @property
    def first(self) -> int | None:
        """The number of the oldest record that the store does not have."""
        return self._numbers[0] if self._numbers else None

    def append(self, record: Record) -> int:
        """Adds a record and returns its number; then it survives the process, and a power cut.

        Raises:
            OSError: The disk is full or cannot be written; the spool is as it was before.
        """
        packed = io.BytesIO()
        with ZipFile(packed, "w", strict_timestamps=False) as archive:
            archive.writestr(HEAD, json.dumps(vars(record) | {"files": None}))
            for name, path in record.named_files().items():
                archive.write(path, f"files/{name}")
        with self._guard:
            write_sealed(self._path(self._last + 1), packed.getvalue())
            self._last += 1
            self._numbers.append(self._last)
            return self._last

    @contextmanager
    def read(self, number: int) -> Iterator[Record]:
        """Yields a record; its files are there until the block ends.

        Raises:
            DamagedError: It is not as it was written.
            NewerRecordError: A later version of the lab wrote it.
        """
        try:
            packed = read_sealed(self._path(number))
        except FileNotFoundError as error:
            raise DamagedError("is missing") from error
        except DamagedError as error:
            raise DamagedError("is damaged or was cut off: its checksum does not match") from error
        with ZipFile(io.BytesIO(packed)) as archive:
            try:
                record = Record(**json.loads(archive.read(HEAD)))
            except TypeError as error:
                raise NewerRecordError(number) from error
            if len(archive.namelist()) == 1:
                yield record
                return
            roomy = shutil.disk_usage(self.folder).free > 2 * len(packed)
            with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=self.folder if roomy else None) as scratch:
                archive.extractall(scratch)
                yield replace(record, files=Path(scratch) / "files")

    def remove(self, number: int) -> None:
        """Lets go of a record that the store has."""
        with suppress(OSError):  # a record delivered twice does no harm
            self._path(number).unlink()
        self._numbers.remove(number)

    def set_aside(self, number: int, reason: str) -> None:
        """Keeps a record that will never be delivered, to be looked at, and says so in `refused`."""
        sentence = f"record {number} {reason}"
        with suppress(OSError):
            self._path(number).rename(self._path(number, "refused"))
            self._path(number, "reason").write_text(sentence, encoding="utf-8")
        self._numbers.remove(number)
        self.refused.append(sentence)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yields an empty folder for the files of a record.

        Raises:
            LabError: The disk is full or cannot be written.
        """
        try:
            folder = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=self.folder))
        except OSError as error:
            raise unwritable(self.folder, error) from error
        try:
            with full_disk_told(folder, partial(unwritable, self.folder)):
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Lets go of the run; the folder goes with it unless something waits in it or was refused."""
        if not self._numbers and not _numbers(self.folder, "refused"):
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()

    def _path(self, number: int, ending: str = "record") -> Path:
        return self.folder / f"{number:08d}.{ending}"


class Backlog(NamedTuple):
    """What waits of one run, and what became of it."""

    folder: Path
    run_id: str
    left: int  # records that the store does not have
    refused: list[str]  # what will never be delivered, each with the reason
    busy: bool = False  # held by a process that is alive
    name: str = ""  # of the run, where the store says it
    delivered: int = 0
    note: str = ""  # why records are left


def look(folder: Path) -> Backlog:
    """Returns what waits in the folder of a spool."""
    run_id = folder.name.partition(".")[0]
    return Backlog(folder, run_id, len(_numbers(folder, "record")), refusals(folder))


def backlogs(parent: Path) -> Iterator[Backlog]:
    """Yields what waits in the spools in `parent`; those of dead processes that hold nothing are removed."""
    for folder in sorted(path for path in parent.glob("*") if path.is_dir()):
        backlog = look(folder)
        try:
            lock = lock_folder(folder)
        except OSError:  # a disk that cannot be written
            lock = None
        if lock is not None:
            if not backlog.left and not backlog.refused:
                shutil.rmtree(folder, ignore_errors=True)
            lock.release()
        if backlog.left or backlog.refused:
            yield backlog._replace(busy=lock is None)


def refusals(folder: Path) -> list[str]:
    """Returns a sentence for each record that was set aside."""
    sentences = []
    for number in _numbers(folder, "refused"):
        try:
            sentences.append((folder / f"{number:08d}.reason").read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            sentences.append(f"record {number} could not be delivered")
    return sentences


def _numbers(folder: Path, ending: str) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob(f"*.{ending}") if path.stem.isdecimal())
