"""Principal components of the good images' features: the reduction that looks at data, in one streaming pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from padim_edge.presets import Preset
from padim_edge_artifact import PadimEdgeError, Statistics, names
from padim_edge_artifact.statistics import absorb
from padim_edge_export import embedding, reduction
from padim_edge_export.backbones import Trunk
from padim_edge_learn.accumulate import batches
from padim_edge_model.graph import joined
from padim_edge_runtime.devices.providers import open_session

__all__ = ["draw"]

_BATCH = 4
"""Images at a time: all channels of all patches in float64, 11 MB an image for ResNet-18."""


def draw(
    trunk: Trunk,
    preset: Preset,
    images: Iterable[npt.NDArray[np.uint8]],
    *,
    device: str = "cpu",
    progress: Callable[[int], object] = lambda _: None,
) -> embedding.Drawn:
    """The reduction to the principal components over all patches of all images; no patch has components of its own.

    Args:
        trunk: The backbone.
        preset: For the size, the dimensions and the stages' shares.
        images: `(H, W, 3)` uint8 good images in the model's frame, two or more patches in all.
        device: Where the backbone runs.
        progress: Called with the number of images done since the last call.

    Raises:
        PadimEdgeError: No image, or more dimensions than channels.
    """
    channels = trunk.description.channels
    # Every channel is kept, in its order: the whole embedding before any reduction.
    graph = embedding.build(trunk, preset.preprocessing.size, kind="random", dims=sum(channels), seed=0, pooling=1)
    session = open_session(joined(graph).SerializeToString(), device).session
    found = Statistics.empty((1, 1), sum(channels))
    count = 0
    for batch in batches(images, _BATCH):
        vectors = session.run([names.EMBEDDING], {names.IMAGE: np.stack(batch)})[0]
        rows = vectors.transpose(0, 2, 3, 1).reshape(-1, sum(channels), 1, 1)
        absorb(found.mean, found.scatter, count, rows)
        count += len(rows)
        progress(len(batch))
    if count < 2:
        raise PadimEdgeError("there is no readable image to take principal components of; add good images")
    shares = preset.shares_of(len(channels))
    return reduction.principal(found.scatter[0] / (count - 1), channels, preset.dims, shares)
