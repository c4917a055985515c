"""From all channels of the backbone's stages to D dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.metadata import Reduction

__all__ = ["KINDS", "StageReduction", "draw", "principal", "split"]

KINDS = ("random", "semi-orthogonal")
"""That can be drawn without looking at images."""


@dataclass(frozen=True, eq=False)
class StageReduction:
    """What one stage gives to the embedding: kept channels, or a projection of them. Exactly one is set."""

    channels: npt.NDArray[np.int64] | None
    """`(k,)` indices into the stage's channels, ascending; k may be 0."""
    projection: npt.NDArray[np.float32] | None
    """`(k, C)` projection of the stage's channels."""


def draw(
    kind: str, stage_channels: tuple[int, ...], dims: int, seed: int, shares: tuple[float, ...] | None = None
) -> tuple[Reduction, tuple[StageReduction, ...]]:
    """Draw a reduction of the concatenated stages, and split it by stage.

    `random` keeps `dims` channels chosen without replacement (PaDiM, section III-C). `semi-orthogonal` projects by a
    `(dims, C)` matrix with orthonormal rows, uniformly distributed (Kim et al. 2021, arXiv 2105.14737, section 3.2).

    With `shares`, each stage is reduced by itself to its share of the dimensions (its channels permitting), so that
    the widest and coarsest stage does not take most of them: for `semi-orthogonal` the matrix is then block diagonal,
    its rows still orthonormal. Without, all stages are drawn from together, and a projection adds them up.

    Raises:
        PadimEdgeError: Unknown kind, or `dims` outside 1 to the number of channels.
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
        dims: D.
        shares: As in `draw`: each stage gets the principal components of its own channels.

    Raises:
        PadimEdgeError: `dims` outside 1 to C.
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
    """`(count, C)` orthonormal rows, largest variance first."""
    vectors = np.linalg.eigh(covariance)[1][:, ::-1][:, :count].T
    largest = np.abs(vectors).argmax(axis=1)
    signs = np.sign(vectors[np.arange(len(vectors)), largest])  # either would do; one makes the result unique
    return np.ascontiguousarray(vectors * signs[:, None], dtype=np.float32)


def _checked(dims: int, stage_channels: tuple[int, ...]) -> int:
    total = sum(stage_channels)
    if not 1 <= dims <= total:
        raise PadimEdgeError(f"--dims is {dims}, expected 1 to {total} (the channels of this backbone)")
    return total


def split(dims: int, stage_channels: tuple[int, ...], shares: tuple[float, ...]) -> tuple[int, ...]:
    """`dims` dealt out to the stages, one by one to the stage furthest below its share that has channels left."""
    dealt = [0] * len(stage_channels)
    for _ in range(dims):
        open_stages = [i for i, channels in enumerate(stage_channels) if dealt[i] < channels]
        dealt[min(open_stages, key=lambda i: (dealt[i] + 1) / shares[i])] += 1
    return tuple(dealt)


def _orthonormal_rows(generator: np.random.Generator, rows: int, columns: int) -> npt.NDArray[np.float32]:
    basis, triangle = np.linalg.qr(generator.standard_normal((columns, rows)))
    basis *= np.sign(np.diagonal(triangle))  # makes the distribution uniform and the result unique
    return np.ascontiguousarray(basis.T, dtype=np.float32)
