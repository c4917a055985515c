"""The model file as bytes: reading its metadata without onnx, and checking that it is whole.

A runtime can refuse a file before anything tries to execute it.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from padim_edge_artifact.bundle import Bundle, external, is_bundle, open_bundle
from padim_edge_artifact.errors import ArtifactError
from padim_edge_artifact.external_data import check_graph
from padim_edge_artifact.metadata import Digests, Metadata, from_json
from padim_edge_artifact.names import METADATA_KEY, SIZE_KEY
from padim_edge_artifact.protobuf import METADATA_PROPS, entry, spans
from padim_edge_artifact.regular_files import Stamp, open_regular, outside_of, stamp_of

__all__ = [
    "BLANK_DIGEST",
    "Verified",
    "data_digest",
    "described",
    "model_digest",
    "read_metadata",
    "read_verified",
    "size_text",
    "verified",
]

BLANK_DIGEST = "0" * 64
"""Digits in place of the model digest while the digest is computed."""

_CHUNK = 1 << 18
"""Number of bytes read at a time; they stay in the processor's cache, where the digest reads them again."""

_MOST_BYTES = 1 << 30
"""Largest size of a model file in bytes; larger constants belong into its data file."""


def read_metadata(path: Path, product: str | None = None) -> Metadata:
    """Read the metadata of a model file, or of a model in a bundle.

    Args:
        path: The model file, or the bundle.
        product: Name of the product in a bundle; `None` for a model file, or where the bundle has only one.

    Raises:
        ArtifactError: No such file, truncated, not ONNX, not made by padim-edge, or of another format version.
    """
    if is_bundle(path):
        bundle = open_bundle(path)
        return described(path, bundle.graph(bundle.member(product)))
    _refuse_product(path, product)
    return described(path, _content(path)[0])


def described(path: Path, content: bytes) -> Metadata:
    """Decode the metadata in the content of a model file.

    Args:
        path: The file, for errors.
        content: Its content.

    Raises:
        ArtifactError: As for `read_metadata`.
    """
    text = _parsed(path, content).get(METADATA_KEY) or _foreign(path)
    try:
        return from_json(text)
    except ArtifactError as error:
        raise ArtifactError(f"{path} cannot be used: {error}") from error


@dataclass(frozen=True)
class Verified:
    """Metadata of a model of which every byte is as its digests say, and the state of its files."""

    metadata: Metadata
    """The metadata."""
    model: Stamp
    """State of the model file before it was read."""
    data: Stamp | None
    """State of its data file before it was read; `None` without one. For a model in a bundle, that is the bundle."""
    data_path: Path | None = None
    """The data file; `None` without one."""
    graph: bytes | None = None
    """Content of the model as onnxruntime takes it from a bundle; `None` where it takes the model file."""


def read_verified(path: Path, product: str | None = None) -> Metadata:
    """Read the metadata, and compare every byte of the model and of its data file with the digests.

    Args:
        path: As for `read_metadata`.
        product: As for `read_metadata`.

    Raises:
        ArtifactError: The metadata cannot be read, the model or its data file is damaged, short or missing, or its
            graph reads other files.
    """
    return verified(path, product).metadata


def verified(path: Path, product: str | None = None) -> Verified:
    """Do what `read_verified` does, and return the state of the files as well.

    Args:
        path: As for `read_metadata`.
        product: As for `read_metadata`.

    Raises:
        ArtifactError: As for `read_verified`.
    """
    if is_bundle(path):
        return _verified_in_bundle(open_bundle(path), product)
    _refuse_product(path, product)
    content, stamp = _content(path)
    metadata = described(path, content)
    digests = metadata.digests
    if not digests.model or _digest(content, digests.model) != digests.model:
        raise ArtifactError(_not_ours(path, content))
    try:
        check_graph(content, digests.data_file)
    except ArtifactError as error:
        raise ArtifactError(f"{path} cannot be used: {error}") from error
    except (ValueError, IndexError) as error:
        raise ArtifactError(f"{path} cannot be used: its graph is not whole ({error}); export it again") from error
    if digests.data_file is None:
        return Verified(metadata, stamp, None)
    data = path.with_name(digests.data_file)
    return Verified(metadata, stamp, _verify_data(path, data, digests), data)


def _verified_in_bundle(bundle: Bundle, product: str | None) -> Verified:
    """Compare every byte of one model in a bundle with its digest. The other models are not read."""
    path, member = bundle.path, bundle.member(product)
    graph = bundle.graph(member)
    metadata = described(path, graph)
    bundle.verify(member)
    try:
        graph = external(bundle, graph)
        check_graph(graph, bundle.file.name)
    except ArtifactError as error:
        raise ArtifactError(f"{path} cannot be used: {error}") from error
    except (ValueError, IndexError) as error:
        raise ArtifactError(f"{path} has a graph that is not whole ({error}); make the bundle again") from error
    return Verified(metadata, bundle.stamp, bundle.stamp, bundle.file, graph)


