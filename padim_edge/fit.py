"""Good pictures -> statistics: one pass through the embedding graph, by onnxruntime, as on the device."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import PadimEdgeError, Statistics, names
from padim_edge_artifact.statistics import absorb
from padim_edge_runtime.providers import open_session

__all__ = ["BATCH", "batches", "fit"]

BATCH = 32
"""Pictures a batch. Fixed, because another grouping of the same pictures rounds differently."""

T = TypeVar("T")


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one perhaps shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def fit(
    embedding_graph: bytes,
    pictures: Iterable[npt.NDArray[np.uint8]],
    *,
    device: str = "cpu",
    progress: Callable[[int], object] = lambda _: None,
) -> Statistics:
    """Fit the Gaussians of all patches.

    Memory does not depend on the number of pictures. The same pictures in the same order on the same machine give
    the same bytes.

    Args:
        embedding_graph: A serialised ONNX model, `image` -> `embedding`.
        pictures: `(H, W, 3)` uint8 each, in the model's frame.
        device: Where the backbone runs.
        progress: Called with the number of pictures done since the last call.

    Raises:
        PadimEdgeError: No picture, or an embedding that is not finite.
    """
    session = open_session(embedding_graph, device).session
    statistics: Statistics | None = None
    count = 0
    for batch in batches(pictures, BATCH):
        embedding = session.run([names.EMBEDDING], {names.IMAGE: np.stack(batch)})[0]
        if not np.isfinite(embedding).all():
            raise PadimEdgeError("the backbone gives values that are not finite; check its weights")
        if statistics is None:
            _, dims, h, w = embedding.shape
            statistics = Statistics.empty((h, w), dims)
        absorb(statistics.mean, statistics.scatter, count, embedding)
        count += len(batch)
        progress(len(batch))
    if statistics is None:
        raise PadimEdgeError("there is no picture to fit on; expected at least 2 good pictures")
    return dataclasses.replace(statistics, count=count)
