"""Kept statistics as a file: complete enough to add images to, to merge, and to make a model of.

The file is a `.npz` (a zip of NumPy arrays, readable by `numpy.load`) with the statistics, the embedding graph that
gave the vectors, and the recipe. Machines that never meet can merge their files, and a model can learn from new images
without its old ones and without torch. The file is written and read in pieces, so wide embeddings need no second copy.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from padim_edge_artifact import archives
from padim_edge_artifact.both import Both
from padim_edge_artifact.errors import ArtifactError
from padim_edge_artifact.evidence import CELLS, Evidence
from padim_edge_artifact.external_data import check_graph, tensor_names
from padim_edge_artifact.files import replacing
from padim_edge_artifact.memory import Memory
from padim_edge_artifact.preprocessing import MOST_SIDE
from padim_edge_artifact.recipe import CodesRecord, Kept, PartRecord, Progress, Recipe
from padim_edge_artifact.reference import Likeness, Seen
from padim_edge_artifact.schema import MOST_IMAGES, Whole, decode, read_json, shown
from padim_edge_artifact.statistics import Statistics

__all__ = [
    "KEPT_VERSION",
    "CodesRecord",
    "Kept",
    "PartRecord",
    "Progress",
    "Recipe",
    "pack_kept",
    "read_kept",
    "write_kept",
]

KEPT_VERSION = 6
"""Version of the statistics file; a reader refuses every other one."""

_CHUNK = 64
"""Number of patches written at a time."""

_BESIDE = "beside_"
"""Beginning of the names of a memory's arrays where Gaussians stand in the same file."""

_FLOAT64, _FLOAT32, _INT64, _UINT16, _UINT8 = (np.dtype(kind) for kind in ("<f8", "<f4", "<i8", "<u2", "u1"))


@dataclass(frozen=True)
class _Header:
    """Header of the file."""

    count: Annotated[int, Whole(0, MOST_IMAGES)]
    grid: tuple[Annotated[int, Whole(1, MOST_SIDE)], Annotated[int, Whole(1, MOST_SIDE)]]
    recipe: Recipe
    likeness: Likeness
    progress: Progress | None


def write_kept(path: Path, kept: Kept) -> None:
    """Write the file whole or not at all; the same content always gives the same bytes.

    Raises:
        PadimEdgeError: It cannot be written.
    """
    with replacing(path) as unfinished:
        pack_kept(unfinished, kept)


def pack_kept(file: Path, kept: Kept) -> None:
    """Write the content of a statistics file into an unfinished file.

    Raises:
        OSError: It cannot be written.
    """
    statistics, seen = kept.statistics, kept.seen
    header = {
        "version": KEPT_VERSION,
        "count": statistics.count,
        "grid": list(statistics.grid),
        "recipe": dataclasses.asdict(kept.recipe),
        "progress": None if kept.progress is None else dataclasses.asdict(kept.progress),
        "likeness": dataclasses.asdict(seen.likeness),
    }
    numbers = np.array([seen.count, *seen.brightness, *seen.contrast, seen.shift], np.float64)
    small = {
        "header": np.array(json.dumps(header, sort_keys=True)),
        "graph": np.frombuffer(kept.graph, np.uint8),
        "seen": numbers,
        "thumbnails": seen.total,
        "thumbnail_squares": seen.squares,
        "fingerprints": kept.evidence.fingerprints,
        "named": kept.evidence.named,
    }
    own: dict[str, Statistics | Memory] = {}
    if isinstance(statistics, Both):
        own |= {"": statistics.gaussians, _BESIDE: statistics.memory}
    else:
        own[""] = statistics
    with zipfile.ZipFile(file, "w", allowZip64=True) as archive:
        _write_arrays(archive, small)
        for prefix, each in own.items():
            _write_moments(archive, prefix, each)


