"""The distance stage of a memory: from the parts of the embedding to each patch's distance to the nearest prototype.

With z = (x - mean) whitening, d^2 = |z|^2 + min over m of (|c_m|^2 - 2 c_m' z). The norms of the prototypes are one
more row of their matrix, against a coordinate of z that is always 1. So the minimum follows the product at once.

Most patches of a good image are near one of few frequent prototypes. So all patches are compared with those first. Only
the patches that stay farthest are compared with all other prototypes, and of large images no more than TensorRT can
pick. The others keep the distance to the nearest frequent prototype, which is seldom larger. benchmarks/README.md has
the error and the gain.

Number types of each step:

=============  =====================  ======================  ======================
precision      z                      product with c          d^2
=============  =====================  ======================  ======================
fp32           float32                float32                 float32
fp16           float32                float32, c in float16   float32
int8 cpu       float32, then uint8    uint8 x int8 -> int32   int32, then float32
int8 tensorrt  float32                float32 x int8          float32
=============  =====================  ======================  ======================

Squares and sums never take float16, since they are differences of large numbers. In int8 for the CPU, z and the
prototypes have codes on one scale. The distance of the codes is computed without any rounding, so it is never below 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from padim_edge_artifact.method import Precision
from padim_edge_model.distance import LARGEST_WEIGHT
from padim_edge_model.graph import EmbeddingGraph, Part
from padim_edge_model.graph_editing import GraphEditor
from padim_edge_model.memory import Nearest
from padim_edge_model.tensorrt_rules import LARGEST_K

__all__ = ["Appended", "append_nearest", "most_extra"]

_BLOCKS = (256, 1024)
"""Number of prototypes that are compared at a time in each stage. Their distances to the patches of 224 x 224 pixels
stay in the caches, and those to the patches of large images in a bounded memory."""

_ZERO = 128
"""Code of the coordinate 0 in uint8."""
_TOP = 127
"""Value, in steps, of the coordinates that carry the norms' larger digits in int8: the largest code."""

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Appended:
    """Names of the stage's outputs."""

    distance: str
    """`(N, P)` distance of each patch to its prototype."""
    weight: str | None
    """`(N, 1, 1)` number that the anomaly map is multiplied by; `None` without re-weighting."""


@dataclass(frozen=True, eq=False)
class _Operands:
    """Constants of the product: d^2 = |z|^2 + min over the columns of [z, extra] @ (factor * scale)."""

    extra: tuple[float, ...]
    """Values of the coordinates behind those of z; each carries one digit of the prototypes' norms."""
    factor: npt.NDArray[np.float32] | npt.NDArray[np.float16] | npt.NDArray[np.int8]
    """`(D + e, M)`."""
    scale: float = 1.0
    """Number that int8 factors are multiplied by."""


def append_nearest(
    editor: GraphEditor,
    embedding: EmbeddingGraph,
    form: Nearest,
    inspected: npt.NDArray[np.float64] | None = None,
) -> Appended:
    """Append the distance stage.

    Args:
        editor: Editor of a graph that has the parts of the embedding.
        embedding: Embedding graph, whose parts are all on one grid.
        form: Constants of the distance.
        inspected: `(h, w)`, 1 for patches that count and 0 for others; `None` where all count.
    """
    parts = embedding.parts
    assert len({part.grid for part in parts}) == 1, "a memory has one grid"
    in_integers = embedding.precision == "int8" and embedding.target == "cpu"
    search = (_IntegerSearch if in_integers else _FloatSearch)(editor, parts, form, embedding.precision)
    squared = search.squared(search.rows, search.norm, 0)
    patches = int(np.prod(embedding.grid)) if inspected is None else int(inspected.sum())
    if form.frequent < len(form.prototypes):
        count = min(math.ceil(form.searched * patches), LARGEST_K)
        squared = _searched_further(editor, search, squared, inspected, count)
    distance = search.root(squared)
    if form.neighbours is None:
        return Appended(distance, None)
    assert isinstance(search, _FloatSearch), "Method refuses re-weighting in int8"
    if inspected is not None:
        squared = editor.node("Mul", [squared, _mask(editor, inspected)], "squared_of_inspected")
    return Appended(distance, _weight(editor, search, squared, form.neighbours))


