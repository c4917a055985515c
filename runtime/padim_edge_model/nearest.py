"""The distance stage of a memory: from the parts of the embedding to each patch's distance to the nearest prototype.

With z = (x - mean) whitening, d^2 = |z|^2 + min over m of (|c_m|^2 - 2 c_m' z). The norms of the prototypes are one
more row of their matrix, against a coordinate of z that is always 1. So the minimum follows the product at once.

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

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from padim_edge_model.distance import LARGEST_WEIGHT
from padim_edge_model.graph import Part
from padim_edge_model.graph_editing import GraphEditor
from padim_edge_model.memory import Nearest

__all__ = ["append_nearest"]

_BLOCK = 256
"""Number of prototypes that are compared at a time; their distances to the patches of 224 x 224 pixels stay in the
caches, and those of large images in a bounded memory."""

_ZERO = 128
"""Code of the coordinate 0 in uint8."""
_TOP = 127
"""Value, in steps, of the coordinates that carry the norms' larger digits in int8: the largest code."""

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Operands:
    """Constants of the product: d^2 = |z|^2 + min over the columns of [z, extra] @ (factor * scale)."""

    extra: tuple[float, ...]
    """Values of the coordinates behind those of z; each carries one digit of the prototypes' norms."""
    factor: npt.NDArray[np.float32] | npt.NDArray[np.float16] | npt.NDArray[np.int8]
    """`(D + e, M)`."""
    scale: float = 1.0
    """Number that int8 factors are multiplied by."""


def append_nearest(editor: GraphEditor, parts: Sequence[Part], form: Nearest, precision: str) -> str:
    """Append the distance stage and return the name of its output: `(N, P)`, P patches.

    Args:
        editor: Editor of the graph that has the parts.
        parts: Parts of the embedding in its order, all on one grid.
        form: Constants of the distance.
        precision: `fp32`, `fp16` or `int8`; int8 computes in integers where the parts have codes.
    """
    assert len({part.grid for part in parts}) == 1, "a memory has one grid"
    if precision == "int8" and all(part.codes is not None for part in parts):
        return _in_integers(editor, parts, form)
    operands = _operands(form, precision)
    z = _coordinates(editor, parts, form, operands.extra)
    blocks = []
    for i, name in enumerate(_blocks(editor, operands.factor)):
        constant = name
        if precision == "fp16":
            constant = editor.node("Cast", [name], f"prototypes{i}_float", to=TensorProto.FLOAT)
        elif precision == "int8":
            scale, zero = editor.constant("prototype_step", operands.scale), editor.constant("int8_zero", 0, np.int8)
            constant = editor.node("DequantizeLinear", [name, scale, zero], f"prototypes{i}_float")
        product = editor.node("MatMul", [z, constant], f"prototypes{i}_product")
        blocks.append(editor.node("ReduceMin", [product, _last_axis(editor)], f"prototypes{i}_nearest", keepdims=0))
    nearest = blocks[0] if len(blocks) == 1 else editor.node("Min", blocks, "nearest")
    squared = editor.node("Add", [_norm(editor, z, operands.extra), nearest], "distance_squared")
    return editor.node("Sqrt", [editor.node("Relu", [squared], "distance_positive")], "distance_of_patches")


def _norm(editor: GraphEditor, coordinates: str, extra: Sequence[float]) -> str:
    """Append |z|^2 `(N, P)`: the squares of all coordinates less those of the constant ones."""
    whole = editor.node("ReduceSumSquare", [coordinates, _last_axis(editor)], "coordinates_squared", keepdims=0)
    constant = float(np.square(np.array(extra, np.float32), dtype=np.float64).sum())
    return editor.node("Sub", [whole, editor.constant("extra_squared", constant)], "norm")


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


def _in_integers(editor: GraphEditor, parts: Sequence[Part], form: Nearest) -> str:
    """Append the distance in integers: with codes q of z and p of c, d^2 = step^2 * |q - 2 p|^2.

    max over m of (q' p_m - |p_m|^2) finds the nearest prototype. The norms are digits against coordinates that are
    constant: several of 127 steps and two of 1 step.
    """
    largest = LARGEST_WEIGHT["MatMulInteger"]
    codes = _codes(form, largest, 2)
    norms = np.square(codes).sum(axis=1)
    count = max(1, -(-int(norms.max()) // (_TOP * largest)))
    extra = (_TOP,) * count + (1, 1)
    factor = np.concatenate([codes.T, -_whole_digits(norms, extra, largest)]).astype(np.int8)

    z = _coordinates(editor, parts, form, tuple(form.step * each for each in extra))
    step, zero = editor.constant("step", form.step), editor.constant("zero", _ZERO, np.uint8)
    coded = editor.node("QuantizeLinear", [z, step, zero], "coordinate_codes")
    steps = editor.node("Cast", [coded], "coordinate_numbers", to=TensorProto.FLOAT)
    steps = editor.node("Sub", [steps, editor.constant("zero_float", _ZERO)], "coordinate_steps")
    norm = _norm(editor, steps, extra)
    blocks = []
    for i, name in enumerate(_blocks(editor, factor)):
        product = editor.node("MatMulInteger", [coded, name, zero], f"prototypes{i}_product")
        blocks.append(editor.node("ReduceMax", [product, _last_axis(editor)], f"prototypes{i}_nearest", keepdims=0))
    nearest = blocks[0] if len(blocks) == 1 else editor.node("Max", blocks, "nearest")
    nearest = editor.node("Cast", [nearest], "nearest_float", to=TensorProto.FLOAT)
    nearest = editor.node("Mul", [nearest, editor.constant("four", 4.0)], "nearest_steps")
    squared = editor.node("Sub", [norm, nearest], "distance_squared")
    root = editor.node("Sqrt", [editor.node("Relu", [squared], "distance_positive")], "distance_steps")
    return editor.node("Mul", [root, step], "distance_of_patches")


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
    cells = parts[0].grid[0] * parts[0].grid[1]
    shape = editor.constant("embedding_shape", [0, sum(part.dims for part in parts), cells], np.int64)
    columns = editor.node("Reshape", [whole, shape], "embedding_columns")
    rows = editor.node("Transpose", [columns], "embedding_rows", perm=[0, 2, 1])
    centred = editor.node("Sub", [rows, editor.constant("mean", form.mean)], "centred")
    dims = len(form.mean)
    whitening = np.zeros((dims, dims + len(extra)), np.float32)
    whitening[:, :dims] = form.whitening
    product = editor.node("MatMul", [centred, editor.constant("whitening", whitening)], "coordinates_alone")
    constant = np.concatenate([np.zeros(dims, np.float32), np.array(extra, np.float32)])
    return editor.node("Add", [product, editor.constant("extra", constant)], "coordinates")


def _blocks(editor: GraphEditor, factor: npt.NDArray[np.generic]) -> list[str]:
    """Keep the columns of the factor as constants of at most `_BLOCK` columns."""
    count = -(-factor.shape[1] // _BLOCK)
    return [
        editor.beside(f"prototypes{i}", np.ascontiguousarray(block))
        for i, block in enumerate(np.array_split(factor, count, axis=1))
    ]


def _last_axis(editor: GraphEditor) -> str:
    return editor.constant("last_axis", [2], np.int64)
