"""The model file as bytes: reading and replacing its metadata without onnx, and checking that it is whole.

A runtime can refuse a file before anything tries to execute it. Only the outermost layer of the protobuf encoding is
read (onnx.proto3: `ModelProto.metadata_props` is field 14).
"""

from __future__ import annotations

import dataclasses
import hashlib
import mmap
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from padim_edge_artifact.errors import ArtifactError, PadimEdgeError
from padim_edge_artifact.files import replacing
from padim_edge_artifact.metadata import Digests, Metadata, from_json, to_json
from padim_edge_artifact.names import METADATA_KEY, SIZE_KEY

__all__ = [
    "BLANK_DIGEST",
    "data_digest",
    "model_digest",
    "read_metadata",
    "read_verified",
    "replace_metadata",
    "size_text",
]

BLANK_DIGEST = "0" * 64
"""Digits in place of the model digest while the digest is computed."""

_METADATA_PROPS = 14
_OURS = (METADATA_KEY, SIZE_KEY)
_EXTERNAL_DATA = (7, 5, 13)
"""Fields that lead to the names of data files: `graph`, `initializer`, `external_data`."""
_CHUNK = 1 << 18
"""Number of bytes read at a time; they stay in the processor's cache, where the digest reads them again."""


def read_metadata(path: Path) -> Metadata:
    """Read the metadata of a model file.

    Raises:
        ArtifactError: No such file, truncated, not ONNX, not made by padim-edge, or of another format version.
    """
    text = _properties(path).get(METADATA_KEY) or _foreign(path)
    try:
        return from_json(text)
    except ArtifactError as error:
        raise ArtifactError(f"{path} cannot be used: {error}") from error


def read_verified(path: Path) -> Metadata:
    """Read the metadata, and compare every byte of the model and of its data file with the digests.

    Raises:
        ArtifactError: The metadata cannot be read, or the model or its data file is damaged, short or missing.
    """
    metadata = read_metadata(path)
    digests = metadata.digests
    if not digests.model or model_digest(path, digests.model) != digests.model:
        raise ArtifactError(_not_ours(path))
    if digests.data_file is None:
        return metadata
    if not digests.data_file or Path(digests.data_file).name != digests.data_file:
        raise ArtifactError(f"{path} names the data file {digests.data_file!r}, expected a name in the same folder")
    data = path.with_name(digests.data_file)
    if not data.is_file():
        raise ArtifactError(_without_data(path, data, digests))
    if data.stat().st_size != digests.data_bytes:
        raise ArtifactError(
            f"{data} has {data.stat().st_size} bytes, expected {digests.data_bytes}; copy both files again together"
        )
    if data_digest(data) != digests.data:
        raise ArtifactError(
            f"{data} is damaged or belongs to another model (its digest does not match); copy both files again together"
        )
    return metadata


def replace_metadata(path: Path, metadata: Metadata, output: Path | None = None) -> Metadata:
    """Write other metadata into a model, and nothing else; return them with the true digest.

    The old entry is cut out and the new one appended, because the order of fields does not matter to protobuf. A file
    is replaced only when the new one is complete.

    Args:
        path: The model.
        metadata: Metadata to write.
        output: File of a copy that gets the metadata; `None` writes them into `path`. The copy has a data file of its
            own, `<output>.data`, where the model has one.

    Raises:
        ArtifactError: The file is damaged or was not made by padim-edge.
        PadimEdgeError: A file cannot be written.
    """
    read_verified(path)
    content = path.read_bytes()
    if output is None or (output.exists() and output.samefile(path)):
        return _write_with(content, metadata, path)
    if output.is_dir():
        raise PadimEdgeError(f"{output} is a folder, expected the name of the new model file, such as copy.onnx")
    data = output.with_name(f"{output.name}.data")
    name = metadata.digests.data_file
    if name is None:
        written = _write_with(content, metadata, output)
        data.unlink(missing_ok=True)  # of the model that stood here before
        return written
    source = path.with_name(name)
    digests = dataclasses.replace(metadata.digests, data_file=data.name)
    content = _with_data_file(content, name, data.name)
    if not (data.exists() and data.samefile(source)):
        with replacing(data) as temporary:
            shutil.copyfile(source, temporary)
    return _write_with(content, dataclasses.replace(metadata, digests=digests), output)


def _write_with(content: bytes, metadata: Metadata, output: Path) -> Metadata:
    """Write a model file whose content is `content` with other metadata; return them with the true digest."""
    kept = b"".join(
        content[start:stop]
        for start, stop, number, value in _spans(content)
        if not (number == _METADATA_PROPS and isinstance(value, slice) and _entry(content[value])[0] in _OURS)
    )

    def write(file: Path, digest: str) -> Metadata:
        digests = dataclasses.replace(metadata.digests, model=digest)
        written = dataclasses.replace(metadata, digests=digests)
        entry = _property(METADATA_KEY, to_json(written))
        size = len(kept) + len(_property(SIZE_KEY, size_text(0))) + len(entry)
        file.write_bytes(kept + _property(SIZE_KEY, size_text(size)) + entry)
        return written

    with replacing(output) as temporary:
        write(temporary, BLANK_DIGEST)
        return write(temporary, model_digest(temporary, BLANK_DIGEST))


def _with_data_file(content: bytes, old: str, new: str, within: tuple[int, ...] = _EXTERNAL_DATA) -> bytes:
    """Name another data file in every tensor that lies in one; `within` leads to those places."""
    if not within:
        renamed = _message(1, b"location") + _message(2, new.encode())
        return renamed if _entry(content) == ("location", old) else content
    parts = []
    for start, stop, number, value in _spans(content):
        part = content[start:stop]
        if number == within[0] and isinstance(value, slice):
            inner = _with_data_file(content[value], old, new, within[1:])
            part = part if inner == content[value] else _message(number, inner)
        parts.append(part)
    return b"".join(parts)


