"""The embedding graph as a value: uint8 images in, one vector per patch out. `padim_edge_export` makes it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx

from padim_edge_artifact import ArtifactError, names
from padim_edge_artifact.kept import CodesRecord, Kept, PartRecord
from padim_edge_artifact.metadata import Reduction
from padim_edge_model import grids
from padim_edge_model.graph_editing import GraphEditor, copied

__all__ = ["IR_VERSION", "OPSET", "Codes", "EmbeddingGraph", "Part", "joined", "of_kept", "records"]

OPSET = 18
"""Operator set: the torch exporter's native one, and low enough for the onnxruntime of JetPack 6 and Triton."""
IR_VERSION = 8
"""Version of the file format, which onnxruntime 1.17 already reads."""


@dataclass(frozen=True, eq=False)
class Codes:
    """Quantised form of a part: `part = (codes - zero_point) * scale`, by dimension."""

    name: str
    """Name of the tensor of codes, `(N, d, h, w)` uint8."""
    scale: npt.NDArray[np.float32]
    """`(d,)` step between two codes of each dimension, positive."""
    zero_point: npt.NDArray[np.uint8]
    """`(d,)` code that stands for 0 in each dimension."""


@dataclass(frozen=True, eq=False)
class Part:
    """Dimensions of the embedding that come from one stage, at the stage's own resolution."""

    name: str
    """Name of the tensor, `(N, d, h, w)` float32."""
    dims: int
    """d, number of dimensions."""
    grid: tuple[int, int]
    """(h, w), rows and columns of cells."""
    codes: Codes | None = None
    """Quantised form; only in an int8 graph for onnxruntime's CPU provider, and only for Gaussians."""


@dataclass(frozen=True, eq=False)
class EmbeddingGraph:
    """Graph from pixels to the embedding; the shipped model contains the same nodes."""

    model: onnx.ModelProto
    """Model from `image`, uint8 `(N, H, W, 3)`, to the parts."""
    parts: tuple[Part, ...]
    """Parts of the embedding in its order, finest first. The embedding concatenates them on the finest grid."""
    reduction: Reduction
    """Kept channels or dimensions."""
    size: tuple[int, int]
    """(H, W) of the image in pixels."""
    precision: str = "fp32"
    """Number type of the backbone: `fp32`, `fp16` or `int8`."""
    target: str = "cpu"
    """Engine that an int8 graph is for: `cpu` or `tensorrt`."""
    beside: tuple[Part, ...] = ()
    """Parts of the embedding of a memory beside the Gaussians, all on one grid; empty without one."""

    @property
    def outputs(self) -> tuple[Part, ...]:
        """All parts that the graph gives."""
        return (*self.parts, *self.beside)

    @property
    def heads(self) -> tuple[EmbeddingGraph, ...]:
        """The graph for each kind of distance alone: the Gaussians, and the memory beside them.

        They share one model, whose outputs are those of both.
        """
        if not self.beside:
            return (self,)
        return replace(self, beside=()), replace(self, parts=self.beside, beside=())

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w), rows and columns of patches: the grid of the finest stage."""
        return self.parts[0].grid

    @property
    def dims(self) -> int:
        """D, number of dimensions of the embedding."""
        return sum(part.dims for part in self.parts)


def joined(graph: EmbeddingGraph) -> onnx.ModelProto:
    """Return a model with the output `embedding` `(N, D, h, w)`: the parts on the finest grid, concatenated.

    Coarser parts are brought to the finest grid by nearest upsampling. With a memory beside the Gaussians, there is a
    second output `embedding_beside`.
    """
    model = copied(graph.model)
    editor = GraphEditor(model.graph, "join")
    shapes: dict[str, list[str | int]] = {}
    for head, name in zip(graph.heads, (names.EMBEDDING, names.EMBEDDING_BESIDE), strict=False):
        editor.node("Concat", _lifted(editor, head), name, axis=1)
        shapes[name] = ["N", head.dims, *head.grid]
    editor.set_outputs(shapes)
    editor.drop_unused()
    return model


def _lifted(editor: GraphEditor, graph: EmbeddingGraph) -> list[str]:
    """Append what brings the parts to the finest grid, and return their names."""
    lifted = []
    for part in graph.parts:
        tensor = part.name
        if part.grid != graph.grid:
            rows, columns = (grids.nearest(finest, cells) for finest, cells in zip(graph.grid, part.grid, strict=True))
            tensor = editor.node("MatMul", [editor.constant(f"{part.name}_rows", rows), tensor], f"{part.name}_tall")
            tensor = editor.node(
                "MatMul", [tensor, editor.constant(f"{part.name}_columns", columns.T)], f"{part.name}_lifted"
            )
        lifted.append(tensor)
    return lifted


def records(parts: tuple[Part, ...]) -> tuple[PartRecord, ...]:
    """Return the parts in the form that kept statistics store."""
    return tuple(PartRecord(part.name, part.dims, part.grid, _codes_record(part.codes)) for part in parts)


def _codes_record(codes: Codes | None) -> CodesRecord | None:
    if codes is None:
        return None
    return CodesRecord(codes.name, tuple(codes.scale.tolist()), tuple(codes.zero_point.tolist()))


def of_kept(kept: Kept) -> EmbeddingGraph:
    """Read the embedding graph that kept statistics were collected with.

    Raises:
        ArtifactError: The bytes are no ONNX graph.
    """
    try:
        model = onnx.load_from_string(kept.graph)
    except Exception as error:  # protobuf's own exception; onnx has none
        raise ArtifactError(f"the statistics hold no readable embedding graph ({error}); fit again") from error
    recipe, precision = kept.recipe, kept.recipe.method.precision
    return EmbeddingGraph(
        model,
        _parts_of(recipe.parts),
        recipe.reduction,
        recipe.method.preprocessing.input_size,
        precision.name,
        precision.target,
        _parts_of(recipe.beside),
    )


def _parts_of(stored: tuple[PartRecord, ...]) -> tuple[Part, ...]:
    return tuple(Part(each.name, each.dims, each.grid, _codes_of(each.codes)) for each in stored)


def _codes_of(stored: CodesRecord | None) -> Codes | None:
    if stored is None:
        return None
    return Codes(stored.name, np.array(stored.scale, np.float32), np.array(stored.zero_point, np.uint8))
