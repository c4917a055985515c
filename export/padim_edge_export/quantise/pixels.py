"""Pass of the int8 graph for onnxruntime's CPU provider: the first convolution reads the image's own bytes."""

from __future__ import annotations

import dataclasses

import numpy as np
from onnx import NodeProto

from padim_edge_export.quantise.weights import Draft, Weights
from padim_edge_model.graph_editing import GraphEditor, attribute, copied, keep_attributes, set_attribute

__all__ = ["read_pixels"]


def read_pixels(draft: Draft, size: tuple[int, int]) -> Draft:
    """Turn `image -> Cast -> Transpose -> Sub -> rounding` into `image -> Transpose`, read as codes of scale 1.

    Pixels are uint8 already. One zero point serves the three channels, and the difference to their means goes into the
    bias of the first convolution. Only the padding beyond the image's edge is another grey than in float32.

    Networks that do more to their pixels, or read them otherwise than by convolutions, are returned as they are: their
    pixels are rounded like every other activation.

    Args:
        draft: Graph with its weights not yet written.
        size: (H, W) of the image in pixels.
    """
    model = copied(draft.model)
    editor = GraphEditor(model.graph)
    chain = _chain(editor)
    if [node.op_type for node in chain] != ["DequantizeLinear", "QuantizeLinear", "Sub", "Transpose", "Cast"]:
        return draft
    dequantise, quantise, subtract, transpose, cast = chain
    pixels = dequantise.output[0]
    readers = editor.readers(pixels)
    offsets = editor.value(subtract.input[1])
    if offsets is None or not all(conv.name in draft.weights and attribute(conv, "group", 1) == 1 for conv in readers):
        return draft
    mean = offsets.reshape(-1).astype(np.float64)
    zero = round(float(mean.mean()))
    editor.set_input(transpose, 0, cast.input[0])
    editor.set_output(transpose, "pixels")
    scale = editor.constant("pixels/scale", 1)
    editor.set_inputs(dequantise, ["pixels", scale, editor.constant("pixels/zero", zero, np.uint8)])
    for node in (quantise, subtract, cast):
        editor.remove(node)
    weights = dict(draft.weights)
    for conv in readers:
        own = weights[conv.name]
        shift = (own.values.sum(axis=(2, 3)) * (zero - mean)).sum(axis=1)
        bias = np.zeros(len(own.values), np.float32) if own.bias is None else own.bias
        weights[conv.name] = dataclasses.replace(own, bias=(bias + shift).astype(np.float32))
    if len(readers) == 1:
        name = readers[0].name
        weights[name] = _in_blocks(editor, readers[0], transpose, weights[name], size)
    return dataclasses.replace(draft, model=model, scales={**draft.scales, pixels: 1.0}, weights=weights)


def _chain(editor: GraphEditor) -> list[NodeProto]:
    """Return the first DequantizeLinear and all nodes before it, following the first input of each."""
    chain = [node for node in editor.nodes if node.op_type == "DequantizeLinear"][:1]
    while chain and chain[-1].input and (maker := editor.maker(chain[-1].input[0])) is not None:
        chain.append(maker)
    return chain


def _in_blocks(
    editor: GraphEditor, conv: NodeProto, transpose: NodeProto, weights: Weights, size: tuple[int, int]
) -> Weights:
    """Let a first convolution of stride 2 read blocks of 2 x 2 pixels as 12 channels, at stride 1; this is exact.

    onnxruntime's integer convolutions copy the channels of each tap by themselves. For ResNet's 7 x 7 kernel that is 49
    times 3 bytes, and in blocks 16 times 12, which is faster. The kernel grows by a row and a column of zeros where its
    size or padding is odd. Other convolutions are left as they are.

    Args:
        editor: Editor of the graph.
        conv: The convolution.
        transpose: Node that brings the pixels into the convolution's order.
        weights: Weights of the convolution.
        size: (H, W) of the image in pixels.

    Returns:
        Weights of the convolution as it is then.
    """
    count, channels, *taps = weights.values.shape
    pads = attribute(conv, "pads", (0, 0, 0, 0))
    plain = attribute(conv, "dilations", (1, 1)) == (1, 1) and channels == 3
    if attribute(conv, "strides", (1, 1)) != (2, 2) or not plain or any(side % 2 for side in size):
        return weights
    odd = [near % 2 for near in pads[:2]]
    blocks = [-(-(extra + many) // 2) for extra, many in zip(odd, taps, strict=True)]
    near = [(pad + extra) // 2 for pad, extra in zip(pads[:2], odd, strict=True)]
    outputs = [(side + pads[i] + pads[i + 2] - taps[i]) // 2 + 1 for i, side in enumerate(size)]
    far = [outputs[i] - 1 + blocks[i] - near[i] - side // 2 for i, side in enumerate(size)]
    if min(far) < 0:  # the last pixels are not read at all
        return weights
    grown = np.zeros((count, 3, 2 * blocks[0], 2 * blocks[1]))
    grown[:, :, odd[0] : odd[0] + taps[0], odd[1] : odd[1] + taps[1]] = weights.values
    packed = grown.reshape(count, 3, blocks[0], 2, blocks[1], 2).transpose(0, 3, 5, 1, 2, 4)
    keep_attributes(conv, ("group",))
    for name, value in (("pads", [*near, *far]), ("kernel_shape", blocks), ("strides", [1, 1])):
        set_attribute(conv, name, value)
    _pair_rows(editor, transpose, size)
    return dataclasses.replace(weights, values=packed.reshape(count, 12, *blocks))


def _pair_rows(editor: GraphEditor, transpose: NodeProto, size: tuple[int, int]) -> None:
    """Put the nodes in front that turn `(N, H, W, 3)` pixels into `(N, H / 2, W / 2, 12)` blocks."""

    def bound(value: int) -> str:
        return editor.constant(f"pixels/{value}", [value], np.int64)

    pairs = editor.constant("pixels/pairs", [0, size[0], size[1] // 2, 6], np.int64)
    end, step, first, second = bound(size[0]), bound(2), bound(0), bound(1)
    with editor.behind(None):
        editor.node("Reshape", [transpose.input[0], pairs], "pixel_pairs", name="int8/pairs")
        for i, start in enumerate((first, second)):
            inputs = ["pixel_pairs", start, end, second, step]
            editor.node("Slice", inputs, f"pixel_rows{i}", name=f"int8/rows{i}")
        rows = ["pixel_rows0", "pixel_rows1"]
        editor.node("Concat", rows, "pixel_blocks", name="int8/pixel_blocks", axis=3)
    editor.set_input(transpose, 0, "pixel_blocks")