def _write_arrays(archive: zipfile.ZipFile, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    for name, values in arrays.items():
        with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
            npy.write_array(file, np.asarray(values, order="C"), allow_pickle=False)


def _write_moments(archive: zipfile.ZipFile, prefix: str, statistics: Statistics | Memory) -> None:
    """Write Gaussians, or a memory, under names that begin with `prefix`."""
    arrays: dict[str, npt.NDArray[Any]] = {"mean": statistics.mean}
    if isinstance(statistics, Memory):
        arrays |= {
            "fold_of": statistics.fold_of,
            "patches": statistics.patches,
            "lengths": np.array([len(each) for each in statistics.vectors], np.int64),
            "vectors": np.concatenate(statistics.vectors),
            "weights": np.concatenate(statistics.weights),
        }
        if prefix:
            arrays["grid"] = np.array(statistics.grid, np.int64)
    _write_arrays(archive, {f"{prefix}{name}": values for name, values in arrays.items()})
    rows, columns = np.tril_indices(statistics.dims)
    with archive.open(f"{prefix}scatter.npy", "w", force_zip64=True) as file:
        shape = (len(statistics.mean), len(rows))
        npy.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
        for start in range(0, len(statistics.mean), _CHUNK):
            file.write(np.ascontiguousarray(statistics.scatter[start : start + _CHUNK, rows, columns]).data)


def read_kept(path: Path) -> Kept:
    """Read what `write_kept` wrote.

    Nothing is allocated before the file proves that it holds as much.

    Raises:
        ArtifactError: The file is missing, damaged, not statistics, or of another version; or its values or its graph
            cannot be those of a fit.
    """
    with archives.open_archive(path, "statistics file", "the .npz that padim-edge kept") as archive:
        header = read_json(archives.read_text(archive, "header"), "the header")
        version = header.get("version") if isinstance(header, dict) else None
        if type(version) is int and version == KEPT_VERSION:
            return _read(archive, decode(_Header, header, "header"))
    raise ArtifactError(
        f"{path} holds statistics of version {shown(version)}, expected {KEPT_VERSION}; fit again with this padim-edge"
    )


def _read(archive: zipfile.ZipFile, header: _Header) -> Kept:
    recipe, grid = header.recipe, header.grid
    graph = archives.read_array(archive, "graph", _UINT8, 1).tobytes()
    _check_recipe(recipe, graph)
    evidence = Evidence(
        archives.read_array(archive, "fingerprints", _UINT16, 2), archives.read_array(archive, "named", _INT64, 1)
    )
    if evidence.fingerprints.shape != (len(evidence.named), CELLS) or len(evidence.named) > header.count:
        raise ValueError("its evidence has other shapes than its header says")
    statistics: Statistics | Memory | Both
    if recipe.method.bank is not None:
        statistics = _memory(archive, "", header.count, grid)
    else:
        mean = archives.read_array(archive, "mean", _FLOAT64, 2)
        statistics = Statistics(header.count, mean, archives.read_triangles(archive, "scatter", *mean.shape), grid)
    dims = [statistics.dims]
    if recipe.method.beside is not None:
        high, wide = archives.read_array(archive, f"{_BESIDE}grid", _INT64, 1, length=2).tolist()
        assert isinstance(statistics, Statistics), "a memory stands beside Gaussians"
        statistics = Both(statistics, _memory(archive, _BESIDE, header.count, (high, wide)))
        dims.append(statistics.memory.dims)
    if not isinstance(statistics, Statistics) and statistics.count != len(evidence.named):
        raise ValueError("its memory and its evidence are of different numbers of images")
    grids = [grid, *([statistics.memory.grid] if isinstance(statistics, Both) else [])]
    for parts, wanted, cells in zip((recipe.parts, recipe.beside), dims, grids, strict=False):
        if not parts or sum(part.dims for part in parts) != wanted or parts[0].grid != cells:
            raise ValueError("its statistics have other dimensions or another grid than its graph")
    return Kept(recipe, graph, statistics, _seen(archive, header), evidence, header.progress)


def _check_recipe(recipe: Recipe, graph: bytes) -> None:
    """Hold recipe and embedding graph against each other."""
    check_graph(graph, None)
    inputs, outputs = tensor_names(graph)
    parts = (*recipe.parts, *recipe.beside)
    if inputs != [recipe.method.preprocessing.input_name] or not {part.name for part in parts} <= set(outputs):
        raise ValueError("its graph has other inputs or outputs than its recipe says")
    if len(recipe.backbone.channels) != len(recipe.method.layers):
        raise ValueError("its recipe names more or fewer channels than layers")
    for part in parts:
        if part.codes is not None and not len(part.codes.scale) == len(part.codes.zero_point) == part.dims:
            raise ValueError(f"the codes of {part.name!r} have another length than its dimensions")


def _seen(archive: zipfile.ZipFile, header: _Header) -> Seen:
    total, squares = (archives.read_array(archive, name, _FLOAT64, 2) for name in ("thumbnails", "thumbnail_squares"))
    numbers = archives.read_array(archive, "seen", _FLOAT64, 1, finite=False, length=6)
    if total.shape != header.grid or squares.shape != header.grid:
        raise ValueError("its thumbnails have another shape than its header says")
    count, shift = float(numbers[0]), float(numbers[5])
    if not (0 <= count <= MOST_IMAGES and 0 <= shift <= MOST_SIDE and count.is_integer() and shift.is_integer()):
        raise ValueError("its numbers of images or patches are none")
    if count and not np.isfinite(numbers).all():
        raise ValueError("its ranges of brightness or contrast are not finite")
    if np.isnan(numbers).any():
        raise ValueError("its ranges of brightness or contrast are no numbers")
    return Seen(
        int(count),
        total,
        (float(numbers[1]), float(numbers[2])),
        (float(numbers[3]), float(numbers[4])),
        int(shift),
        squares,
        header.likeness,
    )


def _memory(archive: zipfile.ZipFile, prefix: str, count: int, grid: tuple[int, int]) -> Memory:
    mean = archives.read_array(archive, f"{prefix}mean", _FLOAT64, 2)
    fold_of, patches, lengths, weights = (
        archives.read_array(archive, f"{prefix}{name}", _INT64, 1)
        for name in ("fold_of", "patches", "lengths", "weights")
    )
    vectors = archives.read_array(archive, f"{prefix}vectors", _FLOAT32, 2)
    if (lengths < 0).any() or (lengths > len(vectors)).any() or lengths.sum() != len(vectors):
        raise ValueError("its memory has another length than its header says")
    if len(lengths) > len(mean) or len(weights) != len(vectors):
        raise ValueError("its memory has other folds or weights than its header says")
    ends = np.cumsum(lengths)[:-1]
    parts, counts = tuple(np.split(vectors, ends)), tuple(np.split(weights, ends))
    scatter = archives.read_triangles(archive, f"{prefix}scatter", *mean.shape)
    return Memory(count, grid, fold_of, patches, mean, scatter, parts, counts)
