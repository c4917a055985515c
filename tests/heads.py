"""The distance stage alone, run by onnxruntime: parts of an embedding in, distances out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import onnx
import reference
from onnx import TensorProto, helper, numpy_helper

from padim_edge_artifact import Statistics
from padim_edge_artifact.metadata import Reduction
from padim_edge_artifact.method import Precision
from padim_edge_model.distance import append_distance
from padim_edge_model.graph import IR_VERSION, OPSET, Codes, EmbeddingGraph, Part
from padim_edge_model.graph_editing import GraphEditor
from padim_edge_model.memory import Nearest
from padim_edge_model.nearest import append_nearest
from padim_edge_model.statistics import absorb
from padim_edge_model.whitening import Form
from padim_edge_runtime.devices.providers import open_session

__all__ = ["coded", "draw", "head", "joined", "memory_head", "parts_of", "run", "statistics_of", "with_codes"]

Shape = tuple[int, tuple[int, int]]
"""Number of dimensions and grid of a part."""


def parts_of(shapes: Sequence[Shape]) -> tuple[Part, ...]:
    """Parts with the names of an embedding graph, finest first."""
    return tuple(Part(f"part{i}", dims, grid) for i, (dims, grid) in enumerate(shapes))


def draw(parts: Sequence[Part], count: int, seed: int) -> list[np.ndarray]:
    """Parts `(count, d, h, w)` float32 of `count` images, correlated within and between the parts."""
    generator = np.random.default_rng(seed)
    common = generator.standard_normal((count, *parts[0].grid))
    values = []
    for i, part in enumerate(parts):
        mixing = np.random.default_rng(i).standard_normal((part.dims, part.dims))
        own = np.einsum("cd,ndhw->nchw", mixing, generator.standard_normal((count, part.dims, *part.grid)))
        rows, columns = (np.arange(few) * many // few for few, many in zip(part.grid, parts[0].grid, strict=True))
        values.append((own + common[:, None, rows[:, None], columns] + i).astype(np.float32))
    return values


def joined(values: Sequence[np.ndarray]) -> np.ndarray:
    """Embedding `(N, D, h, w)` that the parts make together."""
    grid = (values[0].shape[2], values[0].shape[3])
    return np.concatenate([reference.lift(each, grid) for each in values], axis=1)


def statistics_of(values: Sequence[np.ndarray]) -> Statistics:
    """Statistics of the embedding that the parts make together."""
    embeddings = joined(values)
    n, d, h, w = embeddings.shape
    statistics = Statistics.empty((h, w), d)
    absorb(statistics.mean, statistics.scatter, 0, embeddings)
    return Statistics(n, statistics.mean, statistics.scatter, (h, w))


def with_codes(parts: Sequence[Part], values: Sequence[np.ndarray]) -> tuple[Part, ...]:
    """Parts with codes that reach a little further than `values`."""

    def one(part: Part, seen: np.ndarray) -> Part:
        low, high = (1.25 * edge(seen, axis=(0, 2, 3)).astype(np.float64) for edge in (np.min, np.max))
        low, high = np.minimum(low, 0), np.maximum(high, 0)
        scale = np.maximum((high - low) / 255, 1e-6).astype(np.float32)
        zero = np.rint(-low / scale).clip(0, 255).astype(np.uint8)
        return dataclasses.replace(part, codes=Codes(f"{part.name}_codes", scale, zero))

    return tuple(one(part, seen) for part, seen in zip(parts, values, strict=True))


def coded(parts: Sequence[Part], values: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Values rounded to codes and back, for parts that have codes."""
    rounded = []
    for part, value in zip(parts, values, strict=True):
        if part.codes is None:
            rounded.append(value)
            continue
        scale, zero = (each.astype(np.float64)[:, None, None] for each in (part.codes.scale, part.codes.zero_point))
        codes = np.rint(value / scale + zero).clip(0, 255)
        rounded.append(((codes - zero) * scale).astype(np.float32))
    return rounded


def head(parts: Sequence[Part], form: Form, precision: str) -> tuple[onnx.ModelProto, GraphEditor]:
    """A model of the distance stage, from the parts, rounded where they have codes, to `(P, N)`; and its editor."""
    graph = onnx.GraphProto(name="head")
    for part in parts:
        shape = ["N", part.dims, *part.grid]
        given = part.name if part.codes is None else f"{part.name}_given"
        graph.input.append(helper.make_tensor_value_info(given, TensorProto.FLOAT, shape))
        if part.codes is None:
            continue
        how = [f"{part.name}/scale", f"{part.name}/zero"]
        for name, value in zip(how, (part.codes.scale, part.codes.zero_point), strict=True):
            graph.initializer.append(numpy_helper.from_array(value, name))
        graph.node.append(helper.make_node("QuantizeLinear", [given, *how], [part.codes.name], axis=1))
        graph.node.append(helper.make_node("DequantizeLinear", [part.codes.name, *how], [part.name], axis=1))
    editor = GraphEditor(graph, "head")
    distance = append_distance(editor, parts, form, precision)
    patches = parts[0].grid[0] * parts[0].grid[1]
    graph.output.append(helper.make_tensor_value_info(distance, TensorProto.FLOAT, [patches, "N"]))
    for name, values in editor.large.items():
        graph.initializer.append(numpy_helper.from_array(values, name))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    return model, editor


def memory_head(
    parts: Sequence[Part], form: Nearest, numbers: Precision, inspected: np.ndarray | None = None
) -> tuple[onnx.ModelProto, GraphEditor]:
    """A model of a memory's distance stage, from the parts to `(N, P)` and the weights; and its editor."""
    graph = onnx.GraphProto(name="head")
    for part in parts:
        graph.input.append(helper.make_tensor_value_info(part.name, TensorProto.FLOAT, ["N", part.dims, *part.grid]))
    editor = GraphEditor(graph, "head")
    embedding = EmbeddingGraph(
        onnx.ModelProto(), tuple(parts), Reduction(None, None), (1, 1), numbers.name, numbers.target
    )
    appended = append_nearest(editor, embedding, form, inspected)
    patches = parts[0].grid[0] * parts[0].grid[1]
    graph.output.append(helper.make_tensor_value_info(appended.distance, TensorProto.FLOAT, ["N", patches]))
    if appended.weight is not None:
        graph.output.append(helper.make_tensor_value_info(appended.weight, TensorProto.FLOAT, ["N", 1, 1]))
    for name, values in editor.large.items():
        graph.initializer.append(numpy_helper.from_array(values, name))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model, editor


def run(parts: Sequence[Part], form: Form, precision: str, values: Sequence[np.ndarray]) -> np.ndarray:
    """Distances `(N, h, w)` of images, given by their parts."""
    model, _ = head(parts, form, precision)
    feeds = {given.name: value for given, value in zip(model.graph.input, values, strict=True)}
    (distance,) = open_session(model.SerializeToString(), "cpu").session.run(None, feeds)
    return distance.T.reshape(-1, *parts[0].grid)
