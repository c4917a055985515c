"""Strips of rows give what the whole image gives, share its weights, and free their activations."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import small_models
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from padim_edge_artifact import Preprocessing, names
from padim_edge_artifact.metadata import Reduction
from padim_edge_export import rewrites, strips
from padim_edge_export.quantise import integers
from padim_edge_export.quantise.half import halve
from padim_edge_model import tensorrt_rules
from padim_edge_model.graph import EmbeddingGraph, Part
from padim_edge_model.graph_editing import value_types
from padim_edge_runtime.devices.providers import open_session

ROUNDING = 1e-5
"""Error relative to a part's largest value: float32 in another order. The limit that users are promised is 1e-4."""

HALF = 1e-3
"""The same in float16, which has 11 digits. onnxruntime on x86 leaves some roundings out, and others in strips."""

SIZE = (104, 72)
"""(H, W) in pixels; 104 is 8 times 13, so no two strips of equal height fit."""

NODE = 400
"""Largest number of bytes of a node with its names."""


def run(graph: EmbeddingGraph, frames: np.ndarray) -> list[np.ndarray]:
    wanted = [each.name for each in graph.model.graph.output]
    return open_session(graph.model.SerializeToString(), "cpu").session.run(wanted, {names.IMAGE: frames})


def frames_of(size: tuple[int, int], count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3), np.uint8)


def largest(graph: EmbeddingGraph) -> int:
    """Bytes of one image's largest activation behind the pixels."""
    return max(rows * each for rows, each in strips._sizes(graph).values())


def in_strips(graph: EmbeddingGraph, parts: float = 5) -> EmbeddingGraph:
    """The graph with its activations cut to a share of the largest one, however much the strips overlap."""
    return strips.cut(graph, int(largest(graph) / parts), math.inf)


