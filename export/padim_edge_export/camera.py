"""The resize of a camera's raw frames, baked into the graph, so that any language can feed pixels as they come.

It is Pillow's, pass by pass: a product with a constant matrix along the rows, rounded and clipped to whole grey levels,
then the same along the columns. So a model that resizes by itself sees exactly what the host would have shown it: sums
of Pillow's weights, which take 31 bits, are split into two that float32 holds without rounding.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from padim_edge_artifact import Preprocessing, names
from padim_edge_model import grids
from padim_edge_model.graph import EmbeddingGraph
from padim_edge_model.nodes import Nodes, drop_unused

__all__ = ["baked"]

_BLOCK = 32
"""Rows of a resize matrix that are multiplied together. They are zero but for a band, which is what is multiplied."""

_LOW = 11
"""Bits of the weights' lower halves: of up to 64 of them times 255, the sum stays below 2**24. Upper halves of weights
up to 1 have as few, so that TensorFloat-32, which keeps 11, multiplies both exactly."""


def baked(graph: EmbeddingGraph, preprocessing: Preprocessing) -> EmbeddingGraph:
    """The graph behind the resize and the crop; itself where the host does them.

    Args:
        graph: In any precision; its input is `(N, *preprocessing.size, 3)`.
        preprocessing: `camera` is the size that the new input has.
    """
    if preprocessing.camera is None:
        return graph
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    behind = list(model.graph.node)
    del model.graph.node[:]
    nodes = Nodes(model.graph, "camera")
    # uint8 goes into a Cast and nowhere else, for TensorRT's sake.
    pixels = nodes.node("Cast", [names.IMAGE], "camera_pixels", to=TensorProto.FLOAT)
    pixels = nodes.node("Transpose", [pixels], "camera_planes", perm=[0, 3, 1, 2])
    for axis, name in ((1, "columns"), (0, "rows")):  # in Pillow's order
        resized, given = preprocessing.resize[axis], preprocessing.camera[axis]
        start, kept = preprocessing.offset[axis], preprocessing.size[axis]
        if resized != given:
            weights = grids.antialiased(resized, given, preprocessing.interpolation)[start : start + kept]
            high = np.round(weights / 2**_LOW)
            low = weights - high * 2**_LOW
            sums = (
                _resized(nodes, pixels, high, axis, f"{name}_high"),
                _resized(nodes, pixels, low, axis, f"{name}_low"),
            )
            pixels = _grey_levels(nodes, sums[0], sums[1], name)
        elif kept != given:
            pixels = _cut(nodes, pixels, start, start + kept, axis, name)
    pixels = nodes.node("Transpose", [pixels], "camera_frame", perm=[0, 2, 3, 1])
    _feed(nodes, behind, pixels)
    model.graph.node.extend(behind)
    drop_unused(model.graph)
    for dim, side in zip(model.graph.input[0].type.tensor_type.shape.dim[1:3], preprocessing.camera, strict=True):
        dim.dim_value = side
    return dataclasses.replace(graph, model=model, size=preprocessing.camera)


def _feed(nodes: Nodes, behind: list[onnx.NodeProto], pixels: str) -> None:
    """Give the float pixels to all that read the image: as they are to a Cast to float, which then is not needed."""
    whole = None
    instead: dict[str, str] = {}
    for node in [each for each in behind if names.IMAGE in each.input]:
        to = next((each.i for each in node.attribute if each.name == "to"), None)
        if node.op_type == "Cast" and to == TensorProto.FLOAT:
            behind.remove(node)
            instead[node.output[0]] = pixels
        elif whole is None:
            whole = nodes.node("Cast", [pixels], "camera_whole", to=TensorProto.UINT8)
    for node in behind:
        for i, name in enumerate(node.input):
            if name == names.IMAGE and whole is not None:
                node.input[i] = whole
            elif name in instead:
                node.input[i] = instead[name]


def _resized(nodes: Nodes, planes: str, matrix: npt.NDArray[np.float64], axis: int, name: str) -> str:
    """`(N, 3, H, W)` with one axis multiplied by the matrix, in blocks of its rows."""
    edges = [*range(0, len(matrix), _BLOCK), len(matrix)]
    blocks = []
    for number, (first, last) in enumerate(itertools.pairwise(edges)):
        used = np.flatnonzero(np.any(matrix[first:last] != 0, axis=0))
        start, end = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
        part = _cut(nodes, planes, start, end, axis, f"{name}{number}")
        band = matrix[first:last, start:end]
        factor = nodes.constant(f"{name}{number}", band if axis == 0 else band.T)
        inputs = [factor, part] if axis == 0 else [part, factor]
        blocks.append(nodes.node("MatMul", inputs, f"camera_{name}{number}"))
    return blocks[0] if len(blocks) == 1 else nodes.node("Concat", blocks, f"camera_{name}", axis=axis + 2)


def _cut(nodes: Nodes, planes: str, start: int, end: int, axis: int, name: str) -> str:
    """Rows or columns of `(N, 3, H, W)`."""
    bounds = [nodes.constant(f"at{value}", [value], np.int64) for value in (start, end, axis + 2)]
    return nodes.node("Slice", [planes, *bounds], f"camera_cut_{name}")


def _grey_levels(nodes: Nodes, high: str, low: str, name: str) -> str:
    """`(high * 2**_LOW + low) / 2**FIXED_POINT`, rounded with halves up and clipped to 0 to 255, exactly."""

    def node(kind: str, inputs: list[str], what: str) -> str:
        return nodes.node(kind, inputs, f"camera_{name}_{what}")

    down = nodes.constant("down", 2.0**-_LOW)
    half = nodes.constant("half", 2.0 ** (grids.FIXED_POINT - 1 - _LOW))
    carried = node("Floor", [node("Add", [node("Mul", [low, down], "scaled"), half], "raised")], "carried")
    rest = nodes.constant("rest", 2.0 ** (_LOW - grids.FIXED_POINT))
    whole = node("Floor", [node("Mul", [node("Add", [high, carried], "sum"), rest], "level")], "whole")
    return node("Clip", [whole, nodes.constant("least", 0.0), nodes.constant("most", 255.0)], "levels")
