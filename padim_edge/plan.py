"""Memory and disk space of a fit and its model, estimated before the work starts and refused where missing."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.kept import Kept
from padim_edge_artifact.method import Precision
from padim_edge_learn.accumulate import BATCH, side_by_side
from padim_edge_learn.held_out import GROUP_BYTES, LARGEST_GROUP
from padim_edge_model.graph import EmbeddingGraph, of_kept
from padim_edge_model.whitening import exact_numbers, levels_of
from padim_edge_runtime.memory import available_memory

__all__ = ["Needs", "model_bytes", "needs", "require_memory", "require_room"]

_BYTES = {"fp32": 4, "fp16": 2, "int8": 1}

_REST = 300_000
"""Bytes of nodes, map constants and metadata with calibration scores; an upper bound."""

_PROGRAM = 700_000_000
"""Bytes of Python with torch, onnxruntime and the like."""

_ALIVE = 4
"""Number of activations of the largest size that onnxruntime holds at a time."""

_SPARE = 0.95
"""Share of the free memory that may be planned for."""


@dataclass(frozen=True)
class Needs:
    """Estimated bytes, rather too many than too few."""

    statistics: int
    """Mean and scatter of all patches in float64."""
    memory: int
    """Peak of the whole process."""
    model: int
    """Size of the model and its data file."""
    patches: int
    """Number of patches."""
    dims: int
    """Number of embedding dimensions."""

    def __str__(self) -> str:
        return (
            f"needs about {_size(self.memory)} of memory ({_size(self.statistics)} of them statistics of "
            f"{self.patches} patches with {self.dims} dimensions); the model will take about {_size(self.model)}"
        )

    def times(self, processes: int) -> Needs:
        """Return the needs of several processes on one machine that fit parts of the images."""
        return replace(self, memory=processes * self.memory, statistics=processes * self.statistics)


def needs(kept: Kept, precision: Precision, images: int) -> Needs:
    """Estimate a fit that begins with `kept`, and the model made of it.

    Args:
        kept: Statistics of no image, as `start.begin` makes them.
        precision: Precision of the model.
        images: Number of good images to fit on.
    """
    graph = of_kept(kept)
    patches, dims = int(np.prod(graph.grid)), graph.dims
    statistics = 8 * patches * dims * (dims + 1)
    model = model_bytes(graph, precision, images)
    vectors = 4 * BATCH * patches * dims
    held_out = 3 * min(GROUP_BYTES, 4 * min(LARGEST_GROUP, images) * patches * dims) + vectors
    decoded = 3 * 3 * BATCH * int(np.prod(graph.size))  # a batch, and two that are decoded ahead
    fitting = vectors + decoded + _largest_activation(graph) * _ALIVE * side_by_side(graph.size)
    # The constants exist as they were computed, as they are written, and as onnxruntime lays them out. Judging images
    # outside the fit needs those of a fit without them, and of rounded ones those of the fit as well.
    constants = 4 * model // _BYTES[precision.name]
    copies = 2 if precision.name == "fp32" else 3
    memory = _PROGRAM + statistics + max(fitting, copies * constants + held_out)
    return Needs(statistics, memory, model, patches, dims)


_SMALLER = "fewer --dims, a smaller --size, --layers without the finest, or a machine with more"


def require_memory(found: Needs) -> None:
    """Refuse a fit that this machine's free memory cannot hold.

    Raises:
        PadimEdgeError: The memory is too small; the sentence names the options that make the fit smaller.
    """
    memory = available_memory()
    if memory is not None and found.memory > _SPARE * memory:
        raise PadimEdgeError(f"this {found}, and {_size(memory)} of memory are free here; choose {_SMALLER} memory")


def require_room(found: Needs, output: Path) -> None:
    """Refuse a model that the disk of `output` cannot hold.

    Raises:
        PadimEdgeError: The disk is too full; the sentence names the options that make the model smaller.
    """
    folder = output.resolve().parent
    room = shutil.disk_usage(folder).free if folder.is_dir() else found.model
    if found.model > room:
        raise PadimEdgeError(
            f"the model will take about {_size(found.model)}, and {_size(room)} are free on the disk of {folder}; "
            f"choose --precision int8, --rank 32, {_SMALLER} room"
        )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _largest_activation(graph: EmbeddingGraph) -> int:
    """Return the bytes of one image's largest activation."""
    model = onnx.shape_inference.infer_shapes(graph.model)
    sizes = [
        int(np.prod([each.dim_value or 1 for each in value.type.tensor_type.shape.dim]))
        for value in model.graph.value_info
    ]
    return 4 * max(sizes, default=0)


def model_bytes(graph: EmbeddingGraph, precision: Precision, images: int) -> int:
    """Estimate the bytes of a model, rather too many than too few."""
    weights = sum(numpy_helper.to_array(each).size for each in graph.model.graph.initializer)
    each = _BYTES[precision.name]
    # int8: biases, scales and what is not a convolution stay larger.
    backbone = weights * each * (1.1 if precision.name == "int8" else 1)
    patches, dims = int(np.prod(graph.grid)), graph.dims
    means = 4 * sum(
        int(np.prod(max(part.grid for part in group))) * sum(part.dims for part in group)
        for group in levels_of(graph.parts)
    )
    if precision.diagonal:
        head = 2 * 4 * patches * dims
    else:
        rank = precision.rank if precision.rank is not None else max(images - 1, 1)
        low = patches * rank * dims
        ranked = precision.rank is not None or low < exact_numbers(graph.parts)
        head = (low if ranked else exact_numbers(graph.parts)) * each
        head += 4 * patches * (dims + 1) if ranked else means
        if precision.name == "int8":  # a scale and a bias a column
            head += 2 * (4 * patches * rank if ranked else means)
    return int(backbone + head + _REST)
