"""Other metadata, and another data file, in a model that is there: written without onnx."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from padim_edge_artifact.container import BLANK_DIGEST, model_digest, read_verified, size_text
from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_artifact.files import staging, written
from padim_edge_artifact.metadata import Metadata, to_json
from padim_edge_artifact.names import METADATA_KEY, SIZE_KEY
from padim_edge_artifact.protobuf import METADATA_PROPS, entry, message, property_field, spans
from padim_edge_artifact.publishing import data_name, publish
from padim_edge_artifact.unfinished import real

__all__ = ["replace_metadata"]

_OURS = (METADATA_KEY, SIZE_KEY)
_EXTERNAL_DATA = (7, 5, 13)
"""Fields that lead to the names of data files: `graph`, `initializer`, `external_data`."""


def replace_metadata(path: Path, metadata: Metadata, output: Path | None = None) -> Metadata:
    """Write other metadata into a model, and nothing else; return them with the true digest.

    The old entry is cut out and the new one appended, because the order of fields does not matter to protobuf. A file
    is replaced only when the new one is complete.

    Args:
        path: The model.
        metadata: Metadata to write.
        output: File of a copy that gets the metadata; `None` writes them into `path`. The copy has a data file of its
            own, named after it, where the model has one.

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
    name = metadata.digests.data_file
    if name is None:
        return _write_with(content, metadata, output)
    source = path.with_name(name)
    digests = dataclasses.replace(metadata.digests, data_file=data_name(output.name, metadata.digests.data or ""))
    content = _with_data_file(content, name, digests.data_file or "")
    return _write_with(content, dataclasses.replace(metadata, digests=digests), output, source)


def _write_with(content: bytes, metadata: Metadata, output: Path, source: Path | None = None) -> Metadata:
    """Write a model file whose content is `content` with other metadata; return them with the true digest.

    Args:
        content: The model.
        metadata: Metadata to write.
        output: File to write.
        source: Data file to copy; `None` where there is none, or where it stays as it is.
    """
    kept = b"".join(
        content[start:stop]
        for start, stop, number, value in spans(content)
        if not (number == METADATA_PROPS and isinstance(value, slice) and entry(content[value])[0] in _OURS)
    )

    def write(file: Path, digest: str) -> Metadata:
        digests = dataclasses.replace(metadata.digests, model=digest)
        complete = dataclasses.replace(metadata, digests=digests)
        own = property_field(METADATA_KEY, to_json(complete))
        size = len(kept) + len(property_field(SIZE_KEY, size_text(0))) + len(own)
        file.write_bytes(kept + property_field(SIZE_KEY, size_text(size)) + own)
        return complete

    with written(output), staging(output) as folder:
        model, data = folder / output.name, None
        if (name := metadata.digests.data_file) is not None:
            data = real(output).with_name(name)
            if source is not None and not (data.exists() and data.samefile(source)):
                data = Path(shutil.copyfile(source, folder / name))
        write(model, BLANK_DIGEST)
        complete = write(model, model_digest(model, BLANK_DIGEST))
        publish(model, data, output)
        return complete


def _with_data_file(content: bytes, old: str, new: str, within: tuple[int, ...] = _EXTERNAL_DATA) -> bytes:
    """Name another data file in every tensor that lies in one; `within` leads to those places."""
    if not within:
        renamed = message(1, b"location") + message(2, new.encode())
        return renamed if entry(content) == ("location", old) else content
    parts = []
    for start, stop, number, value in spans(content):
        part = content[start:stop]
        if number == within[0] and isinstance(value, slice):
            inner = _with_data_file(content[value], old, new, within[1:])
            part = part if inner == content[value] else message(number, inner)
        parts.append(part)
    return b"".join(parts)
