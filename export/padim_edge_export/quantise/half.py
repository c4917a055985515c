"""An embedding graph in float16.

Every tensor of the backbone has the type float16, so an execution provider computes in it or refuses the model.
TensorRT 11 has no flag for float16 any more.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from onnx import TensorProto

from padim_edge_artifact import PadimEdgeError
from padim_edge_model.graph import EmbeddingGraph
from padim_edge_model.graph_editing import GraphEditor, copied

__all__ = ["halve"]

_LARGEST = float(np.finfo(np.float16).max)
"""Largest number of float16, 65504."""


def halve(graph: EmbeddingGraph) -> EmbeddingGraph:
    """Return the graph with its backbone in float16; pixels are normalised in float32, and the parts are float32.

    The normalisation must not be folded into the first convolution: divided by 58, a third of its weights would be
    denormal in float16.

    Raises:
        PadimEdgeError: A weight is too large for float16.
    """
    model = copied(graph.model)
    editor = GraphEditor(model.graph, "half")
    first = next(i for i, node in enumerate(editor.nodes) if node.op_type == "Conv")
    # Everything before the first convolution is about pixels. The graph is sorted, so the rest is the backbone.
    backbone = editor.nodes[first:]
    pixels = backbone[0].input[0]
    for name in {name for node in backbone for name in node.input} & editor.constants.keys():
        if editor.constants[name].data_type != TensorProto.FLOAT:
            continue
        values = editor.value(name)
        assert values is not None
        if np.abs(values).max(initial=0) > _LARGEST:
            raise PadimEdgeError(
                f"the backbone's weights go up to {np.abs(values).max():.3g}, expected at most {_LARGEST:g} for "
                "float16; export with --precision fp32 or int8"
            )
        editor.change_constant(name, values.astype(np.float16))
    for node in backbone:
        editor.set_inputs(node, [f"{pixels}_half" if name == pixels else name for name in node.input])
    with editor.before(backbone[0]):
        editor.node("Cast", [pixels], f"{pixels}_half", name="half/enter", to=TensorProto.FLOAT16)
    for name in sorted(part.name for part in graph.outputs):
        maker = editor.maker(name)
        assert maker is not None
        editor.redirect(name, f"{name}_half")
        editor.set_output(maker, f"{name}_half")
        editor.node("Cast", [f"{name}_half"], name, name=f"half/leave_{name}", to=TensorProto.FLOAT)
    return dataclasses.replace(graph, model=model, precision="fp16")
