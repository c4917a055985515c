"""Exact rewrites of an exported graph: the same function of the pixels with less work.

Each rewrite takes a model and changes it in place. Rewrites know operators, not backbones, so every backbone gains.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto

from padim_edge_model import grids
from padim_edge_model.graph_editing import GraphEditor, attribute, set_attribute, value_types

__all__ = ["feature_maps", "fold_scale", "narrow_last_stage", "pool_by_windows"]

_CHANNELS = 16
"""Number of channels that the pools of onnxruntime's CPU provider take together; products are faster for others."""

_LARGEST_WINDOW = 15
"""Largest side of a window that is looked for."""

_EQUAL = 1e-6
"""Largest difference between the weights of two means that are the same but for rounding."""

_UNARY = frozenset(("Relu", "Sigmoid", "HardSigmoid", "HardSwish", "LeakyRelu", "Clip", "Identity"))
"""Operators that treat each channel by itself; all inputs but the first are scalars."""


def fold_scale(model: onnx.ModelProto) -> int:
    """Fold `Mul(x, scale by channel) -> Conv` into the convolution's weights; return how many were folded.

    This is exact, because convolutions pad with zeros. The subtraction before the scale cannot be folded, because the
    padding comes after it.
    """
    editor = GraphEditor(model.graph)
    folded = 0
    for node in editor.nodes:
        scaled = editor.maker(node.input[0]) if node.op_type == "Conv" else None
        if scaled is None or scaled.op_type != "Mul" or editor.uses(scaled.output[0]) != 1:
            continue
        scale, weights = editor.value(scaled.input[1]), editor.value(node.input[1])
        if scale is None or weights is None or attribute(node, "group", 1) != 1:
            continue
        if scale.shape[-3:] != (weights.shape[1], 1, 1):
            continue
        editor.replace_constant(node, 1, weights * scale.reshape(1, -1, 1, 1))
        editor.set_input(node, 0, scaled.input[0])
        editor.remove(scaled)
        folded += 1
    editor.drop_unused()
    return folded


def narrow_last_stage(model: onnx.ModelProto) -> int:
    """Compute only those channels of the last stage that a Gather keeps; return how many convolutions were cut.

    The choice of channels moves up through operators that treat each channel by itself, into the convolution that makes
    the channels. It stops where somebody else needs the other channels. A Gather that cuts nothing stays in place.
    """
    editor = GraphEditor(model.graph)
    cut = 0
    for gather in editor.nodes:
        if gather.op_type != "Gather" or attribute(gather, "axis", 0) != 1:
            continue
        whole, kept_name = gather.input[:2]
        kept = editor.value(kept_name)
        if kept is None or kept.ndim != 1 or not (count := sum(1 for _ in _convolutions(editor, whole))):
            continue
        _narrow(editor, whole, kept_name, kept.astype(np.int64))
        maker = editor.maker(whole)
        assert maker is not None
        editor.remove(gather)
        editor.set_output(maker, gather.output[0])
        cut += count
    editor.drop_unused()
    return cut


def pool_by_windows(model: onnx.ModelProto, only: Collection[str] | None = None) -> int:
    """Write means over windows as AveragePool instead of products with matrices; return how many were written.

    The work then grows with the image as that of convolutions does, and not with its side to the third power. The mean
    over a window of odd side comes first, at the border over the cells that exist. The mean over blocks may follow.

    Args:
        model: Model that is changed in place.
        only: Names of the tensors whose products may be written so; `None` for all.
    """
    editor, types = GraphEditor(model.graph), value_types(model)
    written = 0
    for columns in editor.nodes:
        rows = editor.maker(columns.input[0]) if columns.op_type == "MatMul" else None
        if rows is None or rows.op_type != "MatMul" or editor.uses(rows.output[0]) != 1:
            continue
        if only is not None and columns.output[0] not in only:
            continue
        source, left, right = rows.input[1], editor.value(rows.input[0]), editor.value(columns.input[1])
        shape = [each.dim_value for each in types[source].shape.dim] if source in types else []
        if left is None or right is None or len(shape) != 4 or shape[1] % _CHANNELS:
            continue
        down, across = _window_and_block(left), _window_and_block(right.T)
        if down is None or across is None or down[0] != across[0]:
            continue
        with editor.before(columns):
            _append_mean(editor, source, columns.output[0], down[0], (down[1], across[1]))
        editor.remove(rows)
        editor.remove(columns)
        written += 1
    editor.drop_unused()
    return written


