"""Making, changing and taking apart bundles."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from padim_edge_artifact import container
from padim_edge_artifact.bundle import (
    BLOB,
    DATA,
    HEAD,
    MAGIC,
    PAGE,
    VERSION,
    Bundle,
    Member,
    open_bundle,
    rewritten,
)
from padim_edge_artifact.errors import ArtifactError, PadimEdgeError
from padim_edge_artifact.files import replacing, staging, written
from padim_edge_artifact.protobuf import entry, message, spans
from padim_edge_artifact.publishing import publish
from padim_edge_artifact.regular_files import plain_name

__all__ = ["Source", "extract", "write"]

_LEAST = 1024
"""Bytes from which a tensor is stored as a blob."""
_RAW, _EXTERNAL = 9, 13
"""Fields of a tensor: its bytes, and entries about its file."""


@dataclass(frozen=True)
class Source:
    """One model that comes into a bundle."""

    path: Path
    """A model file, or a bundle."""
    product: str | None = None
    """Name of the product within a bundle; `None` for a model file."""


@dataclass(frozen=True)
class _Taken:
    """A model taken to pieces."""

    graph: bytes
    """The model file, in which large tensors are references to numbers of `blobs`."""
    blobs: tuple[bytes, ...]
    """Bytes of the large tensors."""


def write(output: Path, sources: Mapping[str, Source]) -> Bundle:
    """Write a bundle, whole or not at all.

    Args:
        output: The bundle. It may be one of the sources: others see the old one until the new one is complete.
        sources: Models by the names of their products.

    Raises:
        ArtifactError: A model is missing or damaged, or none of padim-edge's.
        PadimEdgeError: A name is none, or the bundle cannot be written.
    """
    if not sources:
        raise PadimEdgeError("a bundle needs at least one model")
    for name in sources:
        if not plain_name(name):
            raise PadimEdgeError(f"{name[:80]!r} is no name of a product, expected one without slashes")
    with replacing(output) as unfinished, unfinished.open("r+b") as file:
        _write(file, sources)
    return open_bundle(output)


def extract(bundle: Bundle, product: str, output: Path) -> Path:
    """Write a model and its data file again as they were, byte by byte.

    Args:
        bundle: The bundle.
        product: Name of the product.
        output: The model file to write. Its data file has the name that the model knows.

    Raises:
        ArtifactError: There is no such product, or it is damaged.
        PadimEdgeError: A file cannot be written.
    """
    model, data, name = _restored(bundle, bundle.member(product))
    with written(output), staging(output) as folder:
        place = folder / output.name
        place.write_bytes(model)
        if data is not None and name is not None:
            (folder / name).write_bytes(data)
        container.read_verified(place)
        publish(place, None if name is None else folder / name, output)
    return output


def _write(file: BinaryIO, sources: Mapping[str, Source]) -> None:
    file.write(bytes(HEAD.size))
    numbers: dict[str, int] = {}
    blobs: list[list[object]] = []
    products = []
    for name, source in sources.items():
        taken = _taken(source)
        own = []
        for content in taken.blobs:
            digest = hashlib.sha256(content).hexdigest()
            if digest not in numbers:
                numbers[digest] = len(blobs)
                file.write(bytes(-file.tell() % PAGE))
                blobs.append([file.tell(), len(content), digest])
                file.write(content)
            own.append(numbers[digest])
        graph = _renumbered(taken.graph, own)
        place = [file.tell(), len(graph), hashlib.sha256(graph).hexdigest()]
        file.write(graph)
        products.append({"name": name, "graph": place, "blobs": sorted(set(own))})
    index = json.dumps({"blobs": blobs, "products": products}, separators=(",", ":")).encode()
    offset = file.tell()
    file.write(index)
    file.seek(0)
    file.write(HEAD.pack(MAGIC, VERSION, 0, offset, len(index), hashlib.sha256(index).digest()))


def _taken(source: Source) -> _Taken:
    """Take a model to pieces, after it was checked, and make sure that they give it back."""
    if source.product is None:
        found = container.verified(source.path)
        model = source.path.read_bytes()
        name = found.metadata.digests.data_file
        data = None if name is None else source.path.with_name(name).read_bytes()
    else:
        bundle = open_bundle(source.path)
        model, data, name = _restored(bundle, bundle.member(source.product))
    blobs: list[bytes] = []

    def changed(tensor: bytes) -> bytes:
        about = dict(
            entry(tensor[value])
            for _, _, number, value in spans(tensor)
            if number == _EXTERNAL and isinstance(value, slice)
        )
        parts = []
        for start, stop, number, value in spans(tensor):
            if number == _RAW and isinstance(value, slice) and value.stop - value.start >= _LEAST:
                parts.append(_reference(BLOB, len(blobs)))
                blobs.append(tensor[value])
            elif number == _EXTERNAL and isinstance(value, slice):
                if entry(tensor[value])[0] == "location" and data is not None:
                    offset, size = int(about["offset"]), int(about["length"])
                    parts.append(_reference(DATA, len(blobs), offset))
                    blobs.append(data[offset : offset + size])
            else:
                parts.append(tensor[start:stop])
        return b"".join(parts)

    try:
        taken = _Taken(rewritten(model, changed), tuple(blobs))
        whole = _given_back(taken.graph, dict(enumerate(blobs)), name) == (model, data)
    except (ValueError, IndexError, KeyError) as error:
        raise ArtifactError(f"{source.path} is not whole ({error}); export it again") from error
    if not whole:
        raise ArtifactError(f"{source.path} is laid out otherwise than padim-edge does; export it again")
    return taken


def _restored(bundle: Bundle, member: Member) -> tuple[bytes, bytes | None, str | None]:
    """Return a model file, its data file and the data file's name as they were."""
    graph = bundle.graph(member)
    blobs = {number: bundle.blob(number) for number in member.blobs}
    metadata = container.described(bundle.path, graph)
    name = metadata.digests.data_file
    try:
        return *_given_back(graph, blobs, name), name
    except (ValueError, IndexError, KeyError) as error:
        raise ArtifactError(f"{bundle.path} is not whole ({error}); make the bundle again") from error


