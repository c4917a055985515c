"""An embedding graph in int8 really runs in integers, and loses no more than eight bits lose."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import small_models
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from padim_edge import sample
from padim_edge_artifact import names
from padim_edge_artifact.metadata import Reduction
from padim_edge_export import rewrites
from padim_edge_export.quantise import pixels
from padim_edge_export.quantise.integers import LARGEST_WEIGHT, Range, probe, quantise
from padim_edge_model import tensorrt_rules
from padim_edge_model.graph import EmbeddingGraph, Part, joined
from padim_edge_runtime.devices.providers import open_session

EIGHT_BITS = 0.15
"""Mean error of int8 embeddings relative to a dimension's spread, for random and untrained weights; .10 was found."""

FUSED = 1e-5
"""Relative and absolute error: with other outputs onnxruntime fuses other operators, in float32."""

FRAMES = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)

BACKBONES = ("resnet18", "builtin")


def run(model: onnx.ModelProto, frames: np.ndarray, outputs: list[str] | None = None) -> list[np.ndarray]:
    return open_session(model.SerializeToString(), "cpu").session.run(outputs, {names.IMAGE: frames})


def ranges_of(graph: EmbeddingGraph, frames: np.ndarray) -> dict[str, Range]:
    model, outputs = probe(graph)
    ends = [end for pair in outputs.values() for end in pair]
    found = dict(zip(ends, run(model, frames, ends), strict=True))
    return {name: Range(*(found[end].astype(np.float64) for end in pair)) for name, pair in outputs.items()}


def quantised(graph: EmbeddingGraph, target: str, frames: np.ndarray = FRAMES) -> EmbeddingGraph:
    """The graph in int8, with ranges from these frames."""
    rewrites.fold_scale(graph.model)
    return quantise(graph, ranges_of(graph, frames), target)


def of(backbone: str, preset: str) -> EmbeddingGraph:
    return small_models.exported(small_models.small(preset, backbone))


def constants(graph: EmbeddingGraph) -> dict[str, np.ndarray]:
    return {each.name: numpy_helper.to_array(each) for each in graph.model.graph.initializer}