def _append_mean(editor: GraphEditor, source: str, output: str, side: int, blocks: tuple[int, int]) -> None:
    """Append the mean over windows of `side` cells, then that over blocks of cells."""
    pooled = f"{output}/window" if blocks != (1, 1) else output
    editor.node(
        "AveragePool",
        [source],
        pooled,
        name=f"pool/{pooled}",
        kernel_shape=[side, side],
        pads=[side // 2] * 4,
        count_include_pad=0,
    )
    if blocks != (1, 1):
        editor.node("AveragePool", [pooled], output, name=f"pool/{output}", kernel_shape=blocks, strides=blocks)


def _window_and_block(matrix: npt.NDArray[np.float32]) -> tuple[int, int] | None:
    """Return the sides of the window and of the block whose means a matrix computes; `None` for other matrices."""
    outputs, inputs = matrix.shape
    if outputs > inputs or inputs % outputs:
        return None
    blocks = grids.mean_of(outputs, inputs)
    for side in range(3, min(_LARGEST_WINDOW, 2 * inputs) + 1, 2):
        if np.allclose(matrix, blocks @ grids.mean_pool(inputs, side), rtol=0, atol=_EQUAL):
            return side, inputs // outputs
    return None


def feature_maps(model: onnx.ModelProto) -> set[str]:
    """Return the names of all computed tensors `(N, C, h, w)` in float32."""
    inputs = {each.name for each in model.graph.input}
    return {
        name
        for name, kind in value_types(model).items()
        if kind.elem_type == TensorProto.FLOAT and len(kind.shape.dim) == 4 and name not in inputs
    }


def _convolutions(editor: GraphEditor, name: str) -> Iterator[NodeProto]:
    """Yield the convolutions that could be cut if only some channels of `name` were needed."""
    node = editor.maker(name)
    if node is None or editor.uses(name) != 1:
        return
    if node.op_type == "Conv":
        weights, groups = editor.value(node.input[1]), attribute(node, "group", 1)
        if weights is not None and groups == 1:
            yield node
        elif weights is not None and weights.shape[:2] == (groups, 1):  # depthwise
            yield node
            yield from _convolutions(editor, node.input[0])
    elif node.op_type in _UNARY:
        yield from _convolutions(editor, node.input[0])
    elif node.op_type == "Add" and not any(each in editor.constants for each in node.input):
        yield from _convolutions(editor, node.input[0])
        yield from _convolutions(editor, node.input[1])


def _narrow(editor: GraphEditor, name: str, kept_name: str, kept: npt.NDArray[np.int64]) -> None:
    """Make the producer of `name`, which nobody else uses, give the kept channels only."""
    node = editor.maker(name)
    assert node is not None
    if node.op_type == "Conv":
        for position in range(1, len(node.input)):
            value = editor.value(node.input[position])
            assert value is not None
            editor.replace_constant(node, position, value[kept])
        if attribute(node, "group", 1) == 1:
            return
        set_attribute(node, "group", len(kept))  # depthwise: it reads the kept channels only
    for position in (0, 1) if node.op_type == "Add" else (0,):
        whole = node.input[position]
        if any(True for _ in _convolutions(editor, whole)):
            _narrow(editor, whole, kept_name, kept)
            continue
        picked = f"{whole}/{kept_name}"  # by both names, since another choice may be made of the same tensor
        if editor.maker(picked) is None:
            with editor.behind(editor.maker(whole)):  # as early as possible, since several nodes may read it
                editor.node("Gather", [whole, kept_name], picked, name=f"keep/{picked}", axis=1)
        editor.set_input(node, position, picked)
