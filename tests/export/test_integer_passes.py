"""The passes of the int8 graph: each gives a new value, and none depends on what was called before unseen."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from padim_edge_artifact import names
from padim_edge_artifact.metadata import Reduction
from padim_edge_export.quantise.activations import Activations, round_activations
from padim_edge_export.quantise.parts import code_parts, codes_of, scale_parts
from padim_edge_export.quantise.pixels import read_pixels
from padim_edge_export.quantise.ranges import Range, probe, rounded_activations
from padim_edge_export.quantise.rounding import Rounded
from padim_edge_export.quantise.weights import LARGEST_WEIGHT, Draft, collect_weights, write_weights
from padim_edge_model.graph import Codes, EmbeddingGraph, Part
from padim_edge_model.graph_editing import GraphEditor
from padim_edge_runtime.devices.providers import open_session

SIZE = (16, 16)
FRAMES = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3), dtype=np.uint8)

EIGHT_BITS = 0.05
"""Mean error of a part relative to its spread."""

CONVOLUTIONS = "c = Conv<strides=[2,2], pads=[1,1,1,1]>(y, w1, b1) r = Relu(c) part0 = Conv(r, w2)"
POOL = "p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(y) q = Conv(p, w1, b1) part0 = Relu(q)"
DEPTHWISE = "d = Conv<group=3>(y, w3) r = Relu(d) part0 = Conv(r, w1, b1)"


def network(middle: str = CONVOLUTIONS) -> EmbeddingGraph:
    """`image` -> the exporter's first nodes -> `middle` -> `part0` of five dimensions."""
    text = f"""<ir_version: 8, opset_import: ["": 18]> embedding
        (uint8[N,{SIZE[0]},{SIZE[1]},3] {names.IMAGE}) => (float[N,k,h,w] part0) {{
            f = Cast<to=1>({names.IMAGE}) x = Transpose<perm=[0,3,1,2]>(f) y = Sub(x, mean) {middle}
        }}"""
    model = onnx.parser.parse_model(text)
    draw = np.random.default_rng(1).standard_normal
    values = {
        "mean": np.array([123.7, 116.3, 103.5]).reshape(3, 1, 1),
        "w1": draw((5, 3, 3, 3)) / 58,
        "b1": draw(5),
        "w2": draw((5, 5, 1, 1)),
        "w3": draw((3, 1, 3, 3)) / 58,
    }
    model.graph.initializer.extend(numpy_helper.from_array(v.astype(np.float32), name) for name, v in values.items())
    for node in model.graph.node:
        node.name = f"make_{node.output[0]}"
    return EmbeddingGraph(model, (Part("part0", 5, (8, 8)),), Reduction(None, None), SIZE)


def run(model: onnx.ModelProto) -> np.ndarray:
    return open_session(model.SerializeToString(), "cpu").session.run(None, {names.IMAGE: FRAMES})[0]


def ranges_of(graph: EmbeddingGraph) -> dict[str, Range]:
    model, outputs = probe(graph)
    found = open_session(model.SerializeToString(), "cpu").session.run(None, {names.IMAGE: FRAMES})
    ends = dict(zip([output.name for output in model.graph.output], found, strict=True))
    return {name: Range(*(ends[each].astype(np.float64) for each in pair)) for name, pair in outputs.items()}


def drafted(graph: EmbeddingGraph) -> tuple[Draft, dict[str, Codes]]:
    ranges = ranges_of(graph)
    draft = collect_weights(round_activations(graph, ranges, "cpu"), {}, "cpu")
    return draft, {part.name: codes_of(part, ranges[part.name]) for part in graph.parts}


def near(found: np.ndarray, expected: np.ndarray) -> bool:
    return bool(np.abs(found - expected).mean() < EIGHT_BITS * expected.std())


def bytes_of(model: onnx.ModelProto) -> bytes:
    return model.SerializeToString(deterministic=True)


PASSES: dict[str, Callable[[Draft, dict[str, Codes]], Draft]] = {
    "pixels": lambda draft, _: read_pixels(draft, SIZE),
    "parts": scale_parts,
}


@pytest.mark.parametrize("chosen", [["parts"], ["pixels", "parts"], ["parts", "pixels"]], ids="-".join)
def test_pixels_may_be_read_before_or_after_the_parts_are_scaled_or_not_at_all(chosen: list[str]) -> None:
    """It makes the graph faster, not different, but for what eight bits lose."""
    graph = network()
    draft, codes = drafted(graph)
    for name in chosen:
        draft = PASSES[name](draft, codes)
    model = code_parts(write_weights(draft, "cpu"), codes)
    GraphEditor(model.graph).drop_unused()
    onnx.checker.check_model(model, full_check=True)
    assert near(run(model), run(graph.model))


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_leaves_what_it_was_given_as_it_was(name: str) -> None:
    draft, codes = drafted(network())
    before = bytes_of(draft.model), dict(draft.scales), dict(draft.weights)
    after = PASSES[name](draft, codes)
    assert (bytes_of(draft.model), dict(draft.scales), dict(draft.weights)) == before
    assert {name for name in draft.weights if after.weights[name] is not draft.weights[name]}