def data_digest(path: Path) -> str:
    """Compute the SHA-256 of a file, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    chunk = memoryview(bytearray(_CHUNK))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(chunk):
            digest.update(chunk[:count])
    return digest.hexdigest()


def model_digest(path: Path, digits: str) -> str:
    """Compute the SHA-256 of a file in which its own digest, `digits`, is replaced by `BLANK_DIGEST`.

    The result is empty where there are not 64 digits, or where they are not in the file.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.rfind(digits.encode(errors="replace"))
        if len(digits) != len(BLANK_DIGEST) or start < 0:
            return ""
        digest = hashlib.sha256(content[:start])
        digest.update(BLANK_DIGEST.encode())
        digest.update(content[start + len(digits) :])
        return digest.hexdigest()


def size_text(size: int) -> str:
    """Return the value of `SIZE_KEY` for a file of `size` bytes; its width is fixed, because the file contains it."""
    return f"{size:015d}"


def _not_ours(path: Path) -> str:
    """Say why the digest does not match: damage leaves a whole file its size, and a tool that rewrites it does not."""
    said, size = _properties(path).get(SIZE_KEY, ""), path.stat().st_size
    if not (said.isascii() and said.isdecimal()):
        return (
            f"{path} is damaged or was changed by another tool (its digest does not match); copy the file again that "
            "padim-edge wrote"
        )
    if int(said) == size:
        return f"{path} is damaged (its digest does not match); copy it again from where it was exported"
    return (
        f"{path} was changed by another tool, such as a simplifier or onnx.save (padim-edge wrote {int(said)} bytes, "
        f"now it has {size}); use the file that padim-edge wrote, whose scores and threshold were checked"
    )


def _without_data(path: Path, data: Path, digests: Digests) -> str:
    """Say what to do where the data file is not beside its model under the name that the model knows."""
    if path.is_symlink() and path.resolve().with_name(data.name).is_file():
        return (
            f"{data} is missing; {path} is a link, so link {path.resolve().with_name(data.name)} beside it as well, or "
            "name the model itself"
        )
    if data.is_symlink():
        return f"{data} is a link to {data.readlink()}, which is not there; copy both files again together"
    for other in sorted(path.parent.glob("*.data")):
        if other.is_file() and other.stat().st_size == digests.data_bytes and data_digest(other) == digests.data:
            return (
                f"{data} is missing; it was renamed to {other.name}, so rename it to {data.name} again (the .onnx file "
                "may have any name, its .data file only this one)"
            )
    return (
        f"{data} is missing; {path.name} keeps its constants in a file of that name, so copy both files together, and "
        "give the .data file that name again if it was renamed"
    )


def _foreign(path: Path) -> str:
    raise ArtifactError(f"{path} was not made by padim-edge (no {METADATA_KEY!r} in its metadata); export one with it")


def _properties(path: Path) -> dict[str, str]:
    """Read the `metadata_props` of an ONNX file."""
    try:
        with path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise ValueError("it is empty")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                properties = {}
                for _, _, number, value in _spans(content):
                    if number == _METADATA_PROPS and isinstance(value, slice):
                        key, text = _entry(content[value])
                        properties[key] = text
                return properties
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist; expected a model made by padim-edge export") from None
    except IsADirectoryError:
        raise ArtifactError(f"{path} is a folder, expected a model made by padim-edge export") from None
    except (OSError, ValueError, IndexError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ArtifactError(
            f"{path} is not a whole ONNX file ({reason}); expected a model made by padim-edge export, so copy it again"
        ) from error


def _entry(content: bytes) -> tuple[str, str]:
    """Decode key and value of one entry of `metadata_props`; blank where they are missing."""
    parts = {number: content[value] for _, _, number, value in _spans(content) if isinstance(value, slice)}
    return parts.get(1, b"").decode(), parts.get(2, b"").decode()


def _property(key: str, text: str) -> bytes:
    """Encode one entry of `metadata_props`, as a field of the model."""
    return _message(_METADATA_PROPS, _message(1, key.encode()) + _message(2, text.encode()))


def _message(number: int, content: bytes) -> bytes:
    """Encode a field that holds bytes."""
    return _digits(number << 3 | 2) + _digits(len(content)) + content


def _digits(value: int) -> bytes:
    """Encode an integer to base 128."""
    digits = bytearray()
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])


def _spans(content: mmap.mmap | bytes) -> Iterator[tuple[int, int, int, int | slice]]:
    """Yield (start, stop, field number, integer or slice of the bytes) for each field of one protobuf message."""
    start, stop = 0, len(content)
    while start < stop:
        begin = start
        tag, start = _varint(content, start)
        value: int | slice
        match tag & 7:
            case 0:
                value, start = _varint(content, start)
            case 1 | 5:
                width = 8 if tag & 7 == 1 else 4
                value, start = slice(start, start + width), start + width
            case 2:
                length, start = _varint(content, start)
                value, start = slice(start, start + length), start + length
            case wire:
                raise ValueError(f"unknown wire type {wire}")
        if start > stop or not tag >> 3:
            raise ValueError("it ends in the middle of a field" if start > stop else "field number 0")
        yield begin, start, tag >> 3, value


def _varint(content: mmap.mmap | bytes, start: int) -> tuple[int, int]:
    """Decode a base-128 integer; return its value and the next position."""
    value = shift = 0
    while True:
        byte = content[start]
        start += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, start
        shift += 7
        if shift > 63:
            raise ValueError("an integer of more than 64 bits")
