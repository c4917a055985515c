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
from padim_edge_artifact.memory import FOLDS
from padim_edge_artifact.method import Bank, Method, Precision
from padim_edge_export import strips
from padim_edge_learn.accumulate import batch_size, side_by_side
from padim_edge_learn.held_out import GROUP_BYTES, LARGEST_GROUP
from padim_edge_learn.turns import turned
from padim_edge_model.graph import EmbeddingGraph, of_kept
from padim_edge_model.memory import buffered_patches, candidates_of, prototypes_of
from padim_edge_model.nearest import most_extra
from padim_edge_model.whitening import exact_numbers, levels_of
from padim_edge_runtime.memory import available_memory

__all__ = [
    "Needs",
    "Outputs",
    "model_bytes",
    "most_prototypes",
    "needs",
    "require_memory",
    "require_memory_to_leave_out",
    "require_room",
]

_BYTES = {"fp32": 4, "fp16": 2, "int8": 1}

_REST = 300_000
"""Bytes of nodes, small constants and metadata; an upper bound."""

_EACH_IMAGE = 300
"""Bytes of metadata for each good image: its fingerprint and its calibration score."""

_PROGRAM = 1_050_000_000
"""Bytes of Python with torch, onnxruntime and the like, and of a small backbone while it was exported."""

_ALIVE = 4
"""Number of activations of the largest size that onnxruntime holds at a time."""

_COPIES = 3
"""Number of copies of a memory's patches while they are thinned: joined, whitened, and those that are taken."""

_MODELS = 3
"""Number of models of a memory at a time: the one that is written, and two that its images are judged by."""

_UNEVEN = 2
"""Number of patches of the largest fold of a memory, relative to the mean one."""

_SPARE = 0.95
"""Share of the free memory that may be planned for."""


@dataclass(frozen=True)
class Outputs:
    """Files that will be written, whose disks must have room."""

    model: Path | None = None
    """Model file; `None` for none."""
    statistics: Path | None = None
    """Statistics file; `None` for none."""
    copies: int = 1
    """Number of statistics files at a time: 2 where a checkpoint stands until the final one does."""


@dataclass(frozen=True)
class Needs:
    """Estimated bytes, rather too many than too few."""

    statistics: int
    """Mean and scatter of all patches in float64; for a memory, its moments and its candidates."""
    memory: int
    """Peak of the whole process."""
    model: int
    """Size of the model and its data file."""
    patches: int
    """Number of patches."""
    dims: int
    """Number of embedding dimensions."""
    prototypes: int | None = None
    """Largest number of prototypes of a memory; `None` for Gaussians."""
    activation: int = 0
    """Largest activation of one image."""
    file: int = 0
    """Size of the statistics file."""

    def __str__(self) -> str:
        kept = f"statistics of {self.patches} patches" if self.prototypes is None else "candidates for prototypes"
        model = "" if self.prototypes is None else f" with {self.prototypes} prototypes"
        return (
            f"needs about {_size(self.memory)} of memory ({_size(self.statistics)} of them {kept} with {self.dims} "
            f"dimensions); the model{model} will take about {_size(self.model)}{self._whole}"
        )

    @property
    def _whole(self) -> str:
        if self.activation <= strips.LARGEST:
            return ""
        return (
            f"; one activation takes {_size(self.activation)}, because the model needs all of it at once, so a device "
            "needs several times that"
        )

    def times(self, processes: int) -> Needs:
        """Return the needs of several processes on one machine that fit parts of the images."""
        return replace(self, memory=processes * self.memory, statistics=processes * self.statistics)

    @property
    def smaller(self) -> str:
        """Options that make these needs smaller, in words."""
        fewer = "--layers without the finest" if self.prototypes is None else "fewer --prototypes"
        return f"fewer --dims, a smaller --size, {fewer}, or a machine with more"


def needs(kept: Kept, precision: Precision, images: int) -> Needs:
    """Estimate a fit that begins with `kept`, and the model made of it.

    Args:
        kept: Statistics of no image, as `start.begin` makes them.
        precision: Precision of the model.
        images: Number of good images to fit on.
    """
    graph = of_kept(kept)
    method = replace(kept.recipe.method, precision=precision)
    model = model_bytes(graph, method, images)
    found = [_needs(own, head, images, model) for own, head in zip(graph.heads, method.heads, strict=True)]
    if len(found) == 1:
        return found[0]
    gaussians, memory = found
    return replace(
        gaussians,
        statistics=gaussians.statistics + memory.statistics,
        file=gaussians.file + memory.file,
        memory=gaussians.memory + memory.memory - _PROGRAM,
        prototypes=memory.prototypes,
    )


