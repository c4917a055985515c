"""First pass of the int8 graph: round every activation that convolutions, pools and additions read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from padim_edge_export.quantise.ranges import Range, rounded_activations
from padim_edge_model.graph import EmbeddingGraph
from padim_edge_model.graph_editing import GraphEditor, copied

__all__ = ["Activations", "round_activations"]


@dataclass(frozen=True, eq=False)
class Activations:
    """Graph whose activations are rounded and whose weights are still in float32."""

    model: onnx.ModelProto
    """The graph."""
    scales: Mapping[str, float]
    """Step between two codes of each rounded tensor, by the name that its readers read."""


def round_activations(graph: EmbeddingGraph, ranges: Mapping[str, Range], target: str) -> Activations:
    """Put QuantizeLinear and DequantizeLinear behind each activation, and let its readers read the result.

    Args:
        graph: Graph in float32.
        ranges: Range of each tensor that `probe` names, on good images.
        target: `cpu` for uint8 codes with a zero point, or `tensorrt` for symmetric int8 codes. TensorRT's first
            convolution stays in float32, because symmetric codes would round pixels to steps of more than one grey
            level.
    """
    model = copied(graph.model)
    editor = GraphEditor(model.graph)
    scales: dict[str, float] = {}
    wanted = dict.fromkeys(rounded_activations(graph))
    if target == "tensorrt":
        wanted.pop(next(node.input[0] for node in editor.nodes if node.op_type == "Conv"), None)
    for name in wanted:
        scale, zero = _step(ranges[name], target)
        how = [
            editor.constant(f"{name}/scale", scale, np.float32),
            editor.constant(f"{name}/zero", zero, zero.dtype),
        ]
        codes, result = f"{name}_codes", f"{name}_rounded"
        editor.redirect(name, result)
        with editor.behind(editor.maker(name)):
            editor.node("QuantizeLinear", [name, *how], codes, name=f"int8/Quantize_{name}")
            editor.node("DequantizeLinear", [codes, *how], result, name=f"int8/Dequantize_{name}")
        scales[result] = float(np.float32(scale))
    return Activations(model, scales)


def _step(seen: Range, target: str) -> tuple[float, np.generic]:
    """Return the step between two codes, and the code that stands for 0."""
    low, high = min(float(seen.low.min()), 0.0), max(float(seen.high.max()), 0.0)
    if target == "tensorrt":
        return max(high, -low, 1e-12) / 127, np.int8(0)
    scale = max(high - low, 1e-12) / 255
    return scale, np.uint8(round(-low / scale))
