"""Names of tensors and keys that the exporter writes and the runtime reads. They are spelled here only."""

from __future__ import annotations

from typing import Final

__all__ = [
    "ANOMALY_MAP",
    "EMBEDDING",
    "FORMAT_VERSION",
    "IMAGE",
    "METADATA_KEY",
    "OUTPUTS",
    "PATCH_DISTANCE",
    "SCORE",
    "SIZE_KEY",
]

FORMAT_VERSION: Final = 2
"""Version of the file format; a reader refuses every other one."""

METADATA_KEY: Final = "padim_edge"
"""Key in the ONNX `metadata_props` whose value is the metadata as one JSON object."""

SIZE_KEY: Final = "padim_edge_bytes"
"""Key in the `metadata_props` whose value is the size of the file in bytes: tools change it, damage seldom does."""

IMAGE: Final = "image"
"""Input: `(N, H, W, 3)` uint8 RGB."""

EMBEDDING: Final = "embedding"
"""Output of an embedding graph: `(N, D, h, w)` float32."""

SCORE: Final = "score"
"""Output: `(N,)` float32, maximum of the anomaly map; a raw distance, 0 or more up to rounding."""

ANOMALY_MAP: Final = "anomaly_map"
"""Output: `(N, H, W)` float32, smoothed Mahalanobis distances in the model's own frame."""

PATCH_DISTANCE: Final = "patch_distance"
"""Output: `(N, h, w)` float32, Mahalanobis distance of each patch before upsampling."""

OUTPUTS: Final = (SCORE, ANOMALY_MAP, PATCH_DISTANCE)
