"""IDX files, the format of MNIST: a magic number, the sizes, then unsigned bytes (LeCun et al. 1998)."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import IO, cast

import numpy as np
import torch
from numpy.typing import NDArray

from vae_lab import machine
from vae_lab.errors import UserError

UNSIGNED_BYTE = 0x08
LARGEST = 2**33  # bytes; a header that promises more is taken for damage
GZIP_RATIO = 1032  # bytes that one byte of a gzip file can stand for, at most
COPIES = 3  # of the bytes in memory, while a data set is made of them


def read(path: Path) -> NDArray[np.uint8]:
    """Returns the array in an IDX file of unsigned bytes, gzipped if the name ends in .gz.

    Raises:
        UserError: Not an IDX file of unsigned bytes, or not as long as its header says.
    """
    try:
        gzipped = path.suffix == ".gz"
        capacity = path.stat().st_size * (GZIP_RATIO if gzipped else 1)
        with cast("IO[bytes]", gzip.open(path) if gzipped else path.open("rb")) as file:
            return _parse(file, path, capacity)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read: {error}.") from None


def parsed(content: bytes, path: Path) -> NDArray[np.uint8]:
    """Returns the array in the bytes of an IDX file that has been read already.

    Args:
        content: Its bytes, not gzipped.
        path: Where they are from, for messages.

    Raises:
        UserError: As for `read`.
    """
    return _parse(BytesIO(content), path, len(content))


def _parse(file: IO[bytes], path: Path, capacity: int) -> NDArray[np.uint8]:
    """Returns the array in an open file; its header may promise up to `capacity` bytes."""
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] != UNSIGNED_BYTE or not 1 <= magic[3] <= 4:
        raise UserError(
            f"{path}: starts with {magic.hex() or 'nothing'}; an IDX file of unsigned bytes starts with "
            "000008 and its number of dimensions (1 to 4)."
        )
    header = file.read(4 * magic[3])
    if len(header) < 4 * magic[3]:
        raise UserError(f"{path}: ends within its header.")
    shape = struct.unpack(f">{magic[3]}I", header)
    size = math.prod(shape)
    if size > LARGEST:
        raise UserError(f"{path}: its header says {shape}, {size} bytes; at most {LARGEST} are read.")
    if size > capacity:
        raise UserError(
            f"{path}: its header says {shape}, {size} bytes, which a file of its size cannot hold."
        )
    if COPIES * size > (free := machine.free_memory(torch.device("cpu"))):
        raise UserError(f"{path}: its header says {shape}, {size} bytes; {free} bytes of memory are free.")
    body = file.read(size + 1)  # one more than promised: a longer file is damaged, too
    if len(body) != size:
        actual = f"{len(body)} follow" if len(body) < size else "more follow"
        raise UserError(f"{path}: its header says {shape}, {size} bytes, but {actual}.")
    return np.frombuffer(body, dtype=np.uint8).reshape(shape)


def write(path: Path, array: NDArray[np.uint8]) -> None:
    """Writes unsigned bytes of up to four dimensions as an IDX file.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write(Path(folder, "labels"), np.array([7, 2, 1], dtype=np.uint8))
        ...     read(Path(folder, "labels"))
        array([7, 2, 1], dtype=uint8)
    """
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, UNSIGNED_BYTE, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())
