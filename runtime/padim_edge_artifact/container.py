"""The model file as bytes: reading its metadata without onnx, and checking that it is whole.

A runtime can refuse a file before anything tries to execute it.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from pathlib import Path

from padim_edge_artifact.errors import ArtifactError
from padim_edge_artifact.metadata import Digests, Metadata, from_json
from padim_edge_artifact.names import METADATA_KEY, SIZE_KEY
from padim_edge_artifact.protobuf import METADATA_PROPS, entry, spans

__all__ = [
    "BLANK_DIGEST",
    "data_digest",
    "model_digest",
    "read_metadata",
    "read_verified",
    "size_text",
]

BLANK_DIGEST = "0" * 64
"""Digits in place of the model digest while the digest is computed."""

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
                for _, _, number, value in spans(content):
                    if number == METADATA_PROPS and isinstance(value, slice):
                        key, text = entry(content[value])
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
