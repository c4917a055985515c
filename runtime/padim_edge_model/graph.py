"""The embedding graph as a value: uint8 images in, one vector a patch out. `padim_edge_export` makes it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from padim_edge_artifact import ArtifactError, names
from padim_edge_artifact.kept import CodesRecord, Kept, PartRecord
from padim_edge_artifact.metadata import Reduction
from padim_edge_model import grids
from padim_edge_model.nodes import Nodes

__all__ = ["IR_VERSION", "OPSET", "Codes", "EmbeddingGraph", "Part", "joined", "of_kept", "records"]

OPSET = 18
"""The torch exporter's native level, and low enough for JetPack 6's and Triton's onnxruntime."""
IR_VERSION = 8
"""What onnxruntime 1.17 already reads; nothing newer is needed."""


@dataclass(frozen=True, eq=False)
class Codes:
    """How a part was quantised: `part = (codes - zero_point) * scale`, by dimension."""

    name: str
    """Tensor of the codes, `(N, d, h, w)` uint8."""
    scale: npt.NDArray[np.float32]
    """`(d,)`, positive."""
    zero_point: npt.NDArray[np.uint8]
    """`(d,)`."""


@dataclass(frozen=True, eq=False)
class Part:
    """What one stage gives to the embedding, at the stage's own resolution."""

    name: str
    """Tensor, `(N, d, h, w)` float32."""
    dims: int
    """d."""
    grid: tuple[int, int]
    """(h, w) cells."""
    codes: Codes | None = None
    """The same as integers; only in an int8 graph for onnxruntime's CPU provider."""


@dataclass(frozen=True, eq=False)
class EmbeddingGraph:
    """Pixels to embedding, the very nodes that the shipped model will contain."""

    model: onnx.ModelProto
    """`image` uint8 (N, H, W, 3) -> the parts."""
    parts: tuple[Part, ...]
    """What the embedding is put together from, in its order, finest first: each brought to the finest grid and then
    concatenated."""
    reduction: Reduction
    size: tuple[int, int]
    """(H, W) of the image in pixels."""
    precision: str = "fp32"
    """In which the backbone computes: `fp32`, `fp16` or `int8`."""

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) patches: the grid of the finest stage."""
        return self.parts[0].grid

    @property
    def dims(self) -> int:
        """D."""
        return sum(part.dims for part in self.parts)


def joined(graph: EmbeddingGraph) -> onnx.ModelProto:
    """The graph that gives one `embedding` `(N, D, h, w)`: nearest upsampling to the finest grid, concatenation."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    nodes = Nodes(model.graph, "join")
    lifted = []
    for part in graph.parts:
        tensor = part.name
        if part.grid != graph.grid:
            rows, columns = (grids.nearest(finest, cells) for finest, cells in zip(graph.grid, part.grid, strict=True))
            tensor = nodes.node("MatMul", [nodes.constant(f"{part.name}_rows", rows), tensor], f"{part.name}_tall")
            tensor = nodes.node(
                "MatMul", [tensor, nodes.constant(f"{part.name}_columns", columns.T)], f"{part.name}_lifted"
            )
        lifted.append(tensor)
    nodes.node("Concat", lifted, names.EMBEDDING, axis=1)
    del model.graph.output[:]
    shape: list[str | int | None] = ["N", graph.dims, *graph.grid]
    model.graph.output.append(helper.make_tensor_value_info(names.EMBEDDING, TensorProto.FLOAT, shape))
    return model


def records(parts: tuple[Part, ...]) -> tuple[PartRecord, ...]:
    """The parts as kept statistics name them."""
    return tuple(PartRecord(part.name, part.dims, part.grid, _codes_record(part.codes)) for part in parts)


def _codes_record(codes: Codes | None) -> CodesRecord | None:
    if codes is None:
        return None
    return CodesRecord(codes.name, tuple(codes.scale.tolist()), tuple(codes.zero_point.tolist()))


def of_kept(kept: Kept) -> EmbeddingGraph:
    """The graph that kept statistics came from.

    Raises:
        ArtifactError: Its bytes are no ONNX graph.
    """
    try:
        model = onnx.load_from_string(kept.graph)
    except Exception as error:  # protobuf's own exception; onnx has none
        raise ArtifactError(f"the statistics hold no readable embedding graph ({error}); fit again") from error
    parts = tuple(
        Part(
            each.name,
            each.dims,
            each.grid,
            None
            if each.codes is None
            else Codes(
                each.codes.name,
                np.array(each.codes.scale, np.float32),
                np.array(each.codes.zero_point, np.uint8),
            ),
        )
        for each in kept.recipe.parts
    )
    recipe = kept.recipe
    method = recipe.method
    return EmbeddingGraph(model, parts, recipe.reduction, method.preprocessing.input_size, method.precision.name)
