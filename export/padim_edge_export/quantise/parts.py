"""Passes of the int8 graph for onnxruntime's CPU provider that turn the parts of the embedding into codes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import NodeProto

from padim_edge_export.quantise.ranges import Range
from padim_edge_export.quantise.weights import Draft, Written
from padim_edge_model.graph import Codes, Part
from padim_edge_model.graph_editing import GraphEditor, copied

__all__ = ["code_parts", "codes_of", "scale_parts"]

_MARGIN = 1.25
"""Reach of the embedding's codes, relative to the good images' range; anomalies go further than those."""

_LEAST = 0.02
"""Smallest range of a dimension, as a share of the widest dimension's, for dimensions that are quiet on good images."""

_MIDDLE = 128
"""Zero point of a part's convolution while its dimensions have different zero points."""

_ONE_SCALE = ("Add", "Sigmoid", "LeakyRelu")
"""Operators that onnxruntime fuses with the rounding behind them, and then refuses for more than one scale."""


def codes_of(part: Part, seen: Range) -> Codes:
    """Choose scale and zero point of each dimension of a part from its range on good images."""
    low, high = np.minimum(seen.low, 0) * _MARGIN, np.maximum(seen.high, 0) * _MARGIN
    least = _LEAST * float((high - low).max()) or 1.0
    scale = (np.maximum(high - low, least) / 255).astype(np.float32)
    return Codes(f"{part.name}_codes", scale, np.rint(-low / scale).clip(0, 255).astype(np.uint8))


def scale_parts(draft: Draft, parts: Mapping[str, Codes]) -> Draft:
    """Let parts come out in units of their codes, with one zero point, where their maker allows it.

    onnxruntime computes a rounding together with the convolution before it, and takes only one scale and one zero point
    there. So the scales of the dimensions go into the weights' own scales, and the differences of the zero points go
    into the bias. With a ReLU between, all zero points must be 0. Results of `_ONE_SCALE` are multiplied and shifted.

    Args:
        draft: Graph with its weights not yet written.
        parts: Codes of each part, by the part's name.
    """
    assert draft.scaled is None, "the parts are in units of their codes already"
    model = copied(draft.model)
    editor = GraphEditor(model.graph)
    weights, done = dict(draft.weights), set()
    for name, codes in parts.items():
        maker = editor.maker(name)
        if maker is None or len(codes.scale) == 1:
            continue
        if maker.op_type in _ONE_SCALE:
            _append_units(editor, name, maker, codes)
            done.add(name)
            continue
        if maker.op_type == "Relu" and len(editor.readers(maker.input[0])) == 1:
            maker = editor.maker(maker.input[0])
        if maker is None or maker.name not in weights:
            continue
        if maker.output[0] != name and codes.zero_point.any():
            continue
        own, scale = weights[maker.name], codes.scale
        bias = np.zeros(len(scale)) if own.bias is None else own.bias.astype(np.float64)
        weights[maker.name] = dataclasses.replace(
            own,
            values=own.values / scale[:, None, None, None],
            steps=own.steps / scale,
            bias=(bias / scale + (codes.zero_point.astype(np.float64) - _middle(codes))).astype(np.float32),
        )
        done.add(name)
    return dataclasses.replace(draft, model=model, weights=weights, scaled=frozenset(done))


def code_parts(written: Written, parts: Mapping[str, Codes]) -> onnx.ModelProto:
    """Return the graph with each part rounded to its codes and dequantised from them.

    part = (codes - zero_point) * scale

    Args:
        written: Graph whose parts were scaled by `scale_parts` and whose weights are written.
        parts: Codes of each part, by the part's name.
    """
    assert written.scaled is not None, "onnxruntime refuses parts that were not scaled"
    model = copied(written.model)
    editor = GraphEditor(model.graph)
    for name, codes in parts.items():
        before, maker = f"{name}_unrounded", editor.maker(name)
        assert maker is not None
        editor.redirect(name, before)
        editor.set_output(maker, before)
        # onnxruntime takes a vector of one scale for a scalar, and then refuses the addition that it fused with it.
        alone = len(codes.scale) == 1
        how = [
            editor.constant(f"{codes.name}/scale", codes.scale[0] if alone else codes.scale, np.float32),
            editor.constant(f"{codes.name}/zero", codes.zero_point[0] if alone else codes.zero_point, np.uint8),
        ]
        first = how
        if name in written.scaled:
            first = [
                editor.constant(f"{codes.name}/one", 1),
                editor.constant(f"{codes.name}/middle", _middle(codes), np.uint8),
            ]
        editor.node("QuantizeLinear", [before, *first], codes.name, name=f"int8/Quantize_{codes.name}", axis=1)
        editor.node("DequantizeLinear", [codes.name, *how], name, name=f"int8/Dequantize_{codes.name}", axis=1)
    return model


def _middle(codes: Codes) -> int:
    return _MIDDLE if codes.zero_point.any() else 0


def _append_units(editor: GraphEditor, part: str, maker: NodeProto, codes: Codes) -> None:
    """Bring what `maker` makes into units of the part's codes by a product and a sum."""
    shift = codes.zero_point.astype(np.float32) - _middle(codes)
    whole, scaled = f"{part}_unscaled", f"{part}_scaled"
    editor.set_output(maker, whole)
    for kind, source, output, values in (("Mul", whole, scaled, 1 / codes.scale), ("Add", scaled, part, shift)):
        constant = editor.constant(f"{output}/{kind}", values.reshape(-1, 1, 1))
        editor.node(kind, [source, constant], output, name=f"int8/{kind}_{part}")
