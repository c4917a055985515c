"""Write a fused graph to disk: large constants in a data file, metadata and digests inside, nothing half-written."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from padim_edge_artifact import Metadata, PadimEdgeError, container
from padim_edge_artifact.files import staging, written
from padim_edge_artifact.metadata import Digests, to_json
from padim_edge_artifact.names import METADATA_KEY, SIZE_KEY
from padim_edge_artifact.publishing import data_name, publish
from padim_edge_model.fused import FusedGraph
from padim_edge_model.graph_editing import Array, GraphEditor, copied

__all__ = ["EXTERNAL_ABOVE", "Staged", "staged", "whole"]

EXTERNAL_ABOVE = 32 << 20
"""Bytes of constants above which they go to a data file, which onnxruntime maps into memory instead of reading."""

_ALIGNMENT = 4096
"""Bytes of a memory page; each constant of the data file begins at a multiple of it."""


@dataclass(frozen=True)
class Staged:
    """Complete, runnable model in a temporary folder, which still lacks its metadata."""

    path: Path
    """Path of the model, which onnxruntime can open for calibration."""
    model: onnx.ModelProto
    """Content of that file."""
    data: Digests
    """Digest, name and size of the data file; the model's own digest is still blank."""

    def finish(self, metadata: Metadata) -> Metadata:
        """Write the metadata into the model and return it with the true digests.

        Raises:
            PadimEdgeError: The scores in it are not finite.
        """
        told = metadata.self_test
        if not np.isfinite([metadata.threshold, told.score, *told.map_samples, *metadata.calibration.scores]).all():
            raise PadimEdgeError(
                f"the model's scores are not finite in {metadata.precision.name}: numbers in "
                f"{metadata.method.backbone} went beyond what that holds; export with another --precision, or with "
                "other weights"
            )
        metadata = dataclasses.replace(metadata, digests=self.data)
        self._write(metadata)
        digest = container.model_digest(self.path, container.BLANK_DIGEST)
        metadata = dataclasses.replace(metadata, digests=dataclasses.replace(self.data, model=digest))
        self._write(metadata)
        return metadata

    def _write(self, metadata: Metadata) -> None:
        del self.model.metadata_props[:]
        size = self.model.metadata_props.add(key=SIZE_KEY, value=container.size_text(0))
        self.model.metadata_props.add(key=METADATA_KEY, value=to_json(metadata))
        size.value = container.size_text(self.model.ByteSize())
        self.path.write_bytes(self.model.SerializeToString(deterministic=True))


def whole(graph: FusedGraph) -> bytes:
    """Return the model with its constants inside, for a session that lives shortly."""
    model = copied(graph.model)
    editor = GraphEditor(model.graph)
    for name, array in graph.constants.items():
        editor.constant(name, array, array.dtype)
    return bytes(model.SerializeToString())


@contextmanager
def staged(graph: FusedGraph, output: Path) -> Iterator[Staged]:
    """Lay the model down in a temporary folder beside `output`; give it its final name when the block ends well.

    Raises:
        PadimEdgeError: Another process is writing `output`, its folder does not exist or cannot be written to, or the
            disk is full.
    """
    with written(output), staging(output) as folder:
        yield (stage := _lay_down(graph, folder / output.name))
        data = stage.data.data_file
        publish(stage.path, None if data is None else folder / data, output)


def _lay_down(graph: FusedGraph, path: Path) -> Staged:
    model = copied(graph.model)
    editor = GraphEditor(model.graph)
    total = sum(array.nbytes for array in graph.constants.values())
    digests = Digests(container.BLANK_DIGEST, None, None, 0)
    if total <= EXTERNAL_ABOVE:
        for name, array in graph.constants.items():
            editor.constant(name, array, array.dtype)
    else:
        digests = _write_data(editor, graph.constants, path)
    stage = Staged(path, model, digests)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return stage


def _write_data(editor: GraphEditor, constants: Mapping[str, Array], path: Path) -> Digests:
    """Write the constants one after another, each at a page boundary, and refer to them from the model at `path`."""
    digest, offsets = hashlib.sha256(), {}
    unnamed = path.with_name("constants")
    with unnamed.open("wb") as file:
        for name, array in constants.items():
            padding = bytes(-file.tell() % _ALIGNMENT)
            file.write(padding)
            digest.update(padding)
            offsets[name] = file.tell()
            content = np.ascontiguousarray(array).view(np.uint8).data
            file.write(content)
            digest.update(content)
        size = file.tell()
    data = unnamed.rename(path.with_name(data_name(path.name, digest.hexdigest())))
    for name, array in constants.items():
        editor.external(name, array, location=data.name, offset=offsets[name])
    return Digests(container.BLANK_DIGEST, digest.hexdigest(), data.name, size)
