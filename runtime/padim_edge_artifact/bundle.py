"""Many models in one file, with common constants stored once: reading a bundle without onnx.

Layout: a head of 64 bytes; blobs, each at a page boundary, so that onnxruntime can map them into memory; graphs; and
an index in JSON. A graph is a model file in which each large tensor is a reference to a blob. From graph and blobs come
back the model file and its data file, byte by byte, so all that names them by their digests stays true.

The head has the SHA-256 of the index, which has the digests of all else: it is the digest of the bundle. Opening a
bundle reads head and index, and using a product reads what belongs to it. The other products are not read.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from padim_edge_artifact.errors import ArtifactError
from padim_edge_artifact.protobuf import entry, message, spans
from padim_edge_artifact.regular_files import Stamp, open_regular, stamp_of
from padim_edge_artifact.schema import read_json, shown

__all__ = [
    "BLOB",
    "DATA",
    "HEAD",
    "MAGIC",
    "PAGE",
    "VERSION",
    "Blob",
    "Bundle",
    "Member",
    "external",
    "is_bundle",
    "open_bundle",
    "rewritten",
]

MAGIC, VERSION = b"PADIMBND", 1
HEAD = struct.Struct("<8sIIQQ32s")
"""Magic, version, zero, place and size of the index, its SHA-256."""
PAGE = 4096
"""Bytes of a memory page, at a multiple of which each blob begins."""
BLOB, DATA = "padim-edge blob", "padim-edge data"
"""Keys of the references in a graph.