def optimised(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """The graph after onnxruntime's own optimisation."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(path)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("preset", ["paper", "edge", "accurate"])
def test_onnxruntime_runs_every_convolution_in_integers(preset: str, backbone: str, tmp_path: Path) -> None:
    graph = of(backbone, preset)
    convolutions = sum(node.op_type == "Conv" for node in graph.model.graph.node)
    kinds = Counter(node.op_type for node in optimised(quantised(graph, "cpu").model, tmp_path / "o.onnx").graph.node)
    assert kinds["QLinearConv"] == convolutions
    assert not {"Conv", "FusedConv", "NhwcFusedConv"} & kinds.keys()
    # So do the additions, except the one that makes a part, which has one scale per dimension.
    assert kinds["QLinearAdd"] == {"resnet18": 6 - (preset == "paper"), "builtin": 3}[backbone]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_onnxruntime_copies_no_pixel_as_a_float(backbone: str, tmp_path: Path) -> None:
    model = optimised(quantised(of(backbone, "edge"), "cpu").model, tmp_path / "o.onnx")
    readers = [names.IMAGE]
    for node in model.graph.node:
        if set(node.input) & set(readers) and node.op_type != "QLinearConv":
            assert node.op_type in ("Reshape", "Slice", "Concat", "Transpose", "MaxPool", "QLinearAdd"), node.op_type
            readers += node.output


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_weights_have_a_scale_a_channel_and_as_many_steps_as_the_target_allows(backbone: str, target: str) -> None:
    graph = of(backbone, "edge")
    found = quantised(graph, target)
    before, after = constants(graph), constants(found)
    nodes = {name: node for node in found.model.graph.node for name in node.output}
    start = 1 if target == "tensorrt" else 0  # TensorRT's first convolution reads float pixels
    for old, new in list(zip(convolutions(graph), convolutions(found), strict=True))[start:]:
        codes, scale, zero = (after[name] for name in nodes[new.input[1]].input)
        assert codes.dtype == zero.dtype == np.int8
        assert not zero.any()
        assert (np.abs(codes).reshape(len(codes), -1).max(axis=1) == LARGEST_WEIGHT[target]).all()
        if codes.shape == before[old.input[1]].shape:  # the first one takes blocks of pixels
            away = codes * scale[:, None, None, None].astype(np.float64) - before[old.input[1]]
            assert (np.abs(away) <= 0.501 * scale[:, None, None, None]).all()


def convolutions(graph: EmbeddingGraph) -> list[onnx.NodeProto]:
    return [node for node in graph.model.graph.node if node.op_type == "Conv"]


@pytest.mark.parametrize("backbone", ["resnet18"])  # the other one has no biases
def test_each_target_gets_the_types_that_it_takes(backbone: str) -> None:
    """cpu: uint8 with zero points, int32 biases. tensorrt: symmetric int8, float biases, no finding of the rules."""
    for target, codes in (("cpu", np.uint8), ("tensorrt", np.int8)):
        graph = quantised(of(backbone, "accurate"), target)
        onnx.checker.check_model(graph.model, full_check=True)
        values = constants(graph)
        zeros = [values[node.input[2]] for node in graph.model.graph.node if node.op_type == "QuantizeLinear"]
        assert {each.dtype for each in zeros} == {np.dtype(codes)}
        assert any(each.any() for each in zeros) == (target == "cpu")
        with_bias = [node.input[2] for node in convolutions(graph) if len(node.input) > 2]
        made = {name: node for node in graph.model.graph.node for name in node.output}
        kinds = {values[made[name].input[0] if name in made else name].dtype for name in with_bias}
        assert kinds == {np.dtype(np.int32 if target == "cpu" else np.float32)}
        assert all((part.codes is None) == (target == "tensorrt") for part in graph.parts)
        findings = tensorrt_rules.check(joined(graph))
        assert (findings == ()) == (target == "tensorrt")
        assert graph.precision == "int8"


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("preset", ["paper", "edge", "accurate"])
def test_the_parts_are_near_those_of_float32(preset: str, backbone: str, target: str) -> None:
    graph = of(backbone, preset)
    drawn = [sample.draw_good(name, i, size=64) for name in sample.CLASSES for i in range(4)]
    frames = np.stack([*FRAMES, *drawn])  # a trained backbone hardly answers to noise alone
    exact = run(graph.model, frames)
    for found, expected in zip(run(quantised(graph, target, frames).model, frames), exact, strict=True):
        spread = expected.std(axis=(0, 2, 3), keepdims=True)
        assert np.abs((found - expected) / spread.clip(1e-6)).mean() < EIGHT_BITS
        assert (found != expected).any()


@pytest.mark.parametrize("backbone", BACKBONES)  # a convolution of the second makes its part, in units of the codes
@pytest.mark.parametrize("preset", ["paper", "edge", "accurate"])
def test_a_part_is_what_its_codes_say(preset: str, backbone: str) -> None:
    """Its codes reach a quarter further than the observed values, from below 0 to above it."""
    graph = of(backbone, preset)
    rewrites.fold_scale(graph.model)
    observed = ranges_of(graph, FRAMES)
    graph = quantise(graph, observed, "cpu")
    model = graph.model
    for part in graph.parts:
        assert part.codes is not None
        model.graph.output.append(helper.make_tensor_value_info(part.codes.name, TensorProto.UINT8, None))
    found = dict(zip([each.name for each in model.graph.output], run(model, FRAMES), strict=True))
    for part in graph.parts:
        assert part.codes is not None
        scale, zero = part.codes.scale[:, None, None], part.codes.zero_point[:, None, None].astype(np.float32)
        np.testing.assert_array_equal(found[part.name], (found[part.codes.name] - zero) * scale)
        seen, step = observed[part.name], part.codes.scale
        zero = part.codes.zero_point.astype(np.float64)
        moved = step > 1.01 * 0.02 * step.max()
        np.testing.assert_allclose((-zero * step)[moved], 1.25 * np.minimum(seen.low, 0)[moved], atol=step.max())
        np.testing.assert_allclose(
            ((255 - zero) * step)[moved], 1.25 * np.maximum(seen.high, 0)[moved], atol=step.max()
        )


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_batch_gives_exactly_what_single_images_give(backbone: str) -> None:
    model = quantised(of(backbone, "edge"), "cpu").model
    together = run(model, FRAMES)
    for i in range(len(FRAMES)):
        for one, all_ in zip(run(model, FRAMES[i : i + 1]), together, strict=True):
            np.testing.assert_array_equal(one[0], all_[i])


def test_the_probe_tells_the_ranges_of_what_will_be_rounded() -> None:
    """The ranges are by channel; those of several batches are united."""
    graph = of("builtin", "edge")
    rewrites.fold_scale(graph.model)
    found = ranges_of(graph, FRAMES)
    for part, values in zip(graph.parts, run(graph.model, FRAMES), strict=True):
        np.testing.assert_allclose(found[part.name].low, values.min(axis=(0, 2, 3)), rtol=FUSED, atol=FUSED)
        np.testing.assert_allclose(found[part.name].high, values.max(axis=(0, 2, 3)), rtol=FUSED, atol=FUSED)
    first = convolutions(graph)[0].input[0]
    pixels = FRAMES.astype(np.float32).min(axis=(0, 1, 2)) - 255 * np.array([0.485, 0.456, 0.406])
    np.testing.assert_allclose(found[first].low, pixels, rtol=FUSED)
    halves = [ranges_of(graph, FRAMES[:2]), ranges_of(graph, FRAMES[2:])]
    for name, whole in found.items():
        both = halves[0][name].union(halves[1][name])
        np.testing.assert_allclose((both.low, both.high), (whole.low, whole.high), rtol=FUSED, atol=FUSED)


def stem(size: tuple[int, int], kernel: tuple[int, int], pads: tuple[int, ...], strides: int = 2) -> EmbeddingGraph:
    """`image` -> the exporter's first nodes -> one convolution of these pixels -> a part."""
    generator = np.random.default_rng(0)
    values = {
        "mean": np.array([123.675, 116.28, 103.53], np.float32).reshape(3, 1, 1),
        "w": generator.standard_normal((5, 3, *kernel)).astype(np.float32) / 58,
        "b": generator.standard_normal(5).astype(np.float32),
    }
    attributes = {"kernel_shape": kernel, "pads": pads, "strides": [strides, strides]}
    nodes = [
        helper.make_node("Cast", [names.IMAGE], ["f"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["f"], ["t"], name="transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Sub", ["t", "mean"], ["p"], name="subtract"),
        helper.make_node("Conv", ["p", "w", "b"], ["c"], name="conv", **attributes),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("Identity", ["r"], ["part0"], name="end"),
    ]
    grid = tuple((side + pads[axis] + pads[axis + 2] - kernel[axis]) // strides + 1 for axis, side in enumerate(size))
    body = helper.make_graph(
        nodes,
        "stem",
        [helper.make_tensor_value_info(names.IMAGE, TensorProto.UINT8, ["N", *size, 3])],
        [helper.make_tensor_value_info("part0", TensorProto.FLOAT, ["N", 5, *grid])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return EmbeddingGraph(model, (Part("part0", 5, grid),), Reduction(None, None), size)


sides = st.integers(8, 17)
taps = st.sampled_from([1, 2, 3, 5, 7])


@settings(max_examples=60, deadline=None)
@given(size=st.tuples(sides, sides), kernel=st.tuples(taps, taps), data=st.data())
def test_reading_blocks_of_pixels_is_exact(size: tuple[int, int], kernel: tuple[int, int], data: st.DataObject) -> None:
    """Codes are equal with and without blocks, for any size, kernel and padding on each side."""
    pads = tuple(data.draw(st.integers(0, kernel[side % 2] - 1), label=f"pad {side}") for side in range(4))
    frames = np.random.default_rng(1).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    graph = stem(size, kernel, pads)
    blocks = quantised(graph, "cpu", frames)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixels, "_in_blocks", lambda *given: given[3])
        plain = quantised(stem(size, kernel, pads), "cpu", frames)
    assert convolutions(plain)[0].attribute[0].ints == list(kernel)
    onnx.checker.check_model(blocks.model, full_check=True)
    np.testing.assert_array_equal(run(blocks.model, frames)[0], run(plain.model, frames)[0])
    even = not any(side % 2 for side in size)
    assert (convolutions(blocks)[0].attribute != convolutions(plain)[0].attribute) == even


@pytest.mark.parametrize(
    ("kernel", "pads"),
    [
        ((7, 7), (3, 3, 3, 3)),
        ((5, 5), (2, 2, 2, 2)),
        ((3, 3), (1, 1, 1, 1)),
        ((3, 3), (1, 1, 0, 0)),
        ((2, 2), (0, 0, 0, 0)),
        ((3, 3), (0, 0, 1, 1)),
        ((7, 7), (0, 0, 0, 0)),  # the last pixels are not read
    ],
)
def test_the_usual_first_convolutions_read_blocks(kernel: tuple[int, int], pads: tuple[int, ...]) -> None:
    """They do if both sides of the image are even, the stride is 2, and the target is the CPU."""

    def is_taken(size: tuple[int, int], target: str, strides: int = 2) -> bool:
        frames = np.random.default_rng(1).integers(0, 256, (1, *size, 3), dtype=np.uint8)
        before = convolutions(stem(size, kernel, pads, strides))[0].attribute
        (after,) = (
            each.attribute for each in convolutions(quantised(stem(size, kernel, pads, strides), target, frames))
        )
        return list(before) != list(after)

    assert is_taken((16, 18), "cpu")
    assert not is_taken((16, 15), "cpu")
    assert not is_taken((15, 16), "cpu")
    assert not is_taken((16, 16), "cpu", strides=1)
    assert not is_taken((16, 16), "tensorrt")


def test_both_backbones_read_blocks() -> None:
    for backbone in BACKBONES:
        graph = quantised(of(backbone, "edge"), "cpu")
        assert constants(graph)[f"{convolutions(graph)[0].name}/weights/codes"].shape[1] == 12


@settings(max_examples=20, deadline=None)
@given(kernel=taps, strides=st.integers(1, 3), seed=st.integers(0, 99))
def test_pixels_taken_as_they_are_give_what_their_differences_from_the_mean_give(
    kernel: int, strides: int, seed: int
) -> None:
    """Without a border they differ by rounding only: 63 steps of a weight, half a step of a bias, half a code."""
    frames = np.random.default_rng(seed).integers(0, 256, (2, 12, 12, 3), dtype=np.uint8)
    graph = stem((12, 12), (kernel, kernel), (0, 0, 0, 0), strides)
    exact = run(graph.model, frames)[0]
    assume(exact.std() > 0)
    found = quantised(graph, "cpu", frames)
    weights = constants(graph)["w"]
    steps = np.abs(weights).max(axis=(1, 2, 3), keepdims=True) / 63
    allowed = 255 * 0.501 * steps * weights[0].size + steps  # no rounding can do worse
    codes = found.parts[0].codes
    assert codes is not None
    rounding = (exact.max() / 255 + codes.scale.max()) * 0.51
    assert (np.abs(run(found.model, frames)[0] - exact) <= allowed[:, :, 0] + rounding).all()
    assert np.corrcoef(run(found.model, frames)[0].ravel(), exact.ravel())[0, 1] > 0.99


def test_beyond_the_edge_lies_a_grey_near_the_mean() -> None:
    """In an image of the mean colour, the border differs from the middle by the rounding of the grey at most."""
    frames = np.broadcast_to(np.array([124, 116, 104], np.uint8), (1, 16, 16, 3)).copy()
    seen = np.concatenate([frames, np.random.default_rng(0).integers(0, 256, frames.shape, dtype=np.uint8)])
    graph = stem((16, 16), (3, 3), (1, 1, 1, 1))
    exact, found = run(graph.model, frames)[0], run(quantised(graph, "cpu", seen).model, frames)[0]
    weights = np.abs(constants(graph)["w"]).sum(axis=(1, 2, 3)).max()
    assert np.abs(found - exact).max() < weights * 11  # 114 stands for 124, 116 and 104 there
    np.testing.assert_allclose(found[:, :, 1:, 1:], exact[:, :, 1:, 1:], atol=0.05 * weights * 10)


def test_a_dimension_that_does_not_move_still_gets_codes() -> None:
    """It gets as many as for 2 % of the widest dimension's range, because an anomaly may move it."""
    frames = np.random.default_rng(1).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    graph = stem((16, 16), (3, 3), (1, 1, 1, 1))
    for each in graph.model.graph.initializer:
        if each.name in ("w", "b"):
            values = numpy_helper.to_array(each).copy()
            values[2] = 0
            each.CopyFrom(numpy_helper.from_array(values, each.name))
    codes = quantised(graph, "cpu", frames).parts[0].codes
    assert codes is not None
    assert codes.scale[2] == pytest.approx(0.02 * codes.scale.max(), rel=1e-5)
    assert codes.zero_point[2] == 0


def test_a_part_of_one_dimension_has_one_scale() -> None:
    """onnxruntime takes a vector of one scale for a scalar, and then refuses its own fusion."""
    method = dataclasses.replace(small_models.small("paper"), dims=2)
    graph = quantised(small_models.exported(method), "cpu")
    assert 1 in [part.dims for part in graph.parts]
    found = run(graph.model, FRAMES)
    assert [each.shape[1] for each in found] == [part.dims for part in graph.parts]
    for part in graph.parts:
        assert part.codes is not None
        assert part.codes.scale.shape == (part.dims,)


@pytest.mark.parametrize(
    ("shape", "weights", "product"),
    [
        ("1,16,9,9", (8, 16, 3, 3), "Conv<pads=[1,1,1,1]>"),
        ("5,64", (64, 8), "MatMul"),
    ],
)
def test_the_largest_codes_of_tensorrt_are_summed_whole(shape: str, weights: tuple[int, ...], product: str) -> None:
    """Processors with AVX2 but without VNNI add unsigned codes times such weights in 16 bits, and cut off the sum."""
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 18]> g (float[{shape}] x) => (float[{shape.replace("16", "8", 1)}] z) {{
            xq = QuantizeLinear(x, one, zero) xd = DequantizeLinear(xq, one, zero) wd = DequantizeLinear(w, one, zero)
            y = {product}(xd, wd) yq = QuantizeLinear(y, step, zero) z = DequantizeLinear(yq, step, zero) }}"""
    )
    model.graph.output[0].type.tensor_type.ClearField("shape")
    draw = np.random.default_rng(0).choice
    codes = draw([-127, 90, 127], [int(each) for each in shape.split(",")]).astype(np.float32)
    constants = {
        "w": draw([-127, 100, 127], weights).astype(np.int8),
        "one": np.float32(1),
        "zero": np.int8(0),
        "step": np.float32(4096),
    }
    model.graph.initializer.extend(numpy_helper.from_array(np.array(each), name) for name, each in constants.items())
    exact = onnxruntime.SessionOptions()
    exact.add_session_config_entry("session.disable_quant_qdq", "1")  # products in float32
    content = model.SerializeToString()
    (expected,) = onnxruntime.InferenceSession(content, exact, providers=["CPUExecutionProvider"]).run(
        None, {"x": codes}
    )
    (found,) = open_session(content, "cpu").session.run(None, {"x": codes})
    np.testing.assert_array_equal(found, expected)
    assert np.abs(expected).max() > 20 * 4096