def _weight(editor: GraphEditor, search: _FloatSearch, squared: str, neighbours: npt.NDArray[np.int64]) -> str:
    """Append the weight of each image `(N, 1, 1)`, from its farthest patch.

    With d_k the distances of that patch to the prototypes in the neighbourhood of the nearest one, itself included,
    weight = 1 - exp(d_0) / sum over k of exp(d_k) (PatchCore, eq. 7).
    """
    node, constant = editor.node, editor.constant
    node("ArgMax", [squared], "farthest_patch", axis=1, keepdims=1)  # (N, 1)
    place = node("Unsqueeze", ["farthest_patch", constant("last_axis", [2], np.int64)], "farthest_patch_place")
    row = node("GatherND", [search.rows, place], "farthest_patch_row", batch_dims=1)  # (N, 1, D + e)
    norm = node("GatherElements", [search.norm, "farthest_patch"], "farthest_patch_norm", axis=1)
    products = [node("MatMul", [row, block], f"{block}_once_more") for block in search.blocks]
    whole = products[0] if len(products) == 1 else node("Concat", products, "farthest_patch_products", axis=2)
    flat = node("Reshape", [whole, constant("prototype_row", [-1, len(neighbours)], np.int64)], "farthest_patch_flat")
    mate = node("ArgMin", [flat], "mate", axis=1, keepdims=0)  # (N,)
    mates = node("Gather", [constant("neighbours", neighbours, np.int64), mate], "mates", axis=0)
    around = node("Add", [node("GatherElements", [flat, mates], "around_less", axis=1), norm], "around_squared")
    around = node("Sqrt", [node("Relu", [around], "around_positive")], "around")
    axis = constant("neighbour_axis", [1], np.int64)
    beyond = node("Sub", [around, node("ReduceMin", [around, axis], "peak", keepdims=1)], "beyond")
    # onnxruntime's sums depend on the number of images in their last bit; running sums have one order.
    sums = node("CumSum", [node("Exp", [beyond], "odds"), constant("odds_axis", 1, np.int64)], "odds_sums")
    total = node("Gather", [sums, constant("last_sum", [neighbours.shape[1] - 1], np.int64)], "odds_sum", axis=1)
    weight = node("Sub", [constant("unit", 1.0), node("Reciprocal", [total], "odds_share")], "weight_row")
    return node("Unsqueeze", [weight, constant("last_axis", [2], np.int64)], "weight")


def _searched_further(
    editor: GraphEditor, search: _Search, squared: str, inspected: npt.NDArray[np.float64] | None, count: int
) -> str:
    """Append the comparison of the `count` farthest patches with all other prototypes; return the squared distances."""
    node = editor.node
    watched = squared
    if inspected is not None:
        watched = node("Mul", [squared, _mask(editor, inspected)], "squared_inspected")
    number = editor.constant("farthest_count", [count], np.int64)
    node("TopK", [watched, number], "farthest_squared", more=["farthest"], axis=1)
    places = node("Unsqueeze", ["farthest", editor.constant("last_axis", [2], np.int64)], "farthest_places")
    rows = node("GatherND", [search.rows, places], "farthest_rows", batch_dims=1)
    norm = node("GatherElements", [search.norm, "farthest"], "farthest_norm", axis=1)
    before = node("GatherElements", [squared, "farthest"], "farthest_before", axis=1)
    nearest = node("Min", [before, search.squared(rows, norm, 1)], "farthest_nearest")
    return node("ScatterElements", [squared, "farthest", nearest], "squared_of_patches", axis=1)


class _Search(Protocol):
    """Comparison of patches with prototypes in one number type."""

    rows: str
    """`(N, P, D + e)` coordinates of the patches."""
    norm: str
    """`(N, P)` squared lengths of the coordinates."""

    def squared(self, rows: str, norm: str, stage: int) -> str:
        """Append the least squared distance `(N, p)` to the prototypes of a stage: 0 the frequent ones, 1 the others.

        Args:
            rows: `(N, p, D + e)` coordinates.
            norm: `(N, p)` squared lengths.
            stage: Number of the stage.
        """

    def root(self, squared: str) -> str:
        """Append the distance of a squared one."""