def assert_same(found: EmbeddingGraph, graph: EmbeddingGraph, tolerance: float = ROUNDING, count: int = 2) -> None:
    frames = frames_of(graph.size, count)
    for a, b in zip(run(found, frames), run(graph, frames), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


def parsed(size: tuple[int, int], text: str, constants: dict[str, np.ndarray], outputs: list[str]) -> EmbeddingGraph:
    """The exporter's first nodes up to `pixels`, and these behind them."""
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 18]> embedding
        (uint8[N,{size[0]},{size[1]},3] {names.IMAGE}) => ({", ".join(f"float[N,k,h,w] {each}" for each in outputs)}) {{
            f = Cast<to=1>({names.IMAGE}) planes = Transpose<perm=[0,3,1,2]>(f) pixels = Sub(planes, mean) {text}
        }}"""
    )
    for name, value in constants.items():
        kind = np.int64 if value.dtype.kind == "i" else np.float32
        model.graph.initializer.append(numpy_helper.from_array(value.astype(kind), name))
    for number, node in enumerate(model.graph.node):
        node.name = f"node{number}"
    shapes = {name: [each.dim_value for each in value_types(model)[name].shape.dim] for name in outputs}
    parts = tuple(Part(name, shape[1], (shape[2], shape[3])) for name, shape in shapes.items())
    return EmbeddingGraph(model, parts, Reduction(None, None), size)


MEAN = np.array([120.0, 110, 100]).reshape(3, 1, 1)


class Drawn:
    """A random network, written as text for ONNX's parser."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.lines: list[str] = []
        self.constants: dict[str, np.ndarray] = {"mean": MEAN}
        self.channels = 3
        self.smallest = 12
        """Lower bound of rows and columns; no window is larger."""
        self.noise = np.random.default_rng(draw(st.integers(0, 99)))
        self.counter = itertools.count()

    def add(self, operator: str, *inputs: str, **attributes: object) -> str:
        name = f"t{next(self.counter)}"
        said = ", ".join(f"{key}={value}" for key, value in attributes.items())
        self.lines.append(f"{name} = {operator}{f'<{said}>' if said else ''}({', '.join(inputs)})")
        return name

    def constant(self, value: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = value
        return name

    def conv(self, x: str, outputs: int, kernel: int, **attributes: object) -> str:
        weights = self.noise.standard_normal((outputs, self.channels, kernel, kernel)) / kernel**2 / self.channels
        return self.add("Conv", x, self.constant(weights), **attributes)

    def pads(self, reach: int) -> list[int]:
        side = st.integers(0, reach // 2)
        return [self.draw(side) for _ in range(4)]

    def step(self, x: str) -> str:
        """Append one operator or block, and return its output."""
        draw = self.draw
        most = max(1, min(4, self.smallest))
        kind = draw(st.sampled_from(["conv", "max", "mean", "relu", "residual", "down", "scale", "gather", "silu"]))
        stride, before = draw(st.integers(1, 3)), self.smallest
        if kind == "conv":
            kernel = draw(st.integers(1, most))
            gap = draw(st.integers(1, 2 if 2 * (kernel - 1) < before else 1))
            how = {"pads": self.pads((kernel - 1) * gap + 1), "dilations": [gap, gap], "strides": [stride, stride]}
            x, self.channels = self.conv(x, 4, kernel, **how), 4
            self.smallest = (before - (kernel - 1) * gap - 1) // stride + 1
        elif kind in ("max", "mean"):
            kernel = draw(st.integers(1, most))
            self.smallest = (before - kernel) // stride + 1
            how = {"kernel_shape": [kernel, kernel], "strides": [stride, stride], "pads": self.pads(kernel)}
            if kind == "mean":
                how["count_include_pad"] = draw(st.integers(0, 1))
            x = self.add("MaxPool" if kind == "max" else "AveragePool", x, **how)
        elif kind == "relu":
            x = self.add("Relu", x)
        elif kind == "residual":
            x = self.add("Add", self.conv(x, self.channels, 3, pads=[1, 1, 1, 1]), x)
        elif kind == "down":
            long = self.conv(x, 5, 3, pads=[1, 1, 1, 1], strides=[2, 2])
            x, self.channels = self.add("Add", self.conv(x, 5, 1, strides=[2, 2]), long), 5
            self.smallest = (before + 1) // 2
        elif kind == "scale":
            x = self.add("Mul", x, self.constant(self.noise.standard_normal((self.channels, 1, 1))))
        elif kind == "silu":
            x = self.add("Mul", x, self.add("Sigmoid", x))
        else:
            kept = np.sort(self.noise.choice(self.channels, max(1, self.channels - 1), replace=False))
            x, self.channels = self.add("Gather", x, self.constant(kept), axis=1), len(kept)
        return x


@st.composite
def networks(draw: st.DrawFn) -> EmbeddingGraph:
    """Draw a network with one to three outputs, for frames of 24 to 90 rows."""
    size = draw(st.integers(24, 90)), draw(st.integers(24, 40))
    drawn = Drawn(draw)
    x = drawn.conv("pixels", 6, 3, pads=[1, 1, 1, 1], strides=[draw(st.integers(1, 2))] * 2)
    drawn.channels = 6
    outputs = []
    for _ in range(draw(st.integers(1, 7))):
        x = drawn.step(x)
        if draw(st.booleans()):
            outputs.append(x)
    outputs = list(dict.fromkeys([*outputs[-2:], x]))
    return parsed(size, " ".join(drawn.lines), drawn.constants, outputs)


@settings(max_examples=100, deadline=None)
@given(networks(), st.floats(1.1, 12))
def test_strips_of_any_network_give_what_the_whole_image_gives(graph: EmbeddingGraph, parts: float) -> None:
    assert_same(in_strips(graph, parts), graph)


@settings(max_examples=40, deadline=None)
@given(networks(), st.floats(1.1, 12))
def test_no_weight_is_copied(graph: EmbeddingGraph, parts: float) -> None:
    """The file grows by the text of nodes alone."""
    found = in_strips(graph, parts)
    weights = {each.name for each in graph.model.graph.initializer}
    added = [each for each in found.model.graph.initializer if each.name not in weights]
    assert {each.name for each in found.model.graph.initializer} >= weights
    assert all(each.data_type == onnx.TensorProto.INT64 and each.dims == [1] for each in added)
    more = len(found.model.graph.node) - len(graph.model.graph.node) + len(added)
    assert found.model.ByteSize() - graph.model.ByteSize() <= NODE * more


@settings(max_examples=40, deadline=None)
@given(networks(), st.floats(1.1, 12))
def test_activations_never_grow(graph: EmbeddingGraph, parts: float) -> None:
    found = in_strips(graph, parts)
    assert found is graph or largest(found) < largest(graph)
    assert strips.cut(graph, largest(graph)) is graph


def ranges_of(graph: EmbeddingGraph) -> dict[str, integers.Range]:
    model, outputs = integers.probe(graph)
    ends = [end for pair in outputs.values() for end in pair]
    found = dict(zip(ends, run(replace(graph, model=model), frames_of(SIZE)), strict=True))
    return {name: integers.Range(*(found[end].astype(np.float64) for end in pair)) for name, pair in outputs.items()}


PRECISIONS = ("fp32", "fp16", "int8-cpu", "int8-tensorrt")


def of(backbone: str, preset: str, precision: str) -> EmbeddingGraph:
    method = replace(small_models.small(preset, backbone), preprocessing=Preprocessing(SIZE))
    graph = small_models.exported(method)
    name, _, target = precision.partition("-")
    if name == "int8":
        rewrites.fold_scale(graph.model)
        return integers.quantise(graph, ranges_of(graph), target)
    return halve(graph) if name == "fp16" else graph


@pytest.fixture(
    scope="module",
    params=[
        *itertools.product(["resnet18"], ["edge", "paper"], PRECISIONS),
        *itertools.product(["builtin"], ["accurate"], PRECISIONS),
        ("mobilenet_v3_large", "edge", "fp32"),
    ],
    ids="-".join,
)
def pair(request: pytest.FixtureRequest) -> tuple[EmbeddingGraph, EmbeddingGraph, str]:
    """A graph as a whole and in strips, and its precision."""
    graph = of(*request.param)
    return graph, in_strips(graph), request.param[2]


class TestBackbones:
    """Real backbones in every precision."""

    def test_are_cut_and_give_the_same(self, pair: tuple[EmbeddingGraph, EmbeddingGraph, str]) -> None:
        graph, found, precision = pair
        onnx.checker.check_model(found.model, full_check=True)
        assert largest(found) < 0.8 * largest(graph)
        for count in (1, 3):
            assert_same(found, graph, {"fp32": ROUNDING, "fp16": HALF}.get(precision, 0), count)

    def test_tensorrt_has_nothing_against_them(self, pair: tuple[EmbeddingGraph, EmbeddingGraph, str]) -> None:
        _, found, precision = pair
        if precision != "int8-cpu":  # which is for onnxruntime alone
            assert tensorrt_rules.check(found.model) == ()

    def test_strips_come_one_after_the_other(self, pair: tuple[EmbeddingGraph, EmbeddingGraph, str]) -> None:
        """Else the activations of all would be there at a time."""
        _, found, _ = pair
        numbers = [int(node.name.rsplit("/strip")[-1]) for node in found.model.graph.node if "/strip" in node.name]
        assert numbers == sorted(numbers)
        assert len(set(numbers)) > 2


def test_onnxruntime_still_runs_every_convolution_in_integers(tmp_path: Path) -> None:
    found = in_strips(of("resnet18", "edge", "int8-cpu"))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(found.model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    counts = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    convolutions = sum(node.op_type == "Conv" for node in found.model.graph.node)
    assert (counts["Conv"], counts["FusedConv"], counts["QLinearConv"]) == (0, 0, convolutions)


GATE = """r = Relu(x) p = ReduceMean<keepdims=1>(r, axes) q = Conv(p, square) g = Sigmoid(q) m = Mul(g, r)
    part = MaxPool<kernel_shape=[4,4], strides=[4,4]>(m)"""


def gated(text: str) -> EmbeddingGraph:
    draw = np.random.default_rng(0).standard_normal
    constants = {"mean": MEAN, "axes": np.array([2, 3]), "first": draw((6, 3, 3, 3)) / 90, "square": draw((6, 6, 1, 1))}
    return parsed((48, 32), f"c = Conv<pads=[1,1,1,1]>(pixels, first) {text} {GATE}", constants, ["part"])


def test_what_looks_at_the_whole_activation_leaves_it_whole() -> None:
    graph = gated("x = Conv(c, square)")
    assert in_strips(graph) is graph


def test_a_mean_of_a_small_activation_is_no_obstacle() -> None:
    """Only what makes and reads large activations is cut."""
    graph = gated("x = MaxPool<kernel_shape=[4,4], strides=[4,4]>(c)")
    found = in_strips(graph, 1.5)
    assert found is not graph
    assert_same(found, graph)


_PEAK = """
import sys
import numpy as np
from padim_edge_runtime.devices.providers import open_session
from pathlib import Path
def highest():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
session = open_session(Path(sys.argv[1]), "cpu", threads=1).session
(image,) = session.get_inputs()
before = highest()
for _ in range(3):
    session.run(None, {image.name: np.zeros((1, *image.shape[1:]), np.uint8)})
print(highest() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the highest memory of a process")
def test_onnxruntime_frees_each_strip_before_the_next(tmp_path: Path) -> None:
    """The memory of the whole, in kilobytes, is that of its activations, and that of the strips a small part of it."""
    text = """c = Conv<strides=[2,2], pads=[1,1,1,1]>(pixels, weights) r = Relu(c) d = Conv<pads=[1,1,1,1]>(r, more)
        part = MaxPool<kernel_shape=[3,3], strides=[8,8]>(d)"""
    draw = np.random.default_rng(0).standard_normal
    constants = {"mean": MEAN, "weights": draw((48, 3, 3, 3)), "more": draw((48, 48, 3, 3))}
    graph = parsed((1024, 1024), text, constants, ["part"])
    activation = 48 * 512 * 512 * 4
    peaks = []
    for number, each in enumerate((graph, strips.cut(graph, activation // 8))):
        onnx.save(each.model, tmp_path / f"{number}.onnx")
        command = [sys.executable, "-c", _PEAK, str(tmp_path / f"{number}.onnx")]
        peaks.append(1024 * int(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    whole, cut = peaks
    assert whole > 2 * activation
    assert cut < whole - activation