def test_writing_leaves_the_draft_and_coding_the_written_graph_as_they_were() -> None:
    draft, codes = drafted(network())
    before = bytes_of(draft.model)
    written = write_weights(scale_parts(draft, codes), "cpu")
    assert bytes_of(draft.model) == before
    before = bytes_of(written.model)
    code_parts(written, codes)
    assert bytes_of(written.model) == before


def test_reading_pixels_twice_is_reading_them_once() -> None:
    draft, _ = drafted(network())
    once = read_pixels(draft, SIZE)
    assert once is not draft
    assert read_pixels(once, SIZE) is once


def test_parts_are_scaled_once_and_not_coded_before() -> None:
    draft, codes = drafted(network())
    scaled = scale_parts(draft, codes)
    assert scaled.scaled == {"part0"}
    with pytest.raises(AssertionError, match="in units of their codes already"):
        scale_parts(scaled, codes)
    with pytest.raises(AssertionError, match="were not scaled"):
        code_parts(write_weights(draft, "cpu"), codes)


@pytest.mark.parametrize("middle", [POOL, DEPTHWISE], ids=["a pool", "a depthwise convolution"])
def test_pixels_that_others_than_plain_convolutions_read_are_rounded_like_activations(middle: str) -> None:
    """One zero point for three channels would be wrong for them."""
    graph = network(middle)
    draft, codes = drafted(graph)
    assert read_pixels(draft, SIZE) is draft
    model = code_parts(write_weights(scale_parts(draft, codes), "cpu"), codes)
    GraphEditor(model.graph).drop_unused()
    assert near(run(model), run(graph.model))


def test_activations_are_named_in_the_order_in_which_they_are_made_and_parts_are_not_among_them() -> None:
    graph = network()
    assert rounded_activations(graph) == ["y", "r"]
    assert list(probe(graph)[1]) == ["y", "r", "part0"]


def test_readers_of_an_activation_read_the_rounded_one_and_its_scale_is_known() -> None:
    graph = network()
    ranges = ranges_of(graph)
    found = round_activations(graph, ranges, "cpu")
    assert isinstance(found, Activations)
    editor = GraphEditor(found.model.graph)
    assert [node.op_type for node in editor.readers("r")] == ["QuantizeLinear"]
    assert editor.maker("part0").input[0] == "r_rounded"
    assert found.scales.keys() == {"y_rounded", "r_rounded"}
    assert found.scales["r_rounded"] == pytest.approx(ranges["r"].high.max() / 255)
    assert round_activations(graph, ranges, "tensorrt").scales.keys() == {"r_rounded"}, "pixels stay float there"


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_given_integers_are_written_as_they_are_and_others_are_the_nearest(target: str) -> None:
    graph = network()
    largest = LARGEST_WEIGHT[target]
    codes = np.random.default_rng(2).integers(-largest, largest + 1, (5, 5, 1, 1)).astype(np.int8)
    given = Rounded(codes, np.linspace(0.01, 0.02, 5), np.linspace(-1, 1, 5))
    activations = round_activations(graph, ranges_of(graph), target)
    draft = collect_weights(activations, {"make_part0": given}, target)
    np.testing.assert_allclose(draft.weights["make_part0"].bias, given.shift, rtol=1e-6)
    editor = GraphEditor(write_weights(draft, target).model.graph)
    np.testing.assert_array_equal(editor.value("make_part0/weights/codes"), codes)
    if target == "cpu":
        plain = draft.weights["make_c"]
        away = editor.value("make_c/weights/codes") * plain.steps[:, None, None, None] - plain.values
        assert (np.abs(away) <= 0.501 * plain.steps[:, None, None, None]).all()
    else:
        np.testing.assert_allclose(editor.value("make_part0/shifted"), given.shift, rtol=1e-6)
        assert "make_c" not in draft.weights, "its pixels are float"


def test_a_convolution_whose_weights_are_computed_stays_in_float() -> None:
    graph = network("c = Conv(y, w1, b1) r = Relu(c) v = Neg(w2) part0 = Conv(r, v)")
    draft, codes = drafted(graph)
    assert draft.weights.keys() == {"make_c"}
    model = code_parts(write_weights(scale_parts(read_pixels(draft, SIZE), codes), "cpu"), codes)
    GraphEditor(model.graph).drop_unused()
    onnx.checker.check_model(model, full_check=True)


def test_codes_reach_further_than_what_was_seen_and_quiet_dimensions_have_some() -> None:
    seen = Range(np.array([-1.0, 0.0, 2.0]), np.array([3.0, 0.0, 4.0]))
    codes = codes_of(Part("part0", 3, (1, 1)), seen)
    assert codes.name == "part0_codes"
    zero = codes.zero_point.astype(np.float64)
    np.testing.assert_allclose(-zero * codes.scale, [-1.25, 0, 0], atol=codes.scale.max())
    np.testing.assert_allclose((255 - zero) * codes.scale, [3.75, 0.02 * 5, 5], atol=codes.scale.max())


def test_a_draft_is_a_value() -> None:
    draft, _ = drafted(network())
    with pytest.raises(dataclasses.FrozenInstanceError):
        draft.scaled = frozenset({"part0"})  # type: ignore[misc]