In place of a tensor's bytes: the number of a blob. In place of a tensor's place in a data file: the number of a blob,
and that place.
"""

_MOST_INDEX, _MOST_GRAPH = 16 << 20, 64 << 20
_CHUNK = 1 << 18
_GRAPH_OF_MODEL, _INITIALIZER = 7, 5
_EXTERNAL, _LOCATION = 13, 14
"""Fields of a tensor: entries about its file, and whether it has one."""


@dataclass(frozen=True)
class Blob:
    """Bytes of one tensor."""

    offset: int
    """Place in the bundle."""
    size: int
    """Number of bytes, 1 or more."""
    digest: str
    """SHA-256, 64 hexadecimal digits."""


@dataclass(frozen=True)
class Member:
    """One model of a bundle."""

    name: str
    """Name of the product."""
    graph: Blob
    """Place of the model file in which large tensors are references."""
    blobs: tuple[int, ...]
    """Numbers of its blobs, rising."""


@dataclass(frozen=True)
class Bundle:
    """Index of a bundle."""

    path: Path
    """The file."""
    stamp: Stamp
    """State of the file when the index was read."""
    digest: str
    """SHA-256 of the index, 64 hexadecimal digits, which stands for the whole bundle."""
    blobs: tuple[Blob, ...]
    """All blobs."""
    members: Mapping[str, Member]
    """Models by the names of their products, in the order in which they were given."""

    @property
    def file(self) -> Path:
        """The file behind all links, under whose name onnxruntime opens it."""
        return Path(os.path.realpath(self.path))

    def member(self, product: str | None) -> Member:
        """Return a model.

        Args:
            product: Name of the product; `None` takes the only one.

        Raises:
            ArtifactError: There is no such product, or there are several.
        """
        names = ", ".join(self.members)
        if product is None:
            if len(self.members) == 1:
                return next(iter(self.members.values()))
            raise ArtifactError(f"{self.path} is a bundle of several products; choose one of them: {names}")
        if product not in self.members:
            raise ArtifactError(f"{self.path} has no product {shown(product, 80)}, expected one of {names}")
        return self.members[product]

    def graph(self, member: Member) -> bytes:
        """Read the graph of a model, with references in place of large tensors.

        Raises:
            ArtifactError: It is damaged.
        """
        with self._file() as file:
            return self._read(file, member.graph)

    def verify(self, member: Member) -> None:
        """Compare each byte of a model's blobs with its digest.

        Raises:
            ArtifactError: One is damaged, or the file has changed.
        """
        with self._file() as file:
            for number in member.blobs:
                blob, found, left = self.blobs[number], hashlib.sha256(), self.blobs[number].size
                file.seek(blob.offset)
                while left and (chunk := file.read(min(left, _CHUNK))):
                    found.update(chunk)
                    left -= len(chunk)
                if left or found.hexdigest() != blob.digest:
                    raise self._damaged()

    def blob(self, number: int) -> bytes:
        """Read a blob.

        Raises:
            ArtifactError: It is damaged.
        """
        with self._file() as file:
            return self._read(file, self.blobs[number])

    @contextmanager
    def _file(self) -> Iterator[BinaryIO]:
        """Open the file, which must still be the one whose index was read."""
        try:
            with open_regular(self.path) as file:
                if stamp_of(os.fstat(file.fileno())) != self.stamp:
                    raise ArtifactError(f"{self.path} was changed while it was read; load the model again")
                yield file
        except OSError as error:
            raise ArtifactError(f"{self.path} cannot be read ({error.strerror})") from error

    def _read(self, file: BinaryIO, blob: Blob) -> bytes:
        file.seek(blob.offset)
        found = file.read(blob.size)
        if len(found) != blob.size or hashlib.sha256(found).hexdigest() != blob.digest:
            raise self._damaged()
        return found

    def _damaged(self) -> ArtifactError:
        return ArtifactError(f"{self.path} is damaged (a digest does not match); copy it again from where it was made")


def is_bundle(path: Path) -> bool:
    """Tell whether a file is a bundle, by its first bytes. Whatever cannot be read is none."""
    try:
        with open_regular(path) as file:
            return file.read(len(MAGIC)) == MAGIC
    except (ArtifactError, OSError, ValueError):
        return False


def open_bundle(path: Path) -> Bundle:
    """Read the index of a bundle.

    Raises:
        ArtifactError: The file cannot be read, is no bundle, is damaged, or of another version.
    """
    try:
        with open_regular(path) as file:
            stamp = stamp_of(os.fstat(file.fileno()))
            head = file.read(HEAD.size)
            if head[: len(MAGIC)] != MAGIC or len(head) < HEAD.size:
                raise ArtifactError(f"{path} is no bundle; expected a file made by padim-edge bundle")
            _, version, _, offset, size, digest = HEAD.unpack(head)
            if version != VERSION:
                raise ArtifactError(
                    f"{path} is a bundle of version {version}, this padim-edge reads version {VERSION}; use the "
                    "padim-edge that made it"
                )
            if size > _MOST_INDEX or offset + size > stamp.size:
                raise ArtifactError(f"{path} is cut short; copy it again from where it was made")
            file.seek(offset)
            text = file.read(size)
    except ArtifactError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArtifactError(f"{path} cannot be read ({reason}); expected a bundle") from error
    if hashlib.sha256(text).digest() != digest:
        raise ArtifactError(f"{path} is damaged (the digest of its index does not match); copy it again")
    try:
        blobs, members = _indexed(read_json(text.decode(), "its index"), stamp.size)
    except (ValueError, TypeError, KeyError, AttributeError, ArtifactError) as error:
        raise ArtifactError(
            f"{path} has an index that is none ({type(error).__name__}); make the bundle again"
        ) from error
    return Bundle(path, stamp, digest.hex(), blobs, members)


def _indexed(found: object, end: int) -> tuple[tuple[Blob, ...], dict[str, Member]]:
    """Check an index that nobody vouches for: all places lie within the file, all numbers exist."""
    if not isinstance(found, dict):
        raise TypeError("no object")
    blobs = tuple(_blob(each, end) for each in found["blobs"])
    members = {}
    for each in found["products"]:
        name, numbers = each["name"], tuple(map(int, each["blobs"]))
        if not isinstance(name, str) or not name or len(name) > 255 or name in members:
            raise ValueError("a name")
        if not set(numbers) <= set(range(len(blobs))):
            raise ValueError("a blob")
        graph = _blob(each["graph"], end)
        if graph.size > _MOST_GRAPH:
            raise ValueError("a graph")
        members[name] = Member(name, graph, numbers)
    if not members:
        raise ValueError("no product")
    return blobs, members


def _blob(given: object, end: int) -> Blob:
    if not isinstance(given, list):
        raise TypeError("no place")
    offset, size, digest = given
    if not (isinstance(offset, int) and isinstance(size, int) and isinstance(digest, str) and len(digest) == 64):
        raise ValueError("a place")
    if offset < HEAD.size or size < 1 or offset + size > end:
        raise ValueError("a place outside")
    return Blob(offset, size, digest)


def external(bundle: Bundle, graph: bytes) -> bytes:
    """Return the graph as onnxruntime takes it: each reference becomes a place in the bundle's file.

    Args:
        bundle: The bundle.
        graph: What `Bundle.graph` gave.

    Raises:
        ValueError: It is no graph of a bundle.
        IndexError: It is not whole.
    """

    def changed(tensor: bytes) -> bytes:
        parts = []
        for start, stop, number, value in spans(tensor):
            key, text = entry(tensor[value]) if number == _EXTERNAL and isinstance(value, slice) else ("", "")
            if key not in (BLOB, DATA):
                parts.append(tensor[start:stop])
                continue
            blob = bundle.blobs[int(text.split()[0])]
            found = (("location", bundle.file.name), ("offset", str(blob.offset)), ("length", str(blob.size)))
            parts += [_about(each, word) for each, word in found]
            if key == BLOB:
                parts.append(_HAS_FILE)
        return b"".join(parts)

    return rewritten(graph, changed)


_HAS_FILE = bytes([_LOCATION << 3, 1])


def _about(key: str, text: str) -> bytes:
    return message(_EXTERNAL, message(1, key.encode()) + message(2, text.encode()))


def rewritten(model: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Return a model in which each constant of the graph is what a function makes of it; all else stays.

    Args:
        model: Content of a model file.
        change: Function of the content of a tensor.

    Raises:
        ValueError: The model is not whole.
        IndexError: The model is not whole.
    """
    parts = []
    for start, stop, number, graph in spans(model):
        if number != _GRAPH_OF_MODEL or not isinstance(graph, slice):
            parts.append(model[start:stop])
            continue
        inside, content = [], model[graph]
        for first, last, field, value in spans(content):
            if field == _INITIALIZER and isinstance(value, slice):
                inside.append(message(_INITIALIZER, change(content[value])))
            else:
                inside.append(content[first:last])
        parts.append(message(_GRAPH_OF_MODEL, b"".join(inside)))
    return b"".join(parts)
