"""Kept statistics as a file: complete enough to add images to, to merge, and to make a model of.

The file is a `.npz` (a zip of NumPy arrays, readable by `numpy.load`) with the statistics, the embedding graph that
gave the vectors, and the recipe. Machines that never meet can merge their files, and a model can learn from new images
without its old ones and without torch. The file is written and read in pieces, so wide embeddings need no second copy.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from padim_edge_artifact.both import Both
from padim_edge_artifact.errors import ArtifactError, PadimEdgeError
from padim_edge_artifact.evidence import CELLS, Evidence
from padim_edge_artifact.files import replacing
from padim_edge_artifact.memory import Memory
from padim_edge_artifact.metadata import Backbone, Reduction, decode
from padim_edge_artifact.method import Method
from padim_edge_artifact.reference import Likeness, Seen
from padim_edge_artifact.statistics import Statistics

__all__ = ["KEPT_VERSION", "CodesRecord", "Kept", "PartRecord", "Progress", "Recipe", "read_kept", "write_kept"]

KEPT_VERSION = 6
"""Version of the statistics file; a reader refuses every other one."""

_CHUNK = 64
"""Number of patches read or written at a time."""

_BESIDE = "beside_"
"""Beginning of the names of a memory's arrays where Gaussians stand in the same file."""


@dataclass(frozen=True)
class CodesRecord:
    """Stored form of `padim_edge_model.graph.Codes`."""

    name: str
    scale: tuple[float, ...]
    zero_point: tuple[int, ...]


@dataclass(frozen=True)
class PartRecord:
    """Stored form of `padim_edge_model.graph.Part`."""

    name: str
    dims: int
    grid: tuple[int, int]
    codes: CodesRecord | None


@dataclass(frozen=True)
class Recipe:
    """Origin of statistics: everything besides the images that decides what they and a model of them are."""

    class_name: str
    """Name of the part, such as `bottle`."""
    created_by: str
    """Name and version of the program that exported the embedding graph."""
    method: Method
    """Options of the fit; its precision keeps exact Gaussians."""
    backbone: Backbone
    """Provenance of the backbone's weights."""
    reduction: Reduction
    """Kept channels or dimensions."""
    parts: tuple[PartRecord, ...]
    """Outputs of the embedding graph for the Gaussians, or for a memory alone, finest first."""
    beside: tuple[PartRecord, ...] = ()
    """Outputs of the embedding graph for a memory beside the Gaussians; empty without one."""


@dataclass(frozen=True)
class Progress:
    """Progress of an interrupted fit."""

    done: int
    """Number of images looked at, in the order of the list, unreadable ones included."""
    images: str
    """Digest of the list of images."""
    unreadable: tuple[tuple[str, str], ...] = ()
    """Name and error sentence of each image that could not be read."""


@dataclass(frozen=True, eq=False)
class Kept:
    """Statistics with all that is needed to add to them or to make a model of them."""

    recipe: Recipe
    graph: bytes = field(repr=False)
    """The embedding graph as ONNX: `image` -> the parts."""
    statistics: Statistics | Memory | Both
    """Gaussians of the patches; a memory where the method has a bank; both where it has a memory beside them."""
    seen: Seen
    evidence: Evidence = field(default_factory=Evidence.nothing)
    """Fingerprints and groups of the images."""
    progress: Progress | None = None
    """Progress of the fit in a checkpoint; `None` after a finished fit."""

    @property
    def same(self) -> str:
        """Digest of the embedding graph, the preprocessing and the bank: equal for statistics that can be merged."""
        recipe = self.recipe
        found = hashlib.sha256(self.graph)
        frame = dataclasses.asdict(recipe.method.preprocessing)
        options = [frame, [dataclasses.asdict(part) for part in (*recipe.parts, *recipe.beside)]]
        options += [dataclasses.asdict(head.bank) for head in recipe.method.heads if head.bank is not None]
        found.update(json.dumps(options, sort_keys=True).encode())
        return found.hexdigest()

    @property
    def heads(self) -> tuple[Kept, ...]:
        """The same images for each kind of distance alone: the Gaussians, and the memory beside them."""
        if not isinstance(self.statistics, Both):
            return (self,)
        recipe, (gaussians, memory) = self.recipe, self.recipe.method.heads
        channels = dict(zip(gaussians.layers, recipe.backbone.channels, strict=True))
        of_memory = replace(
            recipe,
            method=memory,
            parts=recipe.beside,
            beside=(),
            backbone=replace(recipe.backbone, channels=tuple(channels[layer] for layer in memory.layers)),
            reduction=Reduction(tuple(range(self.statistics.memory.dims)), None),
        )
        return (
            replace(self, recipe=replace(recipe, method=gaussians, beside=()), statistics=self.statistics.gaussians),
            replace(self, recipe=of_memory, statistics=self.statistics.memory),
        )


