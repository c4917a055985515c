"""Reduction of all channels of a backbone's stages to D dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.metadata import Reduction

__all__ = ["KINDS", "StageReduction", "draw", "principal", "split"]

KINDS = ("random", "semi-orthogonal")
"""Reductions that are drawn at random, without looking at images."""


@dataclass(frozen=True, eq=False)
class StageReduction:
    """Reduction of one stage: kept channels, or a projection of all channels. Exactly one of them is set."""

    channels: npt.NDArray[np.int64] | None
    """`(k,)` indices of the kept channels, ascending; k may be 0."""
    projection: npt.NDArray[np.float32] | None
    """`(k, C)` matrix that projects the stage's C channels."""


def draw(
    kind: str, stage_channels: tuple[int, ...], dims: int, seed: int, shares: tuple[float, ...] | None = None
) -> tuple[Reduction, tuple[StageReduction, ...]]:
    """Draw a reduction of the concatenated stages and split it by stage.

    `random` keeps `dims` channels chosen without replacement (PaDiM, section III-C). `semi-orthogonal` projects by a
    `(dims, C)` matrix with orthonormal rows, uniformly distributed (Kim et al. 2021, arXiv 2105.14737, section 3.2).

    With `shares`, each stage is reduced by itself to its share of the dimensions, as far as it has channels. So the
    widest and coarsest stage does not take most of them. The matrix of `semi-orthogonal` is then block diagonal; its
    rows are still orthonormal. Without `shares`, all stages are drawn from together, and a projection adds them up.

    Args:
        kind: One of `KINDS`.
        stage_channels: Number of channels of each stage.
        dims: D, number of dimensions.
        seed: Random seed.
        shares: Share of the dimensions for each stage.

    Returns:
        The reduction as it is recorded, and as each stage applies it.

    Raises:
        PadimEdgeError: The kind is unknown, or `dims` is outside 1 to the number of channels.
    """
    total = _checked(dims, stage_channels)
    generator = np.random.default_rng(seed)
    bounds = np.cumsum((0, *stage_channels))
    spans = list(pairwise(bounds))
    stage_dims = None if shares is None else split(dims, stage_channels, shares)
    if kind == "random":
        if stage_dims is None:
            chosen = np.sort(generator.choice(total, dims, replace=False))
        else:
            chosen = np.concatenate(
                [
                    low + np.sort(generator.choice(high - low, kept, replace=False))
                    for (low, high), kept in zip(spans, stage_dims, strict=True)
                ]
            )
        stages = [StageReduction(chosen[(chosen >= low) & (chosen < high)] - low, None) for low, high in spans]
        return Reduction(tuple(chosen.tolist()), stage_dims), tuple(stages)
    if kind == "semi-orthogonal":
        if stage_dims is None:
            matrix = _orthonormal_rows(generator, dims, total)
            stages = [StageReduction(None, np.ascontiguousarray(matrix[:, low:high])) for low, high in spans]
        else:
            stages = [
                StageReduction(None, _orthonormal_rows(generator, kept, channels))
                for channels, kept in zip(stage_channels, stage_dims, strict=True)
            ]
        return Reduction(None, stage_dims), tuple(stages)
    raise PadimEdgeError(f"there is no reduction {kind!r}; choose one of {', '.join(KINDS)}")


def principal(
    covariance: npt.NDArray[np.float64],
    stage_channels: tuple[int, ...],
    dims: int,
    shares: tuple[float, ...] | None = None,
) -> tuple[Reduction, tuple[StageReduction, ...]]:
    """Project on the directions of largest variance (PaDiM, section V-A).

    Args:
        covariance: `(C, C)` of the concatenated stages' channels, over all patches of good images.
        stage_channels: Number of channels of each stage.
        dims: D, number of dimensions.
        shares: Share of the dimensions for each stage; each stage then gets the components of its own channels.

    Raises:
        PadimEdgeError: `dims` is outside 1 to C.
    """
    _checked(dims, stage_channels)
    spans = list(pairwise(np.cumsum((0, *stage_channels))))
    if shares is None:
        matrix = _components(covariance, dims)
        stages = [StageReduction(None, np.ascontiguousarray(matrix[:, low:high])) for low, high in spans]
        return Reduction(None, None), tuple(stages)
    stage_dims = split(dims, stage_channels, shares)
    stages = [
        StageReduction(None, _components(covariance[low:high, low:high], kept))
        for (low, high), kept in zip(spans, stage_dims, strict=True)
    ]
    return Reduction(None, stage_dims), tuple(stages)


def _components(covariance: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float32]:
    """Return `(count, C)` orthonormal rows, largest variance first."""
    vectors = np.linalg.eigh(covariance)[1][:, ::-1][:, :count].T
    largest = np.abs(vectors).argmax(axis=1)
    signs = np.sign(vectors[np.arange(len(vectors)), largest])  # a fixed sign makes the result unique
    return np.ascontiguousarray(vectors * signs[:, None], dtype=np.float32)


def _checked(dims: int, stage_channels: tuple[int, ...]) -> int:
    total = sum(stage_channels)
    if not 1 <= dims <= total:
        raise PadimEdgeError(f"--dims is {dims}, expected 1 to {total} (the channels of this backbone)")
    return total


def split(dims: int, stage_channels: tuple[int, ...], shares: tuple[float, ...]) -> tuple[int, ...]:
    """Deal `dims` out to the stages, each to the stage furthest below its share that has channels left."""
    dealt = [0] * len(stage_channels)
    for _ in range(dims):
        open_stages = [i for i, channels in enumerate(stage_channels) if dealt[i] < channels]
        dealt[min(open_stages, key=lambda i: (dealt[i] + 1) / shares[i])] += 1
    return tuple(dealt)


def _orthonormal_rows(generator: np.random.Generator, rows: int, columns: int) -> npt.NDArray[np.float32]:
    basis, triangle = np.linalg.qr(generator.standard_normal((columns, rows)))
    basis *= np.sign(np.diagonal(triangle))  # makes the distribution uniform and the result unique
    return np.ascontiguousarray(basis.T, dtype=np.float32)
