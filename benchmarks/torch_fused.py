"""A fitted model as one torch module, written straight down: what a user of torch would run on a GPU.

It shares the backbone, the drawn reduction and the fitted statistics with the exported graph, and none of its rewrites.
Pooling, upsampling and concatenation are torch's, and the whole inverse of every covariance is applied. So the module
also checks the graph.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from padim_edge_artifact import Statistics
from padim_edge_artifact.method import Method
from padim_edge_export import reduction
from padim_edge_export.backbones import Trunk
from padim_edge_model.fused import map_matrices

__all__ = ["TorchFused"]


class TorchFused(nn.Module):
    """Model from pixels to decision: `(N, H, W, 3)` uint8 -> score `(N,)` and anomaly map `(N, H, W)`.

    Args:
        trunk: Backbone that the statistics were fitted with.
        method: Method that the statistics were fitted with.
        statistics: Statistics of the good images, fitted in float32.
    """

    def __init__(self, trunk: Trunk, method: Method, statistics: Statistics) -> None:
        super().__init__()
        self.trunk = trunk.module
        self.pooling, self.pool_patches = method.pooling, method.pool_patches
        self.grid = statistics.grid
        channels = trunk.description.channels
        _, stages = reduction.draw(method.reduction, channels, method.dims, method.seed, method.shares)
        self.weights: list[str] = []
        for i, stage in enumerate(stages):
            if stage.channels is not None:
                whole = np.eye(channels[i], dtype=np.float32)[stage.channels]
            else:
                whole = cast("np.ndarray[tuple[int, int], np.dtype[np.float32]]", stage.projection)
            self._keep(f"reduce{i}", whole[:, :, None, None])
        self.stages = len(stages)
        self.added = method.reduction == "semi-orthogonal" and method.shares is None
        covariance = statistics.scatter / (statistics.count - 1) + method.ridge * np.eye(statistics.dims)
        self._keep("whitening", np.linalg.inv(np.linalg.cholesky(covariance)))
        self._keep("centre", statistics.mean)
        rows, columns = map_matrices(method.preprocessing.size, statistics.grid, method.sigma)
        self._keep("rows", rows)
        self._keep("columns", columns.T)
        self._keep("mean", 255 * np.array(trunk.mean)[:, None, None])
        self._keep("std", 255 * np.array(trunk.std)[:, None, None])

    def _keep(self, name: str, values: np.typing.NDArray[np.floating]) -> None:
        self.register_buffer(name, torch.tensor(values, dtype=torch.float32))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute scores and maps."""
        x = (image.permute(0, 3, 1, 2).float() - self.get_buffer("mean")) / self.get_buffer("std")
        parts = []
        for i, feature in enumerate(self.trunk(x).values()):
            part = functional.conv2d(feature, self.get_buffer(f"reduce{i}"))
            if not self.pool_patches:
                part = self._pooled(part)
            part = functional.interpolate(part, size=self.grid, mode="nearest")
            parts.append(self._pooled(part) if self.pool_patches else part)
        embedding = sum(parts[1:], parts[0]) if self.added else torch.cat(parts, dim=1)
        vectors = embedding.flatten(2).permute(2, 1, 0) - self.get_buffer("centre")[:, :, None]
        distance = torch.linalg.vector_norm(torch.bmm(self.get_buffer("whitening"), vectors), dim=1)
        patches = distance.permute(1, 0).reshape(-1, *self.grid)
        anomaly_map = self.get_buffer("rows") @ patches @ self.get_buffer("columns")
        return anomaly_map.amax(dim=(1, 2)), anomaly_map

    def _pooled(self, part: torch.Tensor) -> torch.Tensor:
        if self.pooling == 1:
            return part
        return functional.avg_pool2d(part, self.pooling, 1, self.pooling // 2, count_include_pad=False)
