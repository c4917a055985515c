"""An embedding graph in other numbers, made for the images that it will see."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import small_models

from padim_edge.presets import PRESETS
from padim_edge.presets import preset as preset_of
from padim_edge.quantisation import in_precision
from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.method import Precision
from padim_edge_export import rewrites
from padim_edge_export.quantise import integers
from padim_edge_export.quantise.integers import Range, probe
from padim_edge_model.graph import EmbeddingGraph
from padim_edge_runtime.devices.providers import open_session

FRAMES = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
OTHERS = np.random.default_rng(1).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)


def parts_of(graph: EmbeddingGraph) -> list[np.ndarray]:
    found = open_session(graph.model.SerializeToString(), "cpu").session.run(None, {"image": OTHERS})
    return [np.asarray(each) for each in found]


def away(graph: EmbeddingGraph, expected: list[np.ndarray]) -> float:
    """Mean square of what the parts differ by, in units of each dimension's variance."""
    pairs = zip(parts_of(graph), expected, strict=True)
    return float(np.mean([np.mean((a - b) ** 2 / b.var(axis=(0, 2, 3), keepdims=True).clip(1e-6)) for a, b in pairs]))


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
@pytest.mark.parametrize(
    ("preset", "backbone"),
    [("edge", "builtin"), *(pytest.param(name, "resnet18", marks=pytest.mark.slow) for name in PRESETS)],
)
def test_int8_is_nearer_than_without_its_preparations(preset: str, backbone: str, target: str) -> None:
    """The comparison is a graph with nearest weights and uneven channels."""
    precision = Precision("int8", target)
    graph = small_models.exported(small_models.small(preset, backbone))
    expected = parts_of(graph)
    plain = small_models.exported(small_models.small(preset, backbone))
    rewrites.fold_scale(plain.model)
    model, outputs = probe(plain)
    session = open_session(model.SerializeToString(), "cpu").session
    ranges = {name: Range(*session.run(list(pair), {"image": FRAMES})) for name, pair in outputs.items()}
    plain = integers.quantise(plain, ranges, target)
    found = in_precision(graph, precision, iter(FRAMES), "cpu")
    assert found.precision == "int8"
    # Where two heads read a layer, its channels are evened out for both. TensorRT's symmetric codes gain nothing then.
    gain = 1.2 if graph.beside and target == "tensorrt" else 0.8
    assert 0 < away(found, expected) < gain * away(plain, expected)


def test_a_memory_reads_parts_that_no_code_rounds() -> None:
    """It whitens them in float32. All its channels are kept, so their means are pools and no products."""
    method = dataclasses.replace(preset_of("free", backbone="builtin", size=64), sigma=1.0)
    graph = small_models.exported(method)
    expected = parts_of(graph)
    coded, plain = (in_precision(graph, Precision("int8"), iter(FRAMES), "cpu", coded=each) for each in (True, False))
    assert all(part.codes is not None for part in coded.parts)
    assert all(part.codes is None for part in plain.parts)
    assert 0 < away(plain, expected) < away(coded, expected)
    kinds = [{node.op_type for node in each.model.graph.node} for each in (graph, coded, plain)]
    windows = [("AveragePool" in each, "MatMul" in each) for each in kinds]
    assert windows == [(False, True), (False, True), (True, False)]


@pytest.mark.parametrize(("name", "allowed"), [("fp32", 1e-9), ("fp16", 1e-3)])
def test_other_precisions_look_at_no_image(name: str, allowed: float) -> None:
    graph = small_models.exported(small_models.small("edge"))
    expected = parts_of(graph)

    def none() -> object:
        raise AssertionError("an image was read")
        yield

    assert away(in_precision(graph, Precision(name), none(), "cpu"), expected) < allowed


def test_int8_without_an_image_says_so() -> None:
    graph = small_models.exported(small_models.small("edge"))
    with pytest.raises(PadimEdgeError, match="none of the good images"):
        in_precision(graph, Precision("int8"), iter(()), "cpu")
