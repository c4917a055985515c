"""PaDiM and a memory of prototypes in float64, written straight from the equations of the papers.

PaDiM (arXiv 2011.08785) stands in the paper's order. A memory has its metric and no positions.

Slow and plain on purpose: nothing here is shared with the code under test except the weights and the recorded choice of
dimensions. The backbone runs in torch's float64, everything else in numpy and scipy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from padim_edge_export.backbones import Trunk
from padim_edge_export.reduction import StageReduction


def embedding(
    trunk: Trunk, images: np.ndarray, reduce: np.ndarray, pooling: int, *, pool_patches: bool = False
) -> np.ndarray:
    """`(N, D, h, w)`: all stages mean pooled, brought to the finest grid, concatenated, and reduced.

    Args:
        trunk: The backbone.
        images: `(N, H, W, 3)` uint8.
        reduce: `(D, C)` matrix over the concatenated channels; a choice of channels has one 1 in each row.
        pooling: Side of the mean pooling, over the cells of each stage.
        pool_patches: Pool after the reduction instead, over patches of the finest grid.
    """
    stages = features(trunk, images)
    if not pool_patches:
        stages = [mean_pool(each, pooling) for each in stages]
    h, w = stages[0].shape[2:]
    # Section III-A: a patch takes the vectors of the coarser cells that it lies in.
    joint = np.concatenate([lift(each, (h, w)) for each in stages], axis=1)
    reduced = np.einsum("dc,nchw->ndhw", reduce, joint)
    return mean_pool(reduced, pooling) if pool_patches else reduced


def on_one_grid(
    trunk: Trunk, images: np.ndarray, reduce: np.ndarray, pooling: int, *, grid_layer: int, bilinear: bool
) -> np.ndarray:
    """`(N, D, h, w)`: as a memory has it, all stages mean pooled and brought to the grid of one of them.

    Args:
        trunk: The backbone.
        images: `(N, H, W, 3)` uint8.
        reduce: `(D, C)` matrix over the concatenated channels.
        pooling: Side of the mean pooling, over the cells of each stage.
        grid_layer: Number of the stage whose cells are the patches. Finer ones are averaged over these.
        bilinear: Interpolate coarser stages (PatchCore), instead of repeating their cells.
    """
    stages = [mean_pool(each, pooling) for each in features(trunk, images)]
    grid = (stages[grid_layer].shape[2], stages[grid_layer].shape[3])
    brought = []
    for each in stages:
        if each.shape[2] > grid[0] or each.shape[3] > grid[1]:
            brought.append(averaged(averaged(each, grid[0], 2), grid[1], 3))
        elif bilinear:
            tensor = torch.tensor(each)
            brought.append(torch.nn.functional.interpolate(tensor, size=grid, mode="bilinear").numpy())
        else:
            brought.append(lift(each, grid))
    return np.einsum("dc,nchw->ndhw", reduce, np.concatenate(brought, axis=1))


def averaged(features: np.ndarray, cells: int, axis: int) -> np.ndarray:
    """Mean of what each of fewer cells covers along one axis: every cell is cut into as many pieces as there are."""
    pieces = np.moveaxis(np.repeat(features, cells, axis), axis, -1)
    return np.moveaxis(pieces.reshape(*pieces.shape[:-1], cells, features.shape[axis]).mean(axis=-1), -1, axis)


def features(trunk: Trunk, images: np.ndarray) -> list[np.ndarray]:
    """Outputs `(N, C, h, w)` of the backbone's layers for images `(N, H, W, 3)` uint8."""
    x = (images.astype(np.float64) / 255 - np.array(trunk.mean)) / np.array(trunk.std)
    module = trunk.module.double()
    try:
        with torch.inference_mode():
            return [f.numpy() for f in module(torch.tensor(x).permute(0, 3, 1, 2)).values()]
    finally:
        module.float()


