"""A PaDiM of anomalib as plain values, wherever it was read from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import PadimEdgeError

if TYPE_CHECKING:
    import torch

__all__ = ["BACKBONES", "RIDGE", "Decision", "Frame", "Normalise", "Padim", "refuse"]

Float32 = npt.NDArray[np.float32]

RIDGE = 0.01 + 1e-5
"""Number that anomalib adds to the diagonal of every covariance, in two steps."""

BACKBONES = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "wide_resnet50_2",
    "wide_resnet101_2",
    "resnext50_32x4d",
)
"""Networks that are the same, weight by weight, in timm (anomalib's) and in torchvision (ours)."""


def refuse(what: str, why: str, instead: str) -> PadimEdgeError:
    """Return the error for what cannot be carried over.

    Args:
        what: What was found.
        why: Reason, a clause.
        instead: What to do.
    """
    return PadimEdgeError(f"{what} cannot be carried over: {why}; {instead}")


@dataclass(frozen=True, kw_only=True)
class Normalise:
    """Normalisation of pixels in [0, 1]."""

    mean: tuple[float, float, float]
    """Numbers subtracted, by channel."""
    std: tuple[float, float, float]
    """Numbers that the difference is divided by, by channel."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The way of an image into the model's frame."""

    resize: tuple[int, int]
    """(height, width) in pixels after the resize."""
    crop: tuple[int, int] | None
    """(height, width) of the centre crop; `None` keeps the whole frame."""
    interpolation: str
    """`bilinear` or `bicubic`."""
    antialias: bool
    """Whether the resize is antialiased where the image shrinks."""
    normalise: Normalise
    """Normalisation of the pixels."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The post-processing of scores.

    normalised = clamp((score - threshold) / spread + 0.5, 0, 1); the image is anomalous above `limit`.
    """

    threshold: float
    """Score that becomes 0.5."""
    lowest: float
    """Lowest score of the images that anomalib was validated with."""
    spread: float
    """Highest score of these images less the lowest one; 0 where all are equal."""
    limit: float = 0.5
    """Normalised score above which an image is anomalous: 1 less the sensitivity."""

    def normalised(self, score: float) -> float:
        """Return the normalised score, in float32 as anomalib computes it."""
        value, middle = np.float32(score), np.float32(self.threshold)
        if not self.spread:
            return 1.0 if value > middle else 0.0 if value < middle else 0.5
        return float(np.clip((value - middle) / np.float32(self.spread) + np.float32(0.5), 0, 1))

    def anomalous(self, score: float) -> bool:
        """Return anomalib's label of a score."""
        return bool(self.normalised(score) > np.float32(self.limit))

    @property
    def raw(self) -> float:
        """Score above which an image is anomalous, without normalisation."""
        return self.threshold + (self.limit - 0.5) * self.spread


@dataclass(frozen=True, kw_only=True, eq=False)
class Padim:
    """A fitted PaDiM of anomalib."""

    kind: str
    """`checkpoint` or `onnx`."""
    name: str
    """Name of the file, without its folder."""
    digest: str
    """SHA-256 of the file, 64 hexadecimal digits."""
    backbone: str
    """One of `BACKBONES`."""
    layers: tuple[str, ...]
    """Layers whose outputs are the features, finest first."""
    state: dict[str, torch.Tensor]
    """Weights of the network with torchvision's names."""
    chosen: npt.NDArray[np.int64]
    """`(D,)` channels that are kept of all layers together, in anomalib's own order."""
    mean: Float32
    """`(D, P)` mean embeddings."""
    precision: Float32
    """`(P, D, D)` inverse covariances."""
    kernel: Float32
    """`(K, K)` filter of the anomaly map."""
    frame: Frame
    """The way of an image into the frame."""
    decision: Decision | None
    """Post-processing; `None` where the file holds no usable one."""
    undecided: str = ""
    """Reason why there is no post-processing, a clause; empty where there is one."""
    notes: tuple[str, ...] = ()
    """Remarks on what differs, one sentence each without a full stop."""
    run: Callable[[npt.NDArray[np.float32]], float] | None = None
    """Function that runs the file itself on a frame `(1, 3, H, W)` in [0, 1] and returns the raw score; `None` where
    it cannot run without anomalib."""

    def __post_init__(self) -> None:
        dims, patches = self.mean.shape
        if self.precision.shape != (patches, dims, dims) or self.chosen.shape != (dims,):
            raise PadimEdgeError(
                f"{self.name} holds {self.mean.shape} means, {self.precision.shape} inverse covariances and "
                f"{len(self.chosen)} channels, expected (D, P), (P, D, D) and D; take an undamaged file"
            )
        if len(set(self.chosen.tolist())) != dims:
            raise PadimEdgeError(f"{self.name} keeps a channel twice, expected each once; take an undamaged file")
        for what, values in (("means", self.mean), ("inverse covariances", self.precision), ("filter", self.kernel)):
            if not np.isfinite(values).all():
                raise PadimEdgeError(f"{self.name} holds {what} that are not finite; fit again in anomalib")

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the model's frame in pixels."""
        return self.frame.crop or self.frame.resize

    @property
    def sides(self) -> tuple[Float32, Float32]:
        """Factors `(K,)` of the separable filter: down the rows and along the columns.

        Raises:
            PadimEdgeError: The filter is not separable.
        """
        rows, columns = self.kernel.sum(axis=1), self.kernel.sum(axis=0)
        if not np.allclose(np.outer(rows, columns) / self.kernel.sum(), self.kernel, rtol=0, atol=1e-6):
            raise refuse("the filter of the anomaly map", "it is not a Gaussian", "fit with anomalib's own PaDiM")
        return rows / np.float32(self.kernel.sum()), columns

    @property
    def sigma(self) -> float:
        """Standard deviation of the filter in pixels; 0 for one of a single number."""
        rows = self.sides[0].astype(np.float64)
        middle = len(rows) // 2
        if not middle or rows[middle + 1] <= 0:
            return 0.0
        return round(math.sqrt(0.5 / math.log(rows[middle] / rows[middle + 1])), 3)
