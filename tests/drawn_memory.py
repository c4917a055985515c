"""Drawn images of a part that lies anywhere, their embeddings, and memories of them: without a network.

A frame has 32 x 32 pixels and 8 x 8 patches. The embedding of a patch is its colour, its contrast and its slopes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from drawn_statistics import METHOD

from padim_edge_artifact import Memory
from padim_edge_artifact.method import Bank, Method, Precision
from padim_edge_model.memory import MemoryLearner, Nearest, fold_at

__all__ = ["DIMS", "GRID", "SIDE", "distances", "embedded", "learned", "method", "parts", "patches", "rows", "scores"]

SIDE = 32
GRID = (8, 8)
DIMS = 9

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


def parts(count: int, seed: int = 0, *, upright: bool = False) -> npt.NDArray[np.uint8]:
    """Frames `(count, 32, 32, 3)`: a bar with a band at any place and angle, on a ground of its own shade."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    found = []
    for _ in range(count):
        angle, (up, left) = 0.0 if upright else draw.uniform(0, 2 * np.pi), draw.uniform(-5, 5, 2)
        along = np.cos(angle) * (x - left) + np.sin(angle) * (y - up)
        across = np.cos(angle) * (y - up) - np.sin(angle) * (x - left)
        inside = (np.abs(along) < 10) & (np.abs(across) < 4)
        frame = np.full((SIDE, SIDE, 3), (60.0, 64.0, 70.0)) + draw.uniform(-4, 4)
        frame[inside] = (180, 150, 120)
        frame[inside & (np.abs(along - 4) < 2)] = (90, 110, 200)
        found.append((frame + draw.normal(0, 2, frame.shape)).round().clip(0, 255).astype(np.uint8))
    return np.stack(found)


def embedded(frames: npt.NDArray[np.uint8]) -> Float32:
    """Embeddings `(N, 9, 8, 8)` of frames `(N, 32, 32, 3)`."""
    cells = frames.astype(np.float32).reshape(len(frames), GRID[0], 4, GRID[1], 4, 3).transpose(0, 1, 3, 2, 4, 5)
    mean, deviation = cells.mean(axis=(3, 4)), cells.std(axis=(3, 4))
    grey = cells.mean(axis=-1)
    slopes = [grey[..., 2:, :] - grey[..., :2, :], grey[..., :, 2:] - grey[..., :, :2]]
    high = (cells.max(axis=(3, 4)) - cells.min(axis=(3, 4))).mean(axis=-1, keepdims=True)
    features = np.concatenate([mean, deviation, *(each.mean(axis=(3, 4))[..., None] for each in slopes), high], axis=-1)
    return np.ascontiguousarray(features.transpose(0, 3, 1, 2), np.float32) / 16


def method(*, ridge: float = 0.01, seed: int = 0, **bank: object) -> Method:
    """Method of a memory; `bank` are fields of `Bank`."""
    return dataclasses.replace(
        METHOD,
        preprocessing=dataclasses.replace(METHOD.preprocessing, resize=(SIDE, SIDE)),
        precision=Precision(),
        dims=DIMS,
        ridge=ridge,
        seed=seed,
        bank=Bank(**bank),  # type: ignore[arg-type]
    )


def learned(
    embeddings: Float32 | Sequence[Float32],
    how: Method,
    *,
    start: Memory | None = None,
    folds: Sequence[int] | None = None,
    batch: int = 8,
    workers: int = 1,
) -> Memory:
    """The memory of embeddings `(N, D, h, w)`, or of several variants of the same images, as a fit learns it."""
    variants = [embeddings] if isinstance(embeddings, np.ndarray) else list(embeddings)
    count, dims, *grid = variants[0].shape
    learner = MemoryLearner(start or Memory.empty((grid[0], grid[1]), dims), how)
    for first in range(0, count, batch):
        some = [each[first : first + batch] for each in variants]
        for place in range(first, first + len(some[0])):
            learner.expect(fold_at(place, count) if folds is None else folds[place])
        learner.add(some, workers)
    return learner.finish()


def rows(embeddings: Float32) -> Float32:
    """All patches `(N h w, D)` of embeddings `(N, D, h, w)`."""
    return np.ascontiguousarray(embeddings.transpose(0, 2, 3, 1)).reshape(-1, embeddings.shape[1])


def patches(memory: Memory) -> Float32:
    """All vectors of a memory `(c, D)`."""
    return np.concatenate(memory.vectors)


def distances(nearest: Nearest, embeddings: Float32) -> Float64:
    """Distances `(N, h, w)` of patches to the nearest prototype, from all differences in float64."""
    count, _, height, width = embeddings.shape
    z = (rows(embeddings).astype(np.float64) - nearest.mean) @ nearest.whitening.astype(np.float64)
    squared = np.full(len(z), np.inf)
    for prototype in nearest.prototypes.astype(np.float64):
        np.minimum(squared, np.square(z - prototype).sum(axis=1), out=squared)
    return np.sqrt(squared).reshape(count, height, width)


def scores(nearest: Nearest, embeddings: Float32) -> Float64:
    """Score `(N,)` of each image: the largest distance of its patches."""
    return distances(nearest, embeddings).max(axis=(1, 2))
