"""Weights of an int8 graph: collected from it, changed by other passes, and at last written as integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from padim_edge_export.quantise.activations import Activations
from padim_edge_export.quantise.rounding import Rounded
from padim_edge_model.graph_editing import GraphEditor, copied

__all__ = ["LARGEST_WEIGHT", "Draft", "Weights", "Written", "collect_weights", "write_weights"]

LARGEST_WEIGHT = {"cpu": 63, "tensorrt": 127}
"""Largest absolute value of a weight's code, by target. Processors without VNNI add two products in 16 bits, which 63
allows."""

_BIAS_LIMIT = 2.0**31 - 1

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Weights:
    """Weights and bias of one convolution whose input is rounded."""

    values: Array
    """`(O, I / groups, h, w)` weights."""
    steps: Array
    """`(O,)` step between two codes of each output channel; the codes are `rint(values / steps)`."""
    bias: npt.NDArray[np.float32] | None
    """`(O,)` bias; `None` without one."""


@dataclass(frozen=True, eq=False)
class Draft:
    """Graph with rounded activations, and the weights that will be written into it.

    The weights that the graph itself holds for these convolutions are out of date; only `write_weights` makes the graph
    complete.
    """

    model: onnx.ModelProto
    """The graph."""
    scales: Mapping[str, float]
    """Step between two codes of each rounded tensor, by the name that its readers read."""
    weights: Mapping[str, Weights]
    """Weights by the convolution's name."""
    scaled: frozenset[str] | None = None
    """Parts that come out in units of their codes; `None` before `scale_parts`."""


@dataclass(frozen=True, eq=False)
class Written:
    """Graph whose activations and weights are integers, and whose parts are not."""

    model: onnx.ModelProto
    """The graph."""
    scaled: frozenset[str] | None
    """Parts that come out in units of their codes; `None` without `scale_parts`."""


def collect_weights(activations: Activations, rounded: Mapping[str, Rounded], target: str) -> Draft:
    """Collect the weights of each convolution whose input is rounded.

    Args:
        activations: Graph with rounded activations.
        rounded: Weights that are integers already, by the convolution's name; the others get the nearest integers.
        target: `cpu` or `tensorrt`.
    """
    editor = GraphEditor(activations.model.graph)
    found = {}
    for conv in editor.nodes:
        values = editor.value(conv.input[1]) if conv.op_type == "Conv" else None
        if values is None or conv.input[0] not in activations.scales:
            continue
        bias = editor.value(conv.input[2]) if len(conv.input) > 2 else None
        if conv.name in rounded:
            given = rounded[conv.name]
            bias = (given.shift + (0 if bias is None else bias)).astype(np.float32)
            found[conv.name] = Weights(given.codes * given.scale[:, None, None, None], given.scale, bias)
        else:
            values = values.astype(np.float64)
            largest = np.maximum(np.abs(values).max(axis=(1, 2, 3)), 1e-12)
            found[conv.name] = Weights(values, largest / LARGEST_WEIGHT[target], bias)
    return Draft(activations.model, activations.scales, found)


def write_weights(draft: Draft, target: str) -> Written:
    """Write all weights as int8 codes; biases become int32 codes for `cpu` and stay float32 for `tensorrt`."""
    model = copied(draft.model)
    editor = GraphEditor(model.graph)
    convolutions = [node for node in editor.nodes if node.name in draft.weights]
    if target == "tensorrt":
        for conv in convolutions:
            bias = draft.weights[conv.name].bias
            own = editor.value(conv.input[2]) if len(conv.input) > 2 else None
            if bias is not None and (own is None or not np.array_equal(own, bias)):
                editor.set_inputs(conv, [*conv.input[:2], editor.constant(f"{conv.name}/shifted", bias)])
    for conv in convolutions:
        weights = draft.weights[conv.name]
        with editor.before(conv):
            codes = np.rint(weights.values / weights.steps[:, None, None, None]).astype(np.int8)
            inputs = [conv.input[0], _dequantised(editor, f"{conv.name}/weights", codes, weights.steps)]
            if target == "cpu" and weights.bias is not None:
                unit = weights.steps * draft.scales[conv.input[0]]
                bias_codes = np.rint(weights.bias / unit).clip(-_BIAS_LIMIT, _BIAS_LIMIT).astype(np.int32)
                inputs.append(_dequantised(editor, f"{conv.name}/bias", bias_codes, unit))
        editor.set_inputs(conv, inputs if target == "cpu" else [*inputs, *conv.input[2:]])
    return Written(model, draft.scaled)


def _dequantised(editor: GraphEditor, name: str, codes: npt.NDArray[np.integer], scale: Array) -> str:
    """Add codes and the DequantizeLinear that reads them; return the name of its output."""
    inputs = [
        editor.constant(f"{name}/codes", codes, codes.dtype),
        editor.constant(f"{name}/scale", scale, np.float32),
        editor.constant(f"{name}/zero", np.zeros(len(scale)), codes.dtype),
    ]
    return editor.node("DequantizeLinear", inputs, f"{name}/values", name=f"int8/{name}", axis=0)