class _FloatSearch:
    """Comparison in float32."""

    def __init__(self, editor: GraphEditor, parts: Sequence[Part], form: Nearest, precision: str) -> None:
        self.editor, self.precision = editor, precision
        operands = _operands(form, precision)
        self.scale = operands.scale
        self.rows = _coordinates(editor, parts, form, operands.extra)
        self.norm = _norm(editor, self.rows, operands.extra)
        # onnxruntime multiplies int8 matrices with activations rounded to int8, unless there is a third axis.
        factor = operands.factor[None] if precision == "int8" else operands.factor
        self.stages = np.split(factor, [form.frequent], axis=-1)
        self.blocks: list[str] = []
        """Constants of the prototypes that were compared, in float32."""

    def squared(self, rows: str, norm: str, stage: int) -> str:
        editor, blocks = self.editor, []
        for name in _blocks(editor, self.stages[stage], stage):
            self.blocks.append(self._floats(name))
            product = editor.node("MatMul", [rows, self.blocks[-1]], f"{name}_product")
            blocks.append(editor.node("ReduceMin", [product, _last_axis(editor)], f"{name}_nearest", keepdims=0))
        nearest = blocks[0] if len(blocks) == 1 else editor.node("Min", blocks, f"stage{stage}_nearest")
        return editor.node("Add", [norm, nearest], f"stage{stage}_squared")

    def _floats(self, name: str) -> str:
        """Append a constant of prototypes in float32."""
        if self.precision == "fp16":
            return self.editor.node("Cast", [name], f"{name}_float", to=TensorProto.FLOAT)
        if self.precision == "int8":
            scale = self.editor.constant("prototype_step", self.scale)
            zero = self.editor.constant("int8_zero", 0, np.int8)
            return self.editor.node("DequantizeLinear", [name, scale, zero], f"{name}_float")
        return name

    def root(self, squared: str) -> str:
        positive = self.editor.node("Relu", [squared], "squared_positive")
        return self.editor.node("Sqrt", [positive], "distance_of_patches")


