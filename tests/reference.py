"""PaDiM in float64, written straight from the paper's equations (arXiv 2011.08785) and in the paper's order.

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


def embedding(trunk: Trunk, pictures: np.ndarray, reduce: np.ndarray, pooling: int) -> np.ndarray:
    """`(N, D, h, w)`: all stages brought to the finest grid, concatenated, reduced, and then mean pooled.

    Args:
        trunk: The backbone.
        pictures: `(N, H, W, 3)` uint8.
        reduce: `(D, C)` matrix over the concatenated channels; a choice of channels has one 1 in each row.
        pooling: Side of the mean pooling.
    """
    x = (pictures.astype(np.float64) / 255 - np.array(trunk.mean)) / np.array(trunk.std)
    module = trunk.module.double()
    try:
        with torch.inference_mode():
            stages = [f.numpy() for f in module(torch.tensor(x).permute(0, 3, 1, 2)).values()]
    finally:
        module.float()
    h, w = stages[0].shape[2:]
    # Section III-A: a patch takes the vectors of the coarser cells that it lies in.
    joint = np.concatenate([f.repeat(h // f.shape[2], axis=2).repeat(w // f.shape[3], axis=3) for f in stages], axis=1)
    reduced = np.einsum("dc,nchw->ndhw", reduce, joint)
    if pooling == 1:
        return reduced
    pooled = np.zeros_like(reduced)
    reach = pooling // 2
    for i in range(h):
        for j in range(w):
            window = reduced[:, :, max(0, i - reach) : i + reach + 1, max(0, j - reach) : j + reach + 1]
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