def write_kept(path: Path, kept: Kept) -> None:
    """Write the file whole or not at all; the same content always gives the same bytes.

    Raises:
        PadimEdgeError: It cannot be written.
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
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", allowZip64=True) as archive:
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

    Raises:
        ArtifactError: The file is missing, damaged, not statistics, or of another version.
    """
    try:
        with path.open("rb") as content, zipfile.ZipFile(content) as archive:
            header: dict[str, Any] = json.loads(str(_array(archive, "header")))
            version = header.get("version")
            if version == KEPT_VERSION:
                return _read(archive, header)
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist; expected statistics kept by padim-edge") from None
    except (  # RuntimeError: a damaged flag that says "encrypted" or "compressed in an unknown way"
        AttributeError,
        EOFError,
        KeyError,
        NotImplementedError,
        OSError,
        PadimEdgeError,
        RuntimeError,
        SyntaxError,
        TypeError,
        ValueError,
        tokenize.TokenError,  # from numpy, which reads the header of an array as Python
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ArtifactError(
            f"{path} is not a readable statistics file ({error}); expected the .npz that padim-edge kept"
        ) from error
    raise ArtifactError(
        f"{path} holds statistics of version {version}, expected {KEPT_VERSION}; fit again with this padim-edge"
    )


def _read(archive: zipfile.ZipFile, header: dict[str, Any]) -> Kept:
    rows, columns = (int(side) for side in header["grid"])
    recipe, progress = decode(Recipe, header["recipe"], "recipe"), header["progress"]
    total, squares, numbers = (_array(archive, name) for name in ("thumbnails", "thumbnail_squares", "seen"))
    if numbers.shape != (6,) or total.shape != (rows, columns):
        raise ValueError("its arrays have other shapes than its header says")
    if squares.shape != total.shape:
        raise ValueError("its thumbnails and their squares have different shapes")
    evidence = Evidence(_array(archive, "fingerprints"), _array(archive, "named"))
    if evidence.fingerprints.dtype != np.uint16 or evidence.named.dtype != np.int64:
        raise ValueError("its evidence is not made of whole numbers")
    if evidence.fingerprints.shape != (len(evidence.named), CELLS) or evidence.named.ndim != 1:
        raise ValueError("its evidence has other shapes than its header says")
    statistics: Statistics | Memory | Both
    if recipe.method.bank is not None:
        statistics = _memory(archive, "", int(header["count"]), (rows, columns))
    else:
        mean = _mean(archive, "")
        scatter = _scatter(archive, "", *mean.shape)
        statistics = Statistics(int(header["count"]), mean, scatter, (rows, columns))
    if recipe.method.beside is not None:
        high, wide = _array(archive, f"{_BESIDE}grid").tolist()
        assert isinstance(statistics, Statistics), "a memory stands beside Gaussians"
        statistics = Both(statistics, _memory(archive, _BESIDE, int(header["count"]), (high, wide)))
    if not isinstance(statistics, Statistics) and statistics.count != len(evidence.named):
        raise ValueError("its memory and its evidence are of different numbers of images")
    seen = Seen(
        int(numbers[0]),
        total,
        (float(numbers[1]), float(numbers[2])),
        (float(numbers[3]), float(numbers[4])),
        int(numbers[5]),
        squares,
        decode(Likeness, header["likeness"], "likeness"),
    )
    graph = _array(archive, "graph")
    if graph.dtype != np.uint8:
        raise ValueError("its graph is not made of bytes")
    return Kept(
        recipe,
        graph.tobytes(),
        statistics,
        seen,
        evidence,
        None if progress is None else decode(Progress, progress, "progress"),
    )


def _mean(archive: zipfile.ZipFile, prefix: str) -> npt.NDArray[np.float64]:
    mean = _array(archive, f"{prefix}mean")
    if mean.ndim != 2 or mean.dtype != np.float64:
        raise ValueError("its arrays have other shapes than its header says")
    return mean


def _memory(archive: zipfile.ZipFile, prefix: str, count: int, grid: tuple[int, int]) -> Memory:
    mean = _mean(archive, prefix)
    fold_of, patches, lengths, weights, vectors = (
        _array(archive, f"{prefix}{name}") for name in ("fold_of", "patches", "lengths", "weights", "vectors")
    )
    if any(each.dtype != np.int64 for each in (fold_of, patches, lengths, weights)):
        raise ValueError("its memory has other types than expected")
    if lengths.ndim != 1 or (lengths < 0).any() or lengths.sum() != len(vectors) or vectors.dtype != np.float32:
        raise ValueError("its memory has another length than its header says")
    ends = np.cumsum(lengths)[:-1]
    parts, counts = tuple(np.split(vectors, ends)), tuple(np.split(weights, ends))
    return Memory(count, grid, fold_of, patches, mean, _scatter(archive, prefix, *mean.shape), parts, counts)


def _array(archive: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
    with archive.open(f"{name}.npy") as file:
        found: npt.NDArray[Any] = npy.read_array(file, allow_pickle=False)
        if file.read(1):  # reading to the end is what checks the sum
            raise ValueError(f"{name} is longer than its header says")
        return found


def _scatter(archive: zipfile.ZipFile, prefix: str, patches: int, dims: int) -> npt.NDArray[np.float64]:
    """Unpack `(P, D, D)` from its lower triangles."""
    rows, columns = np.tril_indices(dims)
    with archive.open(f"{prefix}scatter.npy") as file:
        if npy.read_magic(file) != (1, 0):
            raise ValueError("its scatter has another format")
        shape, fortran, kind = npy.read_array_header_1_0(file)
        if shape != (patches, len(rows)) or fortran or kind != np.dtype("<f8"):
            raise ValueError("its scatter has another shape than its mean")
        scatter = np.empty((patches, dims, dims))
        for start in range(0, patches, _CHUNK):
            part = scatter[start : start + _CHUNK]
            packed = np.frombuffer(_exactly(file, len(part) * len(rows) * 8), "<f8").reshape(len(part), -1)
            part[:, rows, columns] = packed
            part[:, columns, rows] = packed
        if file.read(1):
            raise ValueError("its scatter is longer than its header says")
    return scatter


def _exactly(file: IO[bytes], count: int) -> bytes:
    found = file.read(count)
    if len(found) != count:
        raise EOFError("its scatter is cut short")
    return found
