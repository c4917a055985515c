"""Reading arrays from a `.npz` that may be hostile: nothing is taken from it that its own size does not vouch for.

A zip may hold little and promise much: compressed members, a table of contents of gigabytes, arrays whose headers name
more numbers than there are. So members must be stored as they are, and each array must fill its member exactly.
"""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from padim_edge_artifact.errors import ArtifactError, PadimEdgeError
from padim_edge_artifact.regular_files import open_regular
from padim_edge_artifact.schema import MOST_BYTES, reason_of, shown

__all__ = ["open_archive", "read_array", "read_text", "read_triangles"]

_MOST_MEMBERS = 64
_MOST_TABLE = 1 << 20
"""Largest table of contents in bytes, which zipfile reads at once."""
_CHUNK = 1 << 20
"""Number of bytes read at a time."""
_PATCHES = 64
"""Number of triangles unpacked at a time."""

_DAMAGE = (  # RuntimeError: a damaged flag that says "encrypted" or "compressed in an unknown way"
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    PadimEdgeError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,  # from numpy, which reads the header of an array as Python
    zipfile.BadZipFile,
    zlib.error,
)


class _Cautious:
    """A file that refuses to give a large table of contents; afterwards, it gives everything."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable
        self.close = file.close
        self.opened = False

    def read(self, count: int = -1) -> bytes:
        if self.opened:
            return self._file.read(count)
        if count > _MOST_TABLE or len(found := self._file.read(count if count >= 0 else _MOST_TABLE + 1)) > _MOST_TABLE:
            raise ValueError("its table of contents is too long")
        return found


@contextmanager
def open_archive(path: Path, what: str, expected: str) -> Iterator[zipfile.ZipFile]:
    """Open an archive of arrays; whatever goes wrong while it is read is told as damage.

    Args:
        path: The file.
        what: Name of such a file, for errors.
        expected: Files that are expected, for errors.

    Raises:
        ArtifactError: The file is missing, no regular file, or damaged.
    """
    try:
        with open_regular(path) as file:
            cautious = _Cautious(file)
            with zipfile.ZipFile(cautious) as archive:
                cautious.opened = True
                _check_members(archive, path.stat().st_size)
                yield archive
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist; expected {expected}") from None
    except _DAMAGE as error:
        raise ArtifactError(f"{path} is not a readable {what} ({reason_of(error)}); expected {expected}") from error


def _check_members(archive: zipfile.ZipFile, size: int) -> None:
    members = archive.infolist()
    if len(members) > _MOST_MEMBERS or len({each.filename for each in members}) != len(members):
        raise ValueError(f"it has {len(members)} members, expected at most {_MOST_MEMBERS}, each once")
    for each in members:
        if each.compress_type != zipfile.ZIP_STORED or each.file_size != each.compress_size:
            raise ValueError(f"{shown(each.filename)} is compressed, expected arrays as they are")
        if each.header_offset + each.file_size > size:
            raise ValueError(f"{shown(each.filename)} is longer than the file")


def _header(archive: zipfile.ZipFile, file: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read the header of an array: its shape and type, where the array fills its member."""
    if npy.read_magic(file) != (1, 0):
        raise ValueError(f"{name} has another format")
    shape, fortran, kind = npy.read_array_header_1_0(file)
    if fortran or kind.hasobject or any(type(each) is not int or each < 0 for each in shape):
        raise ValueError(f"{name} has another order or type than expected")
    if math.prod(shape) * kind.itemsize != archive.getinfo(f"{name}.npy").file_size - file.tell():
        raise ValueError(f"{name} is longer or shorter than its header says")
    return shape, kind


def read_array(
    archive: zipfile.ZipFile,
    name: str,
    kind: np.dtype[Any],
    axes: int,
    *,
    finite: bool = True,
    length: int | None = None,
) -> npt.NDArray[Any]:
    """Read one array.

    Args:
        archive: The archive.
        name: Name of the array.
        kind: Type that it must have.
        axes: Number of axes that it must have.
        finite: Whether all numbers must be finite.
        length: Length that its first axis must have; `None` for any.

    Raises:
        ValueError: It is another array.
        EOFError: It is cut short.
    """
    with archive.open(f"{name}.npy") as file:
        shape, found = _header(archive, file, name)
        if found != kind or len(shape) != axes or (length is not None and shape[0] != length):
            raise ValueError(f"{name} has the type {found} and the shape {shown(shape)}, expected another one")
        values = np.empty(shape, kind)
        if values.size:
            _fill(file, values.reshape(-1).view(np.uint8).data, name)
        _at_end(file, name)
    if finite and kind.kind == "f" and not np.isfinite(values).all():
        raise ValueError(f"{name} holds numbers that are not finite")
    return values


def read_text(archive: zipfile.ZipFile, name: str) -> str:
    """Read a text that numpy stored as an array without axes.

    Raises:
        ValueError: It is none, or too long.
        EOFError: It is cut short.
    """
    with archive.open(f"{name}.npy") as file:
        shape, kind = _header(archive, file, name)
        if kind.kind != "U" or shape != () or kind.itemsize > 4 * MOST_BYTES:
            raise ValueError(f"{name} is no text, or a very long one")
        content = bytearray(kind.itemsize)
        _fill(file, memoryview(content), name)
        _at_end(file, name)
    return content.decode("utf-32-le" if kind.byteorder != ">" else "utf-32-be").rstrip("\0")


def read_triangles(archive: zipfile.ZipFile, name: str, patches: int, dims: int) -> npt.NDArray[np.float64]:
    """Read symmetric matrices `(patches, dims, dims)`, sums of squares, of which the lower triangles are stored.

    Raises:
        ValueError: They have another shape or type, are not finite, or have negative diagonals.
        EOFError: They are cut short.
    """
    length = dims * (dims + 1) // 2
    with archive.open(f"{name}.npy") as file:
        shape, kind = _header(archive, file, name)
        if shape != (patches, length) or not length or not patches or kind != np.dtype("<f8"):
            raise ValueError(f"{name} has another shape or type than its mean")
        rows, columns = np.tril_indices(dims)
        diagonal = rows == columns
        found = np.empty((patches, dims, dims))
        for start in range(0, patches, _PATCHES):
            part = found[start : start + _PATCHES]
            packed = np.empty((len(part), length))
            _fill(file, packed.reshape(-1).view(np.uint8).data, name)
            if not np.isfinite(packed).all() or (packed[:, diagonal] < 0).any():
                raise ValueError(f"{name} holds numbers that no sum of squares has")
            part[:, rows, columns] = packed
            part[:, columns, rows] = packed
        _at_end(file, name)
    return found


def _fill(file: IO[bytes], target: memoryview, name: str) -> None:
    at = 0
    while at < len(target):
        found = file.read(min(_CHUNK, len(target) - at))
        if not found:
            raise EOFError(f"{name} is cut short")
        target[at : at + len(found)] = found
        at += len(found)


def _at_end(file: IO[bytes], name: str) -> None:
    if file.read(1):  # reading to the end is what checks the sum
        raise ValueError(f"{name} is longer than its header says")
