"""An embedding graph in float16, typed: a provider computes it so or refuses it.

TensorRT 11 has no flag for it any more.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from padim_edge_artifact import PadimEdgeError
from padim_edge_model.graph import EmbeddingGraph

__all__ = ["halve"]

_LARGEST = float(np.finfo(np.float16).max)


def halve(graph: EmbeddingGraph) -> EmbeddingGraph:
    """The backbone in float16; pixels are normalised before it in float32, and the parts come out in float32.

    The normalisation must not be folded into the first convolution: divided by 58, a third of its weights would be
    denormal in float16.

    Raises:
        PadimEdgeError: A weight is too large for float16.
    """
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    nodes = list(model.graph.node)
    first = next(i for i, node in enumerate(nodes) if node.op_type == "Conv")
    pixels = nodes[first].input[0]
    # Everything before the first convolution is about pixels; the graph is sorted, so the rest is the backbone.
    backbone = nodes[first:]
    constants = {each.name: each for each in model.graph.initializer}
    for name in {name for node in backbone for name in node.input} & constants.keys():
        if constants[name].data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(constants[name])
        if np.abs(values).max(initial=0) > _LARGEST:
            raise PadimEdgeError(
                f"the backbone's weights go up to {np.abs(values).max():.3g}, expected at most {_LARGEST:g} for "
                "float16; export with --precision fp32 or int8"
            )
        constants[name].CopyFrom(numpy_helper.from_array(values.astype(np.float16), name))
    outputs = {part.name for part in graph.parts}
    for node in backbone:
        for i, name in enumerate(node.input):
            if name == pixels:
                node.input[i] = f"{pixels}_half"
            elif name in outputs:
                node.input[i] = f"{name}_half"
        for i, name in enumerate(node.output):
            if name in outputs:
                node.output[i] = f"{name}_half"
    enter = helper.make_node("Cast", [pixels], [f"{pixels}_half"], name="half/enter", to=TensorProto.FLOAT16)
    model.graph.node.insert(first, enter)
    for name in sorted(outputs):
        leave = helper.make_node("Cast", [f"{name}_half"], [name], name=f"half/leave_{name}", to=TensorProto.FLOAT)
        model.graph.node.append(leave)
    return dataclasses.replace(graph, model=model, precision="fp16")
