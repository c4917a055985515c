"""Principal components of the good images' features: the reduction that looks at data, in one streaming pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from padim_edge.network import Exported
from padim_edge_artifact import PadimEdgeError, Statistics, names
from padim_edge_artifact.method import Method
from padim_edge_export import embedding, reduction
from padim_edge_learn.accumulate import batches
from padim_edge_model.graph import joined
from padim_edge_model.statistics import absorb
from padim_edge_runtime.devices.providers import open_session

__all__ = ["principal_components"]

_BATCH = 4
"""Number of images at a time: all channels of all patches in float64, 11 MB per image for ResNet-18."""


def principal_components(
    everything: Exported,
    method: Method,
    images: Iterable[npt.NDArray[np.uint8]],
    *,
    device: str = "cpu",
    advance: Callable[[int], object] = lambda _: None,
) -> embedding.Drawn:
    """Find the principal components over all patches of all images; no patch has components of its own.

    Args:
        everything: Graph of every channel, as `network.all_channels` exports it.
        method: Dimensions and the layers' shares of them.
        images: Good images in the model's frame, `(H, W, 3)` uint8 each, with two or more patches in all.
        device: Device that runs the backbone.
        advance: Called with the number of images done since the last call.

    Raises:
        PadimEdgeError: There is no image, or there are more dimensions than channels.
    """
    channels = everything.description.channels
    session = open_session(joined(everything.graph).SerializeToString(), device).session
    found = Statistics.empty((1, 1), sum(channels))
    count = 0
    for batch in batches(images, _BATCH):
        vectors = session.run([names.EMBEDDING], {names.IMAGE: np.stack(batch)})[0]
        rows = vectors.transpose(0, 2, 3, 1).reshape(-1, sum(channels), 1, 1)
        absorb(found.mean, found.scatter, count, rows)
        count += len(rows)
        advance(len(batch))
    if count < 2:
        raise PadimEdgeError("there is no readable image to take principal components of; add good images")
    return reduction.principal(found.scatter[0] / (count - 1), channels, method.dims, method.shares)
