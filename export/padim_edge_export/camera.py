"""The resize of a camera's raw frames, built into the graph, so that any language can feed pixels as they come.

It computes Pillow's resize pass by pass: a product with a constant matrix along the rows, rounded and clipped to whole
grey levels, then the same along the columns. So the model sees exactly what the host would have shown it. Pillow's
weights take 31 bits; each is split into two numbers that float32 holds without rounding. Where blocks of pixels are
averaged first, their sums are exact as well.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, TensorProto

from padim_edge_artifact import Preprocessing
from padim_edge_model import grids
from padim_edge_model.graph import EmbeddingGraph
from padim_edge_model.graph_editing import GraphEditor, attribute, copied

__all__ = ["baked"]

_BLOCK = 32
"""Rows of a resize matrix that are multiplied together; only the band of columns that are not zero takes part."""

_LOW = 11
"""Bits of the weights' lower halves. The sum of up to 64 of them times 255 stays below 2**24, where float32 is exact.

Upper halves of weights up to 1 have as few bits, so TensorFloat-32, which keeps 11, multiplies both exactly."""


def baked(graph: EmbeddingGraph, preprocessing: Preprocessing) -> EmbeddingGraph:
    """Put the resize and the crop before the graph; return the graph itself if the host does them.

    Args:
        graph: Graph in any precision, whose input is `(N, *preprocessing.size, 3)`.
        preprocessing: Way of an image into the model's frame; `camera` is the size of the new input.
    """
    if preprocessing.camera is None:
        return graph
    model = copied(graph.model)
    editor = GraphEditor(model.graph, "camera")
    image = model.graph.input[0].name
    readers = editor.readers(image)
    with editor.behind(None):
        _feed(editor, readers, _resized(editor, preprocessing, image), image)
    editor.drop_unused()
    for dim, side in zip(model.graph.input[0].type.tensor_type.shape.dim[1:3], preprocessing.camera, strict=True):
        dim.dim_value = side
    return dataclasses.replace(graph, model=model, size=preprocessing.camera)


def _feed(editor: GraphEditor, readers: list[NodeProto], pixels: str, image: str) -> None:
    """Give the float pixels to all nodes that read the image; a Cast to float is left out, others read uint8 again."""
    casts = [each for each in readers if each.op_type == "Cast" and attribute(each, "to", 0) == TensorProto.FLOAT]
    if len(casts) < len(readers):
        whole = editor.node("Cast", [pixels], "camera_whole", to=TensorProto.UINT8)
        for reader in readers:
            editor.set_inputs(reader, [whole if name == image else name for name in reader.input])
    for cast in casts:
        editor.redirect(cast.output[0], pixels)


def _resized(editor: GraphEditor, preprocessing: Preprocessing, image: str) -> str:
    """Append resize and crop: the input `(N, *camera, 3)` uint8 to `(N, *size, 3)` float32 in whole grey levels."""
    assert preprocessing.camera is not None
    # The image goes into a Cast and nowhere else, because TensorRT takes uint8 nowhere else.
    pixels = editor.node("Cast", [image], "camera_pixels", to=TensorProto.FLOAT)
    bins = preprocessing.on_host.bins(*preprocessing.camera)
    if bins != (1, 1):
        pixels = _binned(editor, pixels, preprocessing.camera, bins)
    pixels = editor.node("Transpose", [pixels], "camera_planes", perm=[0, 3, 1, 2])
    for axis, name in ((1, "columns"), (0, "rows")):  # in Pillow's order
        extent = preprocessing.camera[axis] / bins[axis]
        resized, given = preprocessing.resize[axis], math.ceil(extent)
        start, kept = preprocessing.offset[axis], preprocessing.size[axis]
        if resized != given:
            weights = grids.antialiased(resized, given, preprocessing.kernel, extent)[start : start + kept]
            high = np.round(weights / 2**_LOW)
            low = weights - high * 2**_LOW
            sums = [
                _multiplied(editor, pixels, matrix, axis, f"{name}_{half}")
                for half, matrix in (("high", high), ("low", low))
            ]
            pixels = _grey_levels(editor, sums[0], sums[1], name)
        elif kept != given:
            pixels = _cut(editor, pixels, (start, start + kept), axis, name)
    return editor.node("Transpose", [pixels], "camera_frame", perm=[0, 2, 3, 1])


def _binned(editor: GraphEditor, pixels: str, size: tuple[int, int], bins: tuple[int, int]) -> str:
    """Append the means of blocks of `(N, *size, 3)`, in whole grey levels, halves up; border blocks may be cut."""

    def node(kind: str, inputs: list[str], what: str) -> str:
        return editor.node(kind, inputs, f"camera_bins_{what}")

    def shaped(given: str, shape: list[int], what: str) -> str:
        # 0 keeps the batch's own dimension; where it gets lost, onnxruntime fuses fewer nodes behind it.
        return node("Reshape", [given, editor.constant(f"bins_{what}_shape", [0, *shape], np.int64)], what)

    rows, columns = blocks = [-(-side // block) for side, block in zip(size, bins, strict=True)]
    missing = [cells * block - side for cells, block, side in zip(blocks, bins, size, strict=True)]
    if any(missing):  # zeros add nothing to a sum
        ends = editor.constant("bins_ends", [0] * 5 + missing + [0], np.int64)
        pixels = node("Pad", [pixels, ends], "filled")
    strips = shaped(pixels, [rows, bins[0], columns * bins[1] * 3], "rows")
    strips = node("ReduceSum", [strips, editor.constant("bins_axis", [2], np.int64)], "strips")
    # A product with ones adds the columns: onnxruntime takes 20 times as long for a sum over an inner axis.
    across = editor.constant("bins_across", np.tile(np.eye(3), (bins[1], 1)))
    sums = node("MatMul", [shaped(strips, [rows, columns, bins[1] * 3], "columns"), across], "sums")
    sides = [
        editor.constant(f"bins_{axis}", np.array([block] * (cells - 1) + [block - lacking]).reshape(shape))
        for axis, block, cells, lacking, shape in zip("yx", bins, blocks, missing, ((-1, 1, 1), (-1, 1)), strict=True)
    ]
    area = node("Mul", sides, "area")
    # Half a pixel more keeps every quotient clear of a whole number, so that rounding cannot carry it across one.
    half = editor.constant("half_pixel", 0.5)
    rest = node("Add", [node("Floor", [node("Mul", [area, half], "halves")], "rest"), half], "more")
    return node("Floor", [node("Div", [node("Add", [sums, rest], "raised"), area], "means")], "levels")


def _multiplied(editor: GraphEditor, planes: str, matrix: npt.NDArray[np.float64], axis: int, name: str) -> str:
    """Append the product of one axis of `(N, 3, H, W)` with the matrix, in blocks of the matrix's rows."""
    edges = [*range(0, len(matrix), _BLOCK), len(matrix)]
    blocks = []
    for number, (first, last) in enumerate(itertools.pairwise(edges)):
        used = np.flatnonzero(np.any(matrix[first:last] != 0, axis=0))
        start, end = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
        part = _cut(editor, planes, (start, end), axis, f"{name}{number}")
        band = matrix[first:last, start:end]
        factor = editor.constant(f"{name}{number}", band if axis == 0 else band.T)
        inputs = [factor, part] if axis == 0 else [part, factor]
        blocks.append(editor.node("MatMul", inputs, f"camera_{name}{number}"))
    return blocks[0] if len(blocks) == 1 else editor.node("Concat", blocks, f"camera_{name}", axis=axis + 2)


