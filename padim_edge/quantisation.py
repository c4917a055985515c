"""The embedding graph in other number types; int8 observes good images for its scales and weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx

from padim_edge_artifact import PadimEdgeError, names
from padim_edge_artifact.method import Precision
from padim_edge_export import rewrites
from padim_edge_export.quantise import integers
from padim_edge_export.quantise.equalise import equalise, factors
from padim_edge_export.quantise.half import halve
from padim_edge_export.quantise.integers import LARGEST_WEIGHT, Range
from padim_edge_export.quantise.rounding import Moments, round_weights, tap
from padim_edge_learn.accumulate import batches, side_by_side
from padim_edge_model.graph import EmbeddingGraph
from padim_edge_model.graph_editing import copied
from padim_edge_runtime.devices.providers import open_session

__all__ = ["in_precision", "observed"]

_OBSERVED, _FEWEST, _PIXELS = 64, 8, 64 * 1024 * 1024
"""Largest and smallest number of good images whose activations an int8 backbone is made for, and the number of their
pixels from which they are fewer."""

_BATCH = 8

Frames = Sequence[npt.NDArray[np.uint8]]


def observed(size: tuple[int, int]) -> int:
    """Return the number of good images of (H, W) pixels, spread over all of them, that an int8 backbone is made for."""
    return max(_FEWEST, min(_OBSERVED, _PIXELS // (size[0] * size[1])))


def in_precision(
    graph: EmbeddingGraph,
    precision: Precision,
    frames: Iterable[npt.NDArray[np.uint8]],
    device: str,
    *,
    coded: bool = True,
) -> EmbeddingGraph:
    """Return a copy of the graph in the number types of `precision`.

    Args:
        graph: Graph in float32, as `padim_edge_export.embedding.build` makes it; it is not changed.
        precision: Number types and target; the form of the Gaussians does not matter here.
        frames: Good images, `(H, W, 3)` uint8, best as many as `observed` says; only int8 reads them.
        device: Device that observes them.
        coded: Whether int8 rounds the parts of the Gaussians to codes, as `integers.quantise` says.

    Raises:
        PadimEdgeError: The precision is int8 and there is no image to observe.
    """
    graph = replace(graph, model=copied(graph.model))
    if precision.name == "fp16":
        rewrites.pool_by_windows(graph.model)
        return halve(graph)
    rewrites.fold_scale(graph.model)
    if precision.name == "fp32":
        rewrites.pool_by_windows(graph.model)
        return graph
    seen = list(frames)
    if not seen:
        raise PadimEdgeError("none of the good images that were tried can be read; expected images to fit on")
    ranges = _ranges(graph, seen, device)
    factor = factors(graph, {name: np.maximum(-each.low, each.high) for name, each in ranges.items()})
    graph = equalise(graph, factor)
    ranges = {name: each.times(factor[name]) if name in factor else each for name, each in ranges.items()}
    rounded = round_weights(graph, _moments(graph, seen, device), LARGEST_WEIGHT[precision.target])
    found = integers.quantise(graph, ranges, precision.target, rounded, coded=coded)
    # onnxruntime refuses a pool before codes of several scales.
    coded_parts = any(part.codes is not None for part in found.parts)
    rewrites.pool_by_windows(found.model, [part.name for part in found.beside] if coded_parts else None)
    return found


def _ranges(graph: EmbeddingGraph, frames: Frames, device: str) -> dict[str, Range]:
    model, outputs = integers.probe(graph)
    ranges: dict[str, Range] = {}
    for found in _run(model, frames, device):
        for name, (low, high) in outputs.items():
            seen = Range(found[low].astype(np.float64), found[high].astype(np.float64))
            ranges[name] = seen.union(ranges.get(name, seen))
    return ranges


def _moments(graph: EmbeddingGraph, frames: Frames, device: str) -> Moments:
    moments = Moments(graph)
    for found in _run(tap(graph), frames, device):
        moments.add(found)
    return moments


def _run(model: onnx.ModelProto, frames: Frames, device: str) -> Iterable[dict[str, npt.NDArray[np.float32]]]:
    """Run the model on batches of frames; yield all outputs of each batch, by name."""
    session = open_session(model.SerializeToString(), device).session
    outputs = [output.name for output in model.graph.output]
    height, width = frames[0].shape[:2]
    for batch in batches(frames, min(_BATCH, side_by_side((height, width)))):
        yield dict(zip(outputs, session.run(outputs, {names.IMAGE: np.stack(batch)}), strict=True))
