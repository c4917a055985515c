"""The distance stage of the fused graph: from the parts of the embedding to each patch's Mahalanobis distance.

Number types of each step:

=============  =====================  =======================  ======================
precision      centring               product with the factor  squares and their sum
=============  =====================  =======================  ======================
fp32           float32                float32                  float32
fp16           float32                float16                  float32
int8 cpu       float32, as a bias     uint8 x int8 -> int32    float32
int8 tensorrt  float32                float32 x int8           float32
=============  =====================  =======================  ======================

Squares are never taken in float16. Its largest number is 65504, so the square of a distance of 256 would overflow.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from padim_edge_model.graph import Part
from padim_edge_model.graph_editing import Array, GraphEditor
from padim_edge_model.whitening import Exact, Form, Level, LowRank, cells_of, column_blocks

__all__ = ["LARGEST_WEIGHT", "append_distance", "quantise_columns"]

LARGEST_WEIGHT = {"MatMulInteger": 63, "MatMul": 127}
"""Largest absolute value of an int8 factor, by the operator that multiplies it.

Processors with AVX2 but without VNNI first add two products of uint8 and int8 in 16 bits. 2 x 255 x 63 fits there;
2 x 255 x 127 would saturate, and the device would see other distances than the fit. `MatMul` reads the factors as
float32, where nothing saturates."""

Float32 = npt.NDArray[np.float32]


def append_distance(editor: GraphEditor, parts: Sequence[Part], form: Form, precision: str) -> str:
    """Append the distance stage and return the name of its output: `(P, N)`, P patches of the finest grid.

    Args:
        editor: Editor of the graph that has the parts.
        parts: Parts of the embedding, finest first.
        form: Constants of the distance.
        precision: `fp32`, `fp16` or `int8`; int8 computes in integers where the parts have codes.
    """
    stage = _Stage(editor, parts, precision)
    if isinstance(form, Exact):
        return stage.exact(form)
    if isinstance(form, LowRank):
        return stage.low_rank(form)
    centred = stage.centred(parts, parts[0].grid, form.mean, "")
    away = editor.node("Mul", [centred, editor.constant("scale", form.scale[:, None, :])], "whitened")
    return editor.node("ReduceL2", [away, stage.last_axis()], "distance", keepdims=0)


def quantise_columns(factor: Float32, unit: Float32, largest: int) -> tuple[npt.NDArray[np.int8], Float32]:
    """Return int8 codes `(P, k, d)` of at most `largest`, and the scale of each column `(P, d)`.

    codes * scale = factor * unit

    All rows of a column share its scale, so they must be about equally large. A dimension that varies a hundred times
    as much as others has a row a hundred times as small; its unit makes up for that.

    Args:
        factor: `(P, k, d)` factors.
        unit: `(k,)` number that each row is multiplied by.
        largest: Largest absolute value of a code.
    """
    codes = np.empty(factor.shape, np.int8)
    scale = np.empty((factor.shape[0], factor.shape[2]), np.float32)
    for start in range(0, len(factor), 256):
        part = slice(start, start + 256)
        rows = factor[part] * unit[:, None]
        scale[part] = np.maximum(np.abs(rows).max(axis=1), 1e-30) / largest
        codes[part] = np.rint(rows / scale[part, None, :])
    return codes, scale


class _Stage:
    """Nodes that all forms need."""

    def __init__(self, editor: GraphEditor, parts: Sequence[Part], precision: str) -> None:
        self.editor = editor
        self.parts = parts
        self.precision = precision
        self.integers = all(part.codes is not None for part in parts)

    def exact(self, form: Exact) -> str:
        """Append the exact form level by level, coarsest first; each level hands its sums down to finer cells."""
        editor = self.editor
        vectors = total = ""
        above: Level | None = None
        for i, level in enumerate(form.levels):
            name = f"level{i}_"
            down = "" if above is None else self._cells(above.grid, level.grid)
            own = (
                self._codes(level.parts, level.grid, name)
                if self.integers
                else self._ready(self.centred(level.parts, level.grid, level.mean, name), level.deviation, name)
            )
            if above is not None:
                shared = editor.node("Gather", [vectors, down], f"{name}shared", axis=0)
                own = editor.node("Concat", [shared, own], f"{name}vectors", axis=2)
            vectors = own
            away = self._product(vectors, form.levels[: i + 1], level.factor, name, triangular=above is None)
            squared = self._squared(away, f"{name}squared")
            if above is not None:
                handed = editor.node("Gather", [total, down], f"{name}total_above", axis=0)
                squared = editor.node("Add", [handed, squared], f"{name}total")
            total, above = squared, level
        return editor.node("Sqrt", [total], "distance")

    def low_rank(self, form: LowRank) -> str:
        """Append sqrt(tail |c|^2 - |c' factor|^2); the difference is below 0 by rounding only."""
        editor, grid = self.editor, self.parts[0].grid
        centred = self.centred(self.parts, grid, form.mean, "")
        whole = editor.node("ReduceSumSquare", [centred, self.last_axis()], "centred_squared", keepdims=0)
        whole = editor.node("Mul", [whole, editor.constant("tail", form.tail[:, None])], "tail_squared")
        vectors = self._codes(self.parts, grid, "") if self.integers else self._ready(centred, form.deviation, "")
        level = Level(tuple(self.parts), grid, form.mean, form.factor, form.deviation)
        kept = self._squared(self._product(vectors, [level], form.factor, "", triangular=False), "kept_squared")
        rest = editor.node("Sub", [whole, kept], "distance_squared")
        rest = editor.node("Relu", [rest], "distance_squared_positive")
        return editor.node("Sqrt", [rest], "distance")

    def centred(self, parts: Sequence[Part], grid: tuple[int, int], mean: Float32, name: str) -> str:
        """Append the centred vectors, `(P, N, d)` float32."""
        vectors = self._rows(parts, [part.name for part in parts], grid, f"{name}embedding")
        return self.editor.node(
            "Sub", [vectors, self.editor.constant(f"{name}mean", mean[:, None, :])], f"{name}centred"
        )

    def last_axis(self) -> str:
        """Add the constant that names the last of three axes."""
        return self.editor.constant("last_axis", [2], np.int64)

    def _codes(self, parts: Sequence[Part], grid: tuple[int, int], name: str) -> str:
        """Append the codes of the vectors, `(P, N, d)` uint8."""
        tensors = [part.codes.name for part in parts if part.codes is not None]
        return self._rows(parts, tensors, grid, f"{name}codes")

    def _rows(self, parts: Sequence[Part], tensors: Sequence[str], grid: tuple[int, int], name: str) -> str:
        """Append the parts `(N, d, h, w)` as `(P, N, d)`; each cell gives its vector to all patches of `grid` in it."""
        editor, rows = self.editor, []
        for part, tensor in zip(parts, tensors, strict=True):
            shape = editor.constant(f"{part.name}_shape", [0, part.dims, part.grid[0] * part.grid[1]], np.int64)
            flat = editor.node("Reshape", [tensor, shape], f"{tensor}_flat")
            by_cell = editor.node("Transpose", [flat], f"{tensor}_rows", perm=[2, 0, 1])
            if part.grid != grid:
                by_cell = editor.node("Gather", [by_cell, self._cells(part.grid, grid)], f"{tensor}_patches", axis=0)
            rows.append(by_cell)
        return rows[0] if len(rows) == 1 else editor.node("Concat", rows, f"{name}_rows", axis=2)

    def _cells(self, coarse: tuple[int, int], fine: tuple[int, int]) -> str:
        """Add the constant `cells_of(coarse, fine)`."""
        name = f"cells_{coarse[0]}x{coarse[1]}_in_{fine[0]}x{fine[1]}"
        return self.editor.constant(name, cells_of(coarse, fine), np.int64)

    def _ready(self, centred: str, deviation: Float32, name: str) -> str:
        """Append the centred vectors in the number type of the product.

        Vectors are centred in float32 first, so that float16 holds one small difference instead of two large numbers.
        For int8 factors they are divided by the deviations; see `quantise_columns`.
        """
        if self.precision == "fp16":
            return self.editor.node("Cast", [centred], f"{name}centred_half", to=TensorProto.FLOAT16)
        if self.precision == "int8":
            return self.editor.node("Mul", [centred, self.editor.constant(f"{name}unit", 1 / deviation)], f"{name}even")
        return centred

    def _squared(self, blocks: Sequence[str], output: str) -> str:
        """Append the sum of the squares of all columns of all blocks `(P, N, b)`, as `(P, N)`.

        Each block is squared by itself, because concatenating them first would cost a copy.
        """
        names = [output] if len(blocks) == 1 else [f"{output}{i}" for i in range(len(blocks))]
        for block, name in zip(blocks, names, strict=True):
            self.editor.node("ReduceSumSquare", [block, self.last_axis()], name, keepdims=0)
        return output if len(blocks) == 1 else self.editor.node("Sum", names, output)

    def _product(
        self, vectors: str, levels: Sequence[Level], factor: Float32, name: str, *, triangular: bool
    ) -> list[str]:
        """Append `c' factor` as blocks of columns `(P, N, b)` float32, from centred vectors or from their codes."""
        editor = self.editor
        if self.integers:
            return [self._integer_product(vectors, levels, factor, name, triangular=triangular)]
        if self.precision == "fp16":
            blocks = self._in_blocks(vectors, factor.astype(np.float16), name, "MatMul", triangular=triangular)
            return [editor.node("Cast", [each], f"{each}_float", to=TensorProto.FLOAT) for each in blocks]
        if self.precision == "fp32":
            return self._in_blocks(vectors, factor, name, "MatMul", triangular=triangular)
        unit = np.concatenate([level.deviation for level in levels])
        rounded, scale = quantise_columns(factor, unit, LARGEST_WEIGHT["MatMul"])
        away = self._whole(self._in_blocks(vectors, rounded, name, "MatMul", triangular=triangular), name)
        return [editor.node("Mul", [away, editor.constant(f"{name}scale", scale[:, None, :])], f"{name}whitened")]

    def _integer_product(
        self, codes: str, levels: Sequence[Level], factor: Float32, name: str, *, triangular: bool
    ) -> str:
        """Append the product for codes q: c' factor = s * (q' F - m' F).

        F is the factor in int8, each row multiplied by the scale of its dimension, with one scale s per column. m is
        the mean in units of the codes, not rounded. Both products use the rounded F, so the mean's distance stays 0.
        """
        editor = self.editor
        how = [part.codes for level in levels for part in level.parts if part.codes is not None]
        unit = np.concatenate([each.scale for each in how])
        zero = np.concatenate([each.zero_point for each in how])
        rounded, scale = quantise_columns(factor, unit, LARGEST_WEIGHT["MatMulInteger"])
        grid = levels[-1].grid
        mean = np.concatenate([level.mean[cells_of(level.grid, grid)] for level in levels], axis=1) / unit + zero
        bias = np.empty_like(scale)
        for start in range(0, len(bias), 256):
            part = slice(start, start + 256)
            bias[part] = np.einsum("pk,pkd->pd", mean[part], rounded[part].astype(np.float32), optimize=True)
        whole = self._whole(self._in_blocks(codes, rounded, name, "MatMulInteger", triangular=triangular), name)
        away = editor.node("Cast", [whole], f"{name}integers", to=TensorProto.FLOAT)
        away = editor.node("Sub", [away, editor.constant(f"{name}bias", bias[:, None, :])], f"{name}away")
        return editor.node("Mul", [away, editor.constant(f"{name}scale", scale[:, None, :])], f"{name}whitened")

    def _whole(self, blocks: Sequence[str], name: str) -> str:
        return blocks[0] if len(blocks) == 1 else self.editor.node("Concat", blocks, f"{name}product", axis=2)

    def _in_blocks(self, vectors: str, factor: Array, name: str, kind: str, *, triangular: bool) -> list[str]:
        """Append `vectors @ factor` block by block; a triangular factor without most of its zero half.

        The image's vectors stand on the left, because onnxruntime multiplies batches faster that way on a CPU.
        """
        editor, dims = self.editor, factor.shape[1]
        parts = []
        for i, (start, stop) in enumerate(column_blocks(dims) if triangular else [(0, factor.shape[2])]):
            rows, used = vectors, stop if triangular else dims
            if used < dims:
                bounds = [editor.constant("first", [0], np.int64), editor.constant(f"{name}to{i}", [used], np.int64)]
                rows = editor.node("Slice", [vectors, *bounds, self.last_axis()], f"{name}rows{i}")
            block = editor.beside(f"{name}factor{i}", np.ascontiguousarray(factor[:, :used, start:stop]))
            if kind == "MatMul" and factor.dtype == np.int8:
                # One scale for all: TensorRT takes no scale per column of a batched matrix. Those follow as a product.
                one, zero = editor.constant("one", 1.0), editor.constant("int8_zero", 0, np.int8)
                block = editor.node("DequantizeLinear", [block, one, zero], f"{name}factor{i}_floats")
            parts.append(editor.node(kind, [rows, block], f"{name}product{i}"))
        return parts