class _IntegerSearch:
    """Comparison in integers: with codes q of z and p of c, d^2 = step^2 * |q - 2 p|^2.

    max over m of (q' p_m - |p_m|^2) finds the nearest prototype. The norms are digits against coordinates that are
    constant: several of 127 steps and two of 1 step. Squared distances are in steps.
    """

    def __init__(self, editor: GraphEditor, parts: Sequence[Part], form: Nearest, _: str) -> None:
        self.editor = editor
        largest = LARGEST_WEIGHT["MatMulInteger"]
        codes = _codes(form, largest, 2)
        norms = np.square(codes).sum(axis=1)
        extra = (_TOP,) * max(1, -(-int(norms.max()) // (_TOP * largest))) + (1, 1)
        factor = np.concatenate([codes.T, -_whole_digits(norms, extra, largest)]).astype(np.int8)
        self.stages = np.split(factor, [form.frequent], axis=1)
        z = _coordinates(editor, parts, form, tuple(form.step * each for each in extra))
        self.step, self.zero = editor.constant("step", form.step), editor.constant("zero", _ZERO, np.uint8)
        self.rows = editor.node("QuantizeLinear", [z, self.step, self.zero], "coordinate_codes")
        numbers = editor.node("Cast", [self.rows], "coordinate_numbers", to=TensorProto.FLOAT)
        steps = editor.node("Sub", [numbers, editor.constant("zero_float", _ZERO)], "coordinate_steps")
        self.norm = _norm(editor, steps, extra)

    def squared(self, rows: str, norm: str, stage: int) -> str:
        editor, blocks = self.editor, []
        for name in _blocks(editor, self.stages[stage], stage):
            product = editor.node("MatMulInteger", [rows, name, self.zero], f"{name}_product")
            blocks.append(editor.node("ReduceMax", [product, _last_axis(editor)], f"{name}_nearest", keepdims=0))
        nearest = blocks[0] if len(blocks) == 1 else editor.node("Max", blocks, f"stage{stage}_nearest")
        nearest = editor.node("Cast", [nearest], f"stage{stage}_float", to=TensorProto.FLOAT)
        nearest = editor.node("Mul", [nearest, editor.constant("four", 4.0)], f"stage{stage}_steps")
        return editor.node("Sub", [norm, nearest], f"stage{stage}_squared")

    def root(self, squared: str) -> str:
        positive = self.editor.node("Relu", [squared], "squared_positive")
        steps = self.editor.node("Sqrt", [positive], "distance_steps")
        return self.editor.node("Mul", [steps, self.step], "distance_of_patches")


def _norm(editor: GraphEditor, coordinates: str, extra: Sequence[float]) -> str:
    """Append |z|^2 `(N, P)`: the squares of all coordinates less those of the constant ones."""
    whole = editor.node("ReduceSumSquare", [coordinates, _last_axis(editor)], "coordinates_squared", keepdims=0)
    constant = float(np.square(np.array(extra, np.float32), dtype=np.float64).sum())
    return editor.node("Sub", [whole, editor.constant("extra_squared", constant)], "norm")


def most_extra(precision: Precision, dims: int) -> int:
    """Return the largest number of coordinates that carry the prototypes' norms, for D dimensions."""
    if precision.name != "int8" or precision.target != "cpu":
        return {"fp32": 1, "fp16": 2, "int8": 3}[precision.name]
    largest = LARGEST_WEIGHT["MatMulInteger"]
    return -(-dims * largest**2 // (_TOP * largest)) + 2


def _operands(form: Nearest, precision: str) -> _Operands:
    prototypes = form.prototypes
    if precision == "fp32":
        norms = np.square(prototypes, dtype=np.float64).sum(axis=1)
        return _Operands((1.0,), np.concatenate([-2 * prototypes.T, norms[None].astype(np.float32)]))
    if precision == "fp16":
        half = prototypes.astype(np.float16)
        norms = np.square(half, dtype=np.float64).sum(axis=1)
        units, digits = _digits(norms, 2047, 2)  # whole numbers that float16 holds exactly
        return _Operands(units, np.concatenate([-2 * half.T, digits.astype(np.float16)]))
    codes = _codes(form, LARGEST_WEIGHT["MatMul"], 1)
    scale = 2 * form.step
    norms = np.square(codes).sum(axis=1) * form.step**2
    units, digits = _digits(norms / scale, LARGEST_WEIGHT["MatMul"], 3)
    return _Operands(units, np.concatenate([-codes.T, digits]).astype(np.int8), scale)


def _digits(values: Float64, largest: int, count: int) -> tuple[tuple[float, ...], Float64]:
    """Write values of 0 or more as whole digits `(count, M)` of at most `largest`; return the units and the digits."""
    unit = float(values.max()) / largest or 1.0
    left, units, digits = values, [], []
    for _ in range(count):
        units.append(float(np.float32(unit)))
        digits.append(np.minimum(np.floor(left / units[-1]), largest))
        left = left - digits[-1] * units[-1]
        unit /= largest
    return tuple(units), np.stack(digits)


def _codes(form: Nearest, largest: int, times: int) -> npt.NDArray[np.int64]:
    """Return codes `(M, D)` of the prototypes: prototype = times * step * code, cut off at `largest`."""
    return np.asarray(np.rint(form.prototypes / (times * form.step)).clip(-largest, largest), np.int64)


def _whole_digits(values: npt.NDArray[np.int64], extra: Sequence[int], largest: int) -> npt.NDArray[np.int64]:
    """Write values as digits of at most `largest`, `(len(extra), M)`: values = extra @ digits."""
    left, digits = values.copy(), []
    for unit in extra:
        digits.append((left // unit).clip(-largest, largest))
        left = left - unit * digits[-1]
    assert not left.any(), "the norms have more digits"
    return np.stack(digits)


def _coordinates(editor: GraphEditor, parts: Sequence[Part], form: Nearest, extra: Sequence[float]) -> str:
    """Append `(N, P, D + e)`: the whitened coordinates of each patch, then e that are constant."""
    names = [part.name for part in parts]
    whole = names[0] if len(names) == 1 else editor.node("Concat", names, "embedding", axis=1)
    # The channels go last before the cells are one axis: onnxruntime then joins this with its own changes of layout.
    cells = editor.node("Transpose", [whole], "embedding_cells", perm=[0, 2, 3, 1])
    shape = [0, parts[0].grid[0] * parts[0].grid[1], sum(part.dims for part in parts)]
    rows = editor.node("Reshape", [cells, editor.constant("embedding_shape", shape, np.int64)], "embedding_rows")
    centred = editor.node("Sub", [rows, editor.constant("mean", form.mean)], "centred")
    dims = len(form.mean)
    whitening = np.zeros((dims, dims + len(extra)), np.float32)
    whitening[:, :dims] = form.whitening
    product = editor.node("MatMul", [centred, editor.constant("whitening", whitening)], "coordinates_alone")
    constant = np.concatenate([np.zeros(dims, np.float32), np.array(extra, np.float32)])
    return editor.node("Add", [product, editor.constant("extra", constant)], "coordinates")


def _blocks(editor: GraphEditor, factor: npt.NDArray[np.generic], stage: int) -> list[str]:
    """Keep the columns of a stage's factor as constants of at most `_BLOCKS[stage]` columns."""
    count = -(-factor.shape[-1] // _BLOCKS[stage])
    return [
        editor.beside(f"prototypes{stage}_{i}", np.ascontiguousarray(block))
        for i, block in enumerate(np.array_split(factor, count, axis=-1))
    ]


def _mask(editor: GraphEditor, inspected: npt.NDArray[np.float64]) -> str:
    """Add the constant `(1, P)` that is 0 for patches that do not count."""
    return editor.constant("inspected", inspected.reshape(1, -1))


def _last_axis(editor: GraphEditor) -> str:
    return editor.constant("last_axis", [2], np.int64)