def lift(features: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """`(N, C, *grid)`: each patch takes the vector of the cell that its upper left corner lies in."""
    rows, columns = (np.arange(many) * few // many for many, few in zip(grid, features.shape[2:], strict=True))
    return features[:, :, rows[:, None], columns]


def mean_pool(features: np.ndarray, side: int) -> np.ndarray:
    """`(N, C, h, w)`: the mean over the cells of a window that exist."""
    if side == 1:
        return features
    pooled = np.zeros_like(features)
    reach = side // 2
    for i in range(features.shape[2]):
        for j in range(features.shape[3]):
            window = features[:, :, max(0, i - reach) : i + reach + 1, max(0, j - reach) : j + reach + 1]
            pooled[:, :, i, j] = window.mean(axis=(2, 3))
    return pooled


def reduction_matrix(stages: tuple[StageReduction, ...], channels: tuple[int, ...], *, joint: bool) -> np.ndarray:
    """`(D, C)` from what each stage keeps; `joint` where the stages' projections are added up instead of stacked."""
    blocks = [
        np.eye(count)[stage.channels] if stage.projection is None else stage.projection.astype(np.float64)
        for stage, count in zip(stages, channels, strict=True)
    ]
    if joint:
        return np.concatenate(blocks, axis=1)
    matrix = np.zeros((sum(len(b) for b in blocks), sum(channels)))
    row = column = 0
    for block in blocks:
        matrix[row : row + block.shape[0], column : column + block.shape[1]] = block
        row, column = row + block.shape[0], column + block.shape[1]
    return matrix


@dataclass(frozen=True)
class Gaussians:
    """One Gaussian a patch."""

    mean: np.ndarray
    """`(P, D)`."""
    inverse: np.ndarray
    """`(P, D, D)` inverse covariances."""


def fit(embeddings: np.ndarray, ridge: float) -> Gaussians:
    """Equation 1: sample mean, and sample covariance plus the ridge."""
    n, d = embeddings.shape[:2]
    vectors = embeddings.reshape(n, d, -1).transpose(2, 0, 1)
    mean = vectors.mean(axis=1)
    covariances = np.stack([np.cov(patch, rowvar=False).reshape(d, d) for patch in vectors]) + ridge * np.eye(d)
    return Gaussians(mean, np.linalg.inv(covariances))


def distance(gaussians: Gaussians, embeddings: np.ndarray) -> np.ndarray:
    """`(N, h, w)`, equation 2: sqrt((x - m)' S^-1 (x - m))."""
    n, d, h, w = embeddings.shape
    away = embeddings.reshape(n, d, -1).transpose(0, 2, 1) - gaussians.mean
    return np.sqrt(np.einsum("npi,pij,npj->np", away, gaussians.inverse, away)).reshape(n, h, w)


def anomaly_map(distances: np.ndarray, size: tuple[int, int], sigma: float) -> np.ndarray:
    """`(N, H, W)`, section IV-B: bicubic interpolation, then a Gaussian filter."""
    upsampled = torch.nn.functional.interpolate(
        torch.tensor(distances)[:, None], size=size, mode="bicubic", align_corners=False
    )[:, 0].numpy()
    return np.stack([ndimage.gaussian_filter(each, sigma, mode="reflect", truncate=4) for each in upsampled])


def shared_metric(embeddings: np.ndarray, ridge: float) -> np.ndarray:
    """`(D, D)` inverse of one covariance of all patches of all images, plus the ridge: a memory has no positions."""
    d = embeddings.shape[1]
    vectors = embeddings.transpose(0, 2, 3, 1).reshape(-1, d)
    return np.linalg.inv(np.cov(vectors, rowvar=False).reshape(d, d) + ridge * np.eye(d))


def away_from(prototypes: np.ndarray, inverse: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    """`(N, P, M)`: sqrt((x - c)' S^-1 (x - c)) of each patch x and each prototype c, from their difference."""
    n, d = embeddings.shape[:2]
    vectors = embeddings.reshape(n, d, -1).transpose(0, 2, 1)
    found = np.empty((*vectors.shape[:2], len(prototypes)))
    for i, c in enumerate(prototypes):
        away = vectors - c
        found[:, :, i] = np.einsum("npi,ij,npj->np", away, inverse, away)
    return np.sqrt(np.maximum(found, 0))


@dataclass(frozen=True)
class Searched:
    """Distance of each patch to its prototype, where only the farthest patches are compared with all of them."""

    distance: np.ndarray
    """`(N, P)`."""
    other: np.ndarray
    """`(N, P)`: what it were if the patch were on the other side of the border between the farthest and the rest."""
    margin: np.ndarray
    """`(N, P)`: distance from that border, relative to it."""


def search(away: np.ndarray, frequent: int, count: int, inside: np.ndarray | None = None) -> Searched:
    """Compare all patches with the first prototypes, and the `count` farthest of those inside with all.

    Args:
        away: `(N, P, M)` distances to all prototypes, the frequent ones first.
        frequent: Number of prototypes that every patch is compared with.
        count: Number of patches of an image that are compared with all.
        inside: `(P,)`, 1 for patches that count and 0 for others.
    """
    first, best = away[:, :, :frequent].min(axis=2), away.min(axis=2)
    if frequent == away.shape[2] or count >= away.shape[1]:
        return Searched(best, best, np.full(best.shape, np.inf))
    watched = first if inside is None else first * inside
    ordered = np.sort(watched, axis=1)
    border = (ordered[:, -count - 1, None] + ordered[:, -count, None]) / 2
    far = watched > border
    return Searched(np.where(far, best, first), np.where(far, first, best), np.abs(watched / border - 1))


def patchcore_weight(away: np.ndarray, prototypes: np.ndarray, inverse: np.ndarray, neighbours: int) -> np.ndarray:
    """`(N,)`: 1 - exp(d*) / sum of exp(d) over the neighbourhood of the nearest prototype (arXiv 2106.08265, eq. 7).

    Of an image's farthest patch. The neighbourhood are the b prototypes nearest to that prototype, itself included.

    Args:
        away: `(N, P, M)` distances of the patches to all prototypes.
        prototypes: `(M, D)`.
        inverse: `(D, D)` inverse covariance of the metric; the identity for PatchCore.
        neighbours: b.
    """
    between = away_from(prototypes, inverse, prototypes.T[None, :, :, None])[0]
    found = []
    for image in away:
        patch = image[image.min(axis=1).argmax()]
        around = np.argsort(between[patch.argmin()], kind="stable")[:neighbours]
        found.append(1 - np.exp(patch.min()) / np.exp(patch[around]).sum())
    return np.array(found)