def _cut(editor: GraphEditor, planes: str, span: tuple[int, int], axis: int, name: str) -> str:
    """Append a choice of rows or columns of `(N, 3, H, W)`: from the first of `span` to before the second."""
    bounds = [editor.constant(f"at{value}", [value], np.int64) for value in (*span, axis + 2)]
    return editor.node("Slice", [planes, *bounds], f"camera_cut_{name}")


def _grey_levels(editor: GraphEditor, high: str, low: str, name: str) -> str:
    """Append `(high * 2**_LOW + low) / 2**FIXED_POINT`, rounded with halves up and clipped to 0 to 255, exactly."""

    def node(kind: str, inputs: list[str], what: str) -> str:
        return editor.node(kind, inputs, f"camera_{name}_{what}")

    down = editor.constant("down", 2.0**-_LOW)
    half = editor.constant("half", 2.0 ** (grids.FIXED_POINT - 1 - _LOW))
    carried = node("Floor", [node("Add", [node("Mul", [low, down], "scaled"), half], "raised")], "carried")
    rest = editor.constant("rest", 2.0 ** (_LOW - grids.FIXED_POINT))
    whole = node("Floor", [node("Mul", [node("Add", [high, carried], "sum"), rest], "level")], "whole")
    return node("Clip", [whole, editor.constant("least", 0.0), editor.constant("most", 255.0)], "levels")