def _needs(graph: EmbeddingGraph, method: Method, images: int, model: int) -> Needs:
    """Estimate what one kind of distance needs, in a model of so many bytes."""
    # The constants exist as they were computed, as they are written, and as onnxruntime lays them out.
    constants = 4 * model // _BYTES[method.precision.name]
    size = graph.size
    decoded = 3 * 3 * batch_size(size) * int(np.prod(size))  # a batch, and two that are decoded ahead
    activation = _largest_activation(graph)
    running = activation * _ALIVE * side_by_side(size)
    if method.bank is None:
        found = _needs_of_gaussians(graph, method, images, model, (constants, decoded + running))
    else:
        found = _needs_of_memory(graph, method, images, model, (constants, decoded, running))
    return replace(found, activation=activation)


def _needs_of_gaussians(graph: EmbeddingGraph, method: Method, images: int, model: int, rest: tuple[int, int]) -> Needs:
    patches, dims = int(np.prod(graph.grid)), graph.dims
    constants, running = rest
    statistics = 8 * patches * dims * (dims + 1)
    vectors = 4 * batch_size(graph.size) * patches * dims
    held_out = 3 * min(GROUP_BYTES, 4 * min(LARGEST_GROUP, images) * patches * dims) + vectors
    # Judging images outside the fit needs the constants of a fit without them, and of rounded ones those of the fit.
    copies = 2 if method.precision.name == "fp32" else 3
    memory = _PROGRAM + statistics + max(vectors + running, copies * constants + held_out)
    file = 4 * patches * dims * (dims + 3) + _REST  # means and lower triangles in float64
    return Needs(statistics, memory, model, patches, dims, file=file)