def _given_back(graph: bytes, blobs: Mapping[int, bytes], name: str | None) -> tuple[bytes, bytes | None]:
    """Put the tensors back in the place of their references; return the model file and the data file."""
    places: list[tuple[int, bytes]] = []

    def changed(tensor: bytes) -> bytes:
        parts = []
        for start, stop, number, value in spans(tensor):
            key, text = entry(tensor[value]) if number == _EXTERNAL and isinstance(value, slice) else ("", "")
            if key == BLOB:
                parts.append(message(_RAW, blobs[int(text)]))
            elif key == DATA:
                blob, offset = map(int, text.split())
                places.append((offset, blobs[blob]))
                about = (("location", name or ""), ("offset", str(offset)), ("length", str(len(blobs[blob]))))
                parts += [message(_EXTERNAL, message(1, k.encode()) + message(2, v.encode())) for k, v in about]
            else:
                parts.append(tensor[start:stop])
        return b"".join(parts)

    model = rewritten(graph, changed)
    if name is None:
        return model, None
    data = bytearray()
    for offset, content in sorted(places):  # zeros lie between them
        data += bytes(offset - len(data)) + content
    return model, bytes(data)


def _reference(key: str, *numbers: int) -> bytes:
    text = " ".join(map(str, numbers))
    return message(_EXTERNAL, message(1, key.encode()) + message(2, text.encode()))


def _renumbered(graph: bytes, own: list[int]) -> bytes:
    """Let the references name the blobs by their numbers in the bundle."""

    def changed(tensor: bytes) -> bytes:
        parts = []
        for start, stop, number, value in spans(tensor):
            key, text = entry(tensor[value]) if number == _EXTERNAL and isinstance(value, slice) else ("", "")
            if key in (BLOB, DATA):
                first, *more = map(int, text.split())
                parts.append(_reference(key, own[first], *more))
            else:
                parts.append(tensor[start:stop])
        return b"".join(parts)

    return rewritten(graph, changed)