def _refuse_product(path: Path, product: str | None) -> None:
    if product is not None:
        raise ArtifactError(f"{path} is no bundle, so it has no product {product[:80]!r}; leave the product out")


def _verify_data(path: Path, data: Path, digests: Digests) -> Stamp:
    """Compare every byte of a data file with its digest; return its state before."""
    if not data.is_file():
        raise ArtifactError(_without_data(path, data, digests))
    if outside_of(data, path):
        raise ArtifactError(
            f"{data} is a link to {data.resolve()}, outside of the model's folder; copy the file itself to {data}, or "
            "make both files links to the same folder"
        )
    try:
        with open_regular(data.resolve(), follow=False) as file:
            stamp = stamp_of(os.fstat(file.fileno()))
            if stamp.size != digests.data_bytes:
                raise ArtifactError(
                    f"{data} has {stamp.size} bytes, expected {digests.data_bytes}; copy both files again together"
                )
            found = _digest_of(file)
    except OSError as error:
        raise ArtifactError(f"{data} cannot be read ({error.strerror}); copy both files again together") from error
    if found != digests.data:
        raise ArtifactError(
            f"{data} is damaged or belongs to another model (its digest does not match); copy both files again together"
        )
    return stamp


def data_digest(path: Path) -> str:
    """Compute the SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb", buffering=0) as file:
        return _digest_of(file)


def _digest_of(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    chunk = memoryview(bytearray(_CHUNK))
    while count := file.readinto(chunk):  # type: ignore[attr-defined]  # files that are opened in binary have it
        digest.update(chunk[:count])
    return digest.hexdigest()


def model_digest(path: Path, digits: str) -> str:
    """Compute the SHA-256 of a file in which its own digest, `digits`, is replaced by `BLANK_DIGEST`.

    The result is empty where there are not 64 digits, or where they are not in the file.

    Raises:
        ArtifactError: The file cannot be read.
    """
    return _digest(_content(path)[0], digits)


def _digest(content: bytes, digits: str) -> str:
    start = content.rfind(digits.encode(errors="replace"))
    if len(digits) != len(BLANK_DIGEST) or start < 0:
        return ""
    parts = memoryview(content)
    digest = hashlib.sha256(parts[:start])
    digest.update(BLANK_DIGEST.encode())
    digest.update(parts[start + len(digits) :])
    return digest.hexdigest()


def size_text(size: int) -> str:
    """Return the value of `SIZE_KEY` for a file of `size` bytes; its width is fixed, because the file contains it."""
    return f"{size:015d}"


def _not_ours(path: Path, content: bytes) -> str:
    """Say why the digest does not match: damage leaves a whole file its size, and a tool that rewrites it does not."""
    said, size = _parsed(path, content).get(SIZE_KEY, ""), len(content)
    if not (said.isascii() and said.isdecimal() and len(said) < 20):
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
    return _parsed(path, _content(path)[0])


def _parsed(path: Path, content: bytes) -> dict[str, str]:
    """Decode the `metadata_props` in the content of an ONNX file; the last of equal keys counts."""
    try:
        if not content:
            raise ValueError("it is empty")
        return dict(
            entry(content[value])
            for _, _, number, value in spans(content)
            if number == METADATA_PROPS and isinstance(value, slice)
        )
    except (ValueError, IndexError) as error:
        raise ArtifactError(_broken(path, error)) from error


def _content(path: Path) -> tuple[bytes, Stamp]:
    """Return the content of a model file, and its state before.

    It is not mapped into memory: a mapped file that another process cuts short would end this one.
    """
    try:
        with open_regular(path) as file:
            stamp = stamp_of(os.fstat(file.fileno()))
            if stamp.size > _MOST_BYTES:
                raise ValueError(f"it has {stamp.size} bytes, expected at most {_MOST_BYTES}")
            return file.read(), stamp
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist; expected a model made by padim-edge export") from None
    except IsADirectoryError:
        raise ArtifactError(f"{path} is a folder, expected a model made by padim-edge export") from None
    except MemoryError as error:
        raise ArtifactError(f"{path} does not fit into memory; close other programs, or copy it again") from error
    except ArtifactError:
        raise
    except (OSError, ValueError) as error:
        raise ArtifactError(_broken(path, error)) from error


def _broken(path: Path, error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) else error
    return f"{path} is not a whole ONNX file ({reason}); expected a model made by padim-edge export, so copy it again"
