"""From all channels of the backbone's stages to D dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.metadata import Reduction

__all__ = ["KINDS", "StageReduction", "draw", "split"]

KINDS = ("random", "semi-orthogonal")


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
    total = sum(stage_channels)
    if not 1 <= dims <= total:
        raise PadimEdgeError(f"--dims is {dims}, expected 1 to {total} (the channels of this backbone)")
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
        return Reduction(kind, dims, seed, tuple(chosen.tolist()), stage_dims), tuple(stages)
    if kind == "semi-orthogonal":
        if stage_dims is None:
            matrix = _orthonormal_rows(generator, dims, total)
            stages = [StageReduction(None, np.ascontiguousarray(matrix[:, low:high])) for low, high in spans]
        else:
            stages = [
                StageReduction(None, _orthonormal_rows(generator, kept, channels))
                for channels, kept in zip(stage_channels, stage_dims, strict=True)
            ]
        return Reduction(kind, dims, seed, None, stage_dims), tuple(stages)
    raise PadimEdgeError(f"there is no reduction {kind!r}; choose one of {', '.join(KINDS)}")


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
