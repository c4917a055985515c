"""Good images -> statistics: one pass through the embedding graph, run by onnxruntime as on the device."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from padim_edge_artifact import PadimEdgeError, Statistics, names
from padim_edge_model.statistics import absorb
from padim_edge_runtime.devices.providers import open_session
from padim_edge_runtime.prefetch import cores

__all__ = ["BATCH", "accumulate", "batches", "side_by_side"]

BATCH = 32
"""Number of images in a batch. It is fixed, because another grouping of the same images rounds differently."""

_PIXELS = 8 * 224 * 224
"""Number of pixels that go through the backbone at a time. More are no faster on a CPU, and activations take memory."""

T = TypeVar("T")

After = Callable[[Statistics, int], object]


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Split items into lists of `size`; the last list may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def side_by_side(size: tuple[int, int]) -> int:
    """Return how many images of (H, W) pixels go through the backbone at a time."""
    return max(1, min(BATCH, _PIXELS // (size[0] * size[1])))


def accumulate(
    embedding_graph: bytes,
    images: Iterable[npt.NDArray[np.uint8]],
    start: Statistics | None = None,
    *,
    device: str = "cpu",
    threads: int | None = None,
    after: After = lambda _, __: None,
) -> Statistics:
    """Add images to the Gaussian statistics of all patches.

    Memory does not depend on the number of images. The same images in the same order on the same machine give the same
    bytes.

    Args:
        embedding_graph: Serialised ONNX model, `image` -> `embedding`.
        images: Images in the model's frame, `(H, W, 3)` uint8 each.
        start: Statistics to add them to; their arrays are overwritten. `None` begins with no image.
        device: Device that runs the backbone.
        threads: Number of CPU threads; `None` takes one per core.
        after: Called after each batch with all statistics so far, which the next batch overwrites, and with the number
            of images in the batch.

    Raises:
        PadimEdgeError: There is no image, or an embedding is not finite.
    """
    session = open_session(embedding_graph, device, threads=threads).session
    statistics = start
    for batch in batches(images, BATCH):
        together = side_by_side((batch[0].shape[0], batch[0].shape[1]))
        embedding = np.concatenate(
            [session.run([names.EMBEDDING], {names.IMAGE: np.stack(some)})[0] for some in batches(batch, together)]
        )
        if not np.isfinite(embedding).all():
            raise PadimEdgeError("the backbone gives values that are not finite; check its weights")
        if statistics is None:
            _, dims, h, w = embedding.shape
            statistics = Statistics.empty((h, w), dims)
        with threadpool_limits(1, "blas"):  # BLAS threads would wait for each other at every patch
            absorb(statistics.mean, statistics.scatter, statistics.count, embedding, workers=threads or cores())
        statistics = dataclasses.replace(statistics, count=statistics.count + len(batch))
        after(statistics, len(batch))
    if statistics is None:
        raise PadimEdgeError("there is no image to fit on; expected at least 2 good images")
    return statistics
