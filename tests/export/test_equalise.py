"""Evening out channels changes only the share of the codes that each channel gets."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import small_models
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from padim_edge_artifact import names
from padim_edge_artifact.metadata import Reduction
from padim_edge_export import rewrites
from padim_edge_export.quantise import integers
from padim_edge_export.quantise.equalise import equalise, factors
from padim_edge_model.graph import EmbeddingGraph, Part
from padim_edge_runtime.devices.providers import open_session

FRAMES = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)

LARGEST = 8.0


def run(model: onnx.ModelProto, frames: np.ndarray = FRAMES) -> dict[str, np.ndarray]:
    outputs = [output.name for output in model.graph.output]
    found = open_session(model.SerializeToString(), "cpu").session.run(None, {names.IMAGE: frames})
    return dict(zip(outputs, found, strict=True))


def widths(graph: EmbeddingGraph, frames: np.ndarray = FRAMES) -> dict[str, np.ndarray]:
    model, outputs = integers.probe(graph)
    found = run(model, frames)
    return {name: np.maximum(-found[low], found[high]).astype(np.float64) for name, (low, high) in outputs.items()}


@pytest.mark.parametrize("backbone", [pytest.param("resnet18", marks=pytest.mark.slow), "builtin"])
@pytest.mark.parametrize("preset", ["paper", "edge", "accurate"])
def test_the_parts_stay_and_the_channels_are_more_even(preset: str, backbone: str) -> None:
    graph = small_models.exported(small_models.small(preset, backbone))
    rewrites.fold_scale(graph.model)
    before = widths(graph)
    factor = factors(graph, before)
    found = equalise(graph, factor)
    onnx.checker.check_model(found.model, full_check=True)
    for name, expected in run(graph.model).items():
        np.testing.assert_allclose(run(found.model)[name], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    after = widths(found)
    assert len(factor) > 8, "nearly every activation can be evened out"
    tied: dict[int, list[str]] = {}
    for name in factor.keys() & before.keys():
        assert ((factor[name] >= 1) & (factor[name] <= LARGEST)).all()
        np.testing.assert_allclose(after[name], before[name] * factor[name], rtol=1e-3, atol=1e-4 * before[name].max())
        tied.setdefault(id(factor[name]), []).append(name)
    for group in tied.values():
        wide, wider = (np.max([each[name] for name in group], axis=0) for each in (before, after))
        assert wider.max() == pytest.approx(wide.max(), rel=1e-3), "the widest channel sets the scale, as before"
        assert np.median(wider) > np.median(wide)


def graph_of(nodes: list[onnx.NodeProto], values: dict[str, np.ndarray], outputs: list[str]) -> EmbeddingGraph:
    """`image` (N, 4, 4, 3) -> `x` (N, 3, 4, 4) -> the nodes."""
    start = [
        helper.make_node("Cast", [names.IMAGE], ["f"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["f"], ["x"], name="transpose", perm=[0, 3, 1, 2]),
    ]
    body = helper.make_graph(
        [*start, *nodes],
        "test",
        [helper.make_tensor_value_info(names.IMAGE, TensorProto.UINT8, ["N", 4, 4, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    parts = tuple(Part(name, 1, (1, 1)) for name in outputs)
    return EmbeddingGraph(model, parts, Reduction(None, None), (4, 4))


def node(kind: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], name=f"{kind}_{output}", **attributes)


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 99), grouped=st.sampled_from([1, 2, 6]), power=st.floats(0.0, 3.0))
def test_any_factors_may_pass_any_convolution(seed: int, grouped: int, power: float) -> None:
    """They pass groups, residual additions, pools, a choice of channels and a second reader."""
    values = {
        "w1": weights(6, 3, 3, 3, seed=seed),
        "b1": weights(6, seed=seed + 1),
        "w2": weights(12, 6 // grouped, 1, 1, seed=seed + 2),
        "w3": weights(6, 12, 1, 1, seed=seed + 3),
        "kept": np.array([4, 1], np.int64),
    }
    nodes = [
        node("Conv", "x w1 b1", "c1", pads=[1, 1, 1, 1]),
        node("Relu", "c1", "r1"),
        node("MaxPool", "r1", "m1", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "m1 w2", "c2", group=grouped),
        node("Relu", "c2", "r2"),
        node("Conv", "r2 w3", "c3"),
        node("Add", "c3 m1", "a3"),
        node("Relu", "a3", "r3"),
        node("Gather", "r3 kept", "part0", axis=1),
        node("Sigmoid", "r2", "part1"),
        node("Identity", "r3", "part2"),
    ]
    graph = graph_of(nodes, values, ["part0", "part1", "part2"])
    generator = np.random.default_rng(seed)
    largest = {name: np.exp(power * generator.standard_normal(count)) for name, count in (("r3", 6), ("r2", 12))}
    factor = factors(graph, largest)
    assert factor.keys() == {"c1", "r1", "m1", "c3", "a3", "r3", "c2", "r2"}
    assert factor["c1"] is factor["r3"]
    frames = generator.integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    found = equalise(graph, factor)
    for name, expected in run(graph.model, frames).items():
        np.testing.assert_allclose(
            run(found.model, frames)[name], expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max()
        )


@pytest.mark.parametrize(
    ("why", "nodes"),
    [
        ("it is an output", [node("Conv", "x w", "part0")]),
        ("pixels are nobody's to scale", [node("Relu", "x", "r"), node("Sigmoid", "r", "part0")]),
        (
            "what comes from a sigmoid cannot be scaled",
            [node("Conv", "x w", "c"), node("Sigmoid", "c", "s"), node("Add", "s x", "a"), node("Tanh", "a", "part0")],
        ),
        (
            "its weights are computed",
            [node("Relu", "w", "v"), node("Conv", "x v", "c"), node("Sigmoid", "c", "part0")],
        ),
    ],
)
def test_what_cannot_be_scaled_is_left_alone(why: str, nodes: list[onnx.NodeProto]) -> None:
    graph = graph_of(nodes, {"w": weights(3, 3, 1, 1)}, ["part0"])
    tensors = [name for each in graph.model.graph.node for name in each.output]
    largest = {name: np.array([1.0, 2.0, 3.0]) for name in tensors}
    factor = factors(graph, largest)
    assert not factor.keys() & {"part0", "x", "r", "s", "a"}, why
    if "computed" in why:
        assert not factor
    found = equalise(graph, factor)
    np.testing.assert_allclose(
        run(found.model, FRAMES[:, :4, :4])["part0"], run(graph.model, FRAMES[:, :4, :4])["part0"], rtol=1e-4, atol=1e-4
    )


def test_a_dead_tensor_and_one_that_was_not_seen_get_no_factor() -> None:
    nodes = [node("Conv", "x w", "c"), node("Relu", "c", "r"), node("Sigmoid", "r", "part0")]
    graph = graph_of(nodes, {"w": weights(3, 3, 1, 1)}, ["part0"])
    assert factors(graph, {}) == {}
    assert factors(graph, {"r": np.zeros(3)}) == {}
    factor = factors(graph, {"r": np.array([0.0, 1.0, 4.0])})["r"]
    np.testing.assert_allclose(factor, [LARGEST, 2.0, 1.0])