def _needs_of_memory(
    graph: EmbeddingGraph, method: Method, images: int, model: int, rest: tuple[int, int, int]
) -> Needs:
    bank, dims = method.bank, graph.dims
    assert bank is not None
    constants, decoded, running = rest
    patches, positions = int(np.prod(graph.grid)), _positions(bank, graph.size)
    total, prototypes = images * positions * patches, most_prototypes(graph, bank, images)
    share = -(-total // FOLDS)
    own = candidates_of(bank, share)
    candidates = min(FOLDS * own, total)
    row = 4 * dims + 24  # a vector, the patches that it stands for, its distance and its owner
    statistics = 8 * FOLDS * dims * (dims + 1) + row * candidates
    vectors = 4 * batch_size(graph.size) * patches * dims
    room = buffered_patches(graph.grid, dims)
    buffered = max(room, 2 * own) + max(room // 4, patches)  # what comes last is added before they are thinned
    # The embeddings of a batch are joined; those of a few images are laid out by patch and centred in float64.
    fitting = decoded + running + (positions + 3) * vectors + _COPIES * row * min(buffered, _UNEVEN * share, total)
    choosing = _COPIES * row * candidates + 4 * dims * prototypes
    if bank.neighbours > 1:
        choosing += 16 * 1024 * prototypes
    judging = _MODELS * (constants + running + 4 * patches * side_by_side(graph.size) * (4 * dims + 1024))
    memory = _PROGRAM + statistics + max(fitting, choosing + judging)
    return Needs(statistics, memory, model, patches, dims, prototypes, file=statistics + _REST)


def most_prototypes(graph: EmbeddingGraph, bank: Bank, images: int) -> int:
    """Return the largest number of prototypes of a memory of so many images."""
    return prototypes_of(bank, images * _positions(bank, graph.size) * int(np.prod(graph.grid)))


def _positions(bank: Bank, size: tuple[int, int]) -> int:
    """Return the number of positions that each image is learned in."""
    return 1 + sum(1 for _ in turned([np.empty((*size, 3), np.uint8)])) if bank.turned else 1


def require_memory_to_leave_out(kept: Kept) -> None:
    """Refuse models without some of the images where they do not fit into the free memory, beside the statistics.

    Raises:
        PadimEdgeError: The memory is too small.
    """
    dims, patches = kept.statistics.dims, int(np.prod(kept.statistics.grid))
    if kept.recipe.method.bank is not None:
        return  # folds are left out without a copy
    needed = 8 * patches * dims * (dims + 1) + 3 * 4 * patches * dims * dims
    memory = available_memory()
    if memory is not None and needed > _SPARE * memory:
        raise PadimEdgeError(
            f"a model without some of the images needs about {_size(needed)} more of memory, and {_size(memory)} are "
            "free here; choose fewer --dims or a smaller --size, or leave it out with --fast"
        )


def require_memory(found: Needs) -> None:
    """Refuse a fit that this machine's free memory cannot hold.

    Raises:
        PadimEdgeError: The memory is too small; the sentence names the options that make the fit smaller.
    """
    memory = available_memory()
    if memory is not None and found.memory > _SPARE * memory:
        raise PadimEdgeError(
            f"this {found}, and {_size(memory)} of memory are free here; choose {found.smaller} memory"
        )


def require_room(found: Needs, outputs: Outputs) -> None:
    """Refuse files that their disks cannot hold.

    Raises:
        PadimEdgeError: A disk is too full; the sentence names the options that make the files smaller.
    """
    wanted: dict[int, int] = {}
    rank = "--rank 32, " if found.prototypes is None else ""
    for what, path, size, remedy in (
        ("the model", outputs.model, found.model, f"choose --precision int8, {rank}"),
        ("the statistics", outputs.statistics, outputs.copies * found.file, "choose "),
    ):
        folder = None if path is None else path.resolve().parent
        if folder is None or not folder.is_dir():
            continue
        disk, room = folder.stat().st_dev, shutil.disk_usage(folder).free
        wanted[disk] = wanted.get(disk, 0) + size
        if wanted[disk] > room:
            before = "" if wanted[disk] == size else f", and {_size(wanted[disk] - size)} more will be written there"
            raise PadimEdgeError(
                f"{what} will take about {_size(size)}{before}, and {_size(room)} are free on the disk of {folder}; "
                f"{remedy}{found.smaller} room"
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


def model_bytes(graph: EmbeddingGraph, method: Method, images: int) -> int:
    """Estimate the bytes of a model, rather too many than too few.

    Args:
        graph: Embedding graph in any precision.
        method: Method of the fit, in the precision of the model.
        images: Number of good images to fit on.
    """
    precision = method.precision
    weights = sum(numpy_helper.to_array(each).size for each in graph.model.graph.initializer)
    # int8: biases, scales and what is not a convolution stay larger.
    backbone = weights * _BYTES[precision.name] * (1.1 if precision.name == "int8" else 1)
    heads = sum(
        _gaussian_bytes(own, each.precision, images) if each.bank is None else _memory_bytes(own, each, images)
        for own, each in zip(graph.heads, method.heads, strict=True)
    )
    (height, width), (h, w) = method.preprocessing.size, graph.grid
    return int(backbone + heads + 4 * (height * h + width * w) + _EACH_IMAGE * images + _REST)


def _gaussian_bytes(graph: EmbeddingGraph, precision: Precision, images: int) -> int:
    """Return the bytes of the constants of Gaussians."""
    each, patches, dims = _BYTES[precision.name], int(np.prod(graph.grid)), graph.dims
    if precision.diagonal:
        return 2 * 4 * patches * dims
    means = 4 * sum(
        int(np.prod(max(part.grid for part in group))) * sum(part.dims for part in group)
        for group in levels_of(graph.parts)
    )
    rank = precision.rank if precision.rank is not None else max(images - 1, 1)
    low = patches * rank * dims
    ranked = precision.rank is not None or low < exact_numbers(graph.parts)
    head = (low if ranked else exact_numbers(graph.parts)) * each
    head += 4 * patches * (dims + 1) if ranked else means
    if precision.name == "int8":  # a scale and a bias a column
        head += 2 * (4 * patches * rank if ranked else means)
    return head


def _memory_bytes(graph: EmbeddingGraph, method: Method, images: int) -> int:
    """Return the bytes of the prototypes and the whitening, at most."""
    bank, dims = method.bank, graph.dims
    assert bank is not None
    prototypes = most_prototypes(graph, bank, images)
    rows = dims + most_extra(method.precision, dims)
    neighbours = 8 * prototypes * bank.neighbours if bank.neighbours > 1 else 0
    return prototypes * rows * _BYTES[method.precision.name] + 4 * dims * (rows + 1) + neighbours
