"""Names of tensors and keys that the exporter writes and the runtime reads. They are spelled here only."""

from __future__ import annotations

from typing import Final

__all__ = [
    "ANOMALY_MAP",
    "DISTANCE_OF_MEMORY",
    "DISTANCE_OF_POSITION",
    "EMBEDDING",
    "EMBEDDING_BESIDE",
    "FORMAT_VERSION",
    "FURTHER_OUTPUTS",
    "IMAGE",
    "IMAGE_BGR",
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

IMAGE_BGR: Final = "image_bgr"
"""Input of a model that takes BGR, in place of `IMAGE`: whoever feeds RGB by name is refused, older readers too."""

EMBEDDING: Final = "embedding"
"""Output of an embedding graph: `(N, D, h, w)` float32."""

EMBEDDING_BESIDE: Final = "embedding_beside"
"""Output of an embedding graph with a memory beside the Gaussians: the memory's, `(N, D, h, w)` float32."""

SCORE: Final = "score"
"""Output: `(N,)` float32, maximum of the anomaly map; a raw distance, 0 or more up to rounding."""

ANOMALY_MAP: Final = "anomaly_map"
"""Output: `(N, H, W)` float32, smoothed Mahalanobis distances in the model's own frame."""

PATCH_DISTANCE: Final = "patch_distance"
"""Output: `(N, h, w)` float32, Mahalanobis distance of each patch before upsampling; with both kinds of distance, their
weighted sum."""

DISTANCE_OF_POSITION: Final = "distance_of_position"
"""Further output of a model of both kinds: `(N, h, w)` float32, distance of each patch to the Gaussian of its place."""

DISTANCE_OF_MEMORY: Final = "distance_of_memory"
"""Further output of a model of both kinds: `(N, h', w')` float32, distance of each patch to the nearest prototype."""

OUTPUTS: Final = (SCORE, ANOMALY_MAP, PATCH_DISTANCE)

FURTHER_OUTPUTS: Final = (DISTANCE_OF_POSITION, DISTANCE_OF_MEMORY)
