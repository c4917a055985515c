"""An embedding graph in int8, from the ranges of its activations.

QuantizeLinear and DequantizeLinear stand around the convolutions, pools and additions of the backbone. The ranges are
fixed; activations have one scale, weights one scale per channel. The two targets cannot share a file:

* `cpu`, which onnxruntime runs in integers: uint8 activations with a zero point, int32 biases, pixels taken as they
  are, and weights of at most 63, since processors without VNNI add two products in 16 bits.
* `tensorrt`, which takes symmetric int8 only, and biases in float32. Its first convolution stays in float32.

Before this, `equalise` evens out the channels and `rounding` chooses the weights' integers; both cost nothing when the
model runs. The Gaussians are fitted on the output of this graph, so they know its rounding.

Each pass takes the value that an earlier pass gives, so a wrong order is impossible or refused:

    round_activations -> Activations -> collect_weights -> Draft -> write_weights -> Written -> code_parts -> model

`read_pixels` and `scale_parts` turn one draft into another, in either order; `code_parts` needs the latter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from padim_edge_export.quantise.activations import round_activations
from padim_edge_export.quantise.parts import code_parts, codes_of, scale_parts
from padim_edge_export.quantise.pixels import read_pixels
from padim_edge_export.quantise.ranges import Range, probe
from padim_edge_export.quantise.rounding import Rounded
from padim_edge_export.quantise.weights import LARGEST_WEIGHT, collect_weights, write_weights
from padim_edge_model.graph import EmbeddingGraph
from padim_edge_model.graph_editing import GraphEditor

__all__ = ["LARGEST_WEIGHT", "Range", "probe", "quantise"]


def quantise(
    graph: EmbeddingGraph,
    ranges: Mapping[str, Range],
    target: str,
    rounded: Mapping[str, Rounded] | None = None,
    *,
    coded: bool = True,
) -> EmbeddingGraph:
    """Return the graph in int8.

    Args:
        graph: Graph in float32, the scale of its pixels folded into the first convolution.
        ranges: Range of each tensor that `probe` names, on good images.
        target: `cpu` or `tensorrt`.
        rounded: Weights in integers of at most `LARGEST_WEIGHT`, by the convolution's name. Weights of the other
            convolutions are rounded to the nearest integers.
        coded: Whether a graph for the CPU rounds its parts to codes, which the distance of Gaussians multiplies with. A
            memory whitens the parts in float32, where rounding them first would cost time and exactness.
    """
    draft = collect_weights(round_activations(graph, ranges, target), rounded or {}, target)
    parts = graph.parts
    if target == "cpu" and not coded:
        model = write_weights(read_pixels(draft, graph.size), target).model
    elif target == "cpu":
        codes = {part.name: codes_of(part, ranges[part.name]) for part in parts}
        draft = scale_parts(read_pixels(draft, graph.size), codes)
        model = code_parts(write_weights(draft, target), codes)
        parts = tuple(dataclasses.replace(part, codes=codes[part.name]) for part in parts)
    else:
        model = write_weights(draft, target).model
    GraphEditor(model.graph).drop_unused()
    return dataclasses.replace(graph, model=model, parts=parts, precision="int8", target=target)
