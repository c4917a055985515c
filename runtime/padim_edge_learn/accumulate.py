"""Good images -> statistics or a memory: one pass through the embedding graph, run by onnxruntime as on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from padim_edge_artifact import Both, Memory, PadimEdgeError, Statistics
from padim_edge_artifact.method import Method
from padim_edge_learn.turns import turned
from padim_edge_model.memory import MemoryLearner
from padim_edge_model.statistics import absorb
from padim_edge_runtime.channel_order import feed
from padim_edge_runtime.devices.providers import open_session
from padim_edge_runtime.prefetch import cores

__all__ = [
    "BATCH",
    "BothLearner",
    "GaussianLearner",
    "Learner",
    "accumulate",
    "batch_size",
    "batches",
    "learner_of",
    "side_by_side",
]

BATCH = 32
"""Number of images in a batch. It is fixed, because another grouping of the same images rounds differently."""

_BATCH_PIXELS = 32 * 448 * 448
"""Number of pixels in a batch, at most, so that the embeddings of large images do not fill the memory."""

_PIXELS = 8 * 224 * 224
"""Number of pixels that go through the backbone at a time. More are no faster on a CPU, and activations take memory."""

T = TypeVar("T")

Embeddings = tuple[npt.NDArray[np.float32], ...]
"""Embeddings `(N, D, h, w)` of a batch, one for each kind of distance."""


class GaussianLearner:
    """Gaussian statistics of all patches that images are added to.

    Args:
        statistics: Statistics to begin with; their arrays are overwritten.
    """

    def __init__(self, statistics: Statistics) -> None:
        self.found = statistics
        """Statistics so far; the next batch overwrites their arrays."""

    turned = False
    """Whether images are learned from turned as well."""

    def add(self, variants: Sequence[npt.NDArray[np.float32]], workers: int = 1) -> None:
        """Add the embeddings `(N, D, h, w)` of a batch of images, which has no other variants."""
        (embedding,) = variants
        absorb(self.found.mean, self.found.scatter, self.found.count, embedding, workers=workers)
        self.found = replace(self.found, count=self.found.count + len(embedding))

    def expect(self, fold: int) -> None:
        """Take no note of the fold of the next image; Gaussians have none."""

    def finish(self) -> Statistics:
        """Return the statistics."""
        return self.found


class BothLearner:
    """Gaussian statistics and a memory that images are added to.

    Args:
        start: What to begin with; the arrays of its statistics are overwritten.
        method: Method of the fit, with a memory beside the Gaussians.
    """

    def __init__(self, start: Both, method: Method) -> None:
        assert method.beside is not None
        self.gaussians = GaussianLearner(start.gaussians)
        self.memory = MemoryLearner(start.memory, method.beside)

    @property
    def turned(self) -> bool:
        """Whether images are learned from turned as well; the Gaussians are not."""
        return self.memory.turned

    @property
    def found(self) -> Both:
        """Statistics and memory so far, whose last fold may not be thinned yet."""
        return Both(self.gaussians.found, self.memory.found)

    def expect(self, fold: int) -> None:
        """Say into which fold the next image comes; asked once for each image, in order."""
        self.memory.expect(fold)

    def finish(self) -> Both:
        """Return statistics and memory."""
        return Both(self.gaussians.finish(), self.memory.finish())


Learner = GaussianLearner | MemoryLearner | BothLearner

After = Callable[[Learner, int], object]


def learner_of(start: Statistics | Memory | Both, method: Method) -> Learner:
    """Return a learner that adds images to statistics, whose arrays are overwritten, to a memory, or to both."""
    if isinstance(start, Both):
        return BothLearner(start, method)
    return MemoryLearner(start, method) if isinstance(start, Memory) else GaussianLearner(start)


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Split items into lists of `size`; the last list may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def batch_size(size: tuple[int, int]) -> int:
    """Return the number of images of (H, W) pixels in a batch."""
    return max(1, min(BATCH, _BATCH_PIXELS // (size[0] * size[1])))


def side_by_side(size: tuple[int, int]) -> int:
    """Return how many images of (H, W) pixels go through the backbone at a time."""
    return max(1, min(BATCH, _PIXELS // (size[0] * size[1])))


def accumulate(
    embedding_graph: bytes,
    images: Iterable[npt.NDArray[np.uint8]],
    learner: Learner,
    *,
    device: str = "cpu",
    threads: int | None = None,
    after: After = lambda _, __: None,
) -> None:
    """Add images to a learner.

    Memory does not depend on the number of images. The same images in the same order on the same machine give the same
    bytes.

    Args:
        embedding_graph: Serialised ONNX model, `image` -> `embedding`, as `padim_edge_model.graph.joined` makes it.
        images: Images in the model's frame, `(H, W, 3)` uint8 RGB each.
        learner: Learner that gains them.
        device: Device that runs the backbone.
        threads: Number of CPU threads; `None` takes one per core.
        after: Called after each batch with the learner, and with the number of images in the batch.

    Raises:
        PadimEdgeError: An embedding is not finite.
    """
    session = open_session(embedding_graph, device, threads=threads).session
    for batch in _of_equal_work(images):
        variants = [_embedded(session, batch)]
        if learner.turned:
            variants += [_embedded(session, some) for some in turned(batch)]
        with threadpool_limits(1, "blas"):  # BLAS threads would wait for each other at every patch
            _add(learner, variants, threads or cores())
        after(learner, len(batch))


def _add(learner: Learner, variants: Sequence[Embeddings], workers: int) -> None:
    """Add a batch of images; the first variant is upright."""
    if isinstance(learner, BothLearner):
        learner.gaussians.add([variants[0][0]], workers)
        learner.memory.add([beside for _, beside in variants], workers)
    else:
        learner.add([embedding for (embedding,) in variants], workers)


def _of_equal_work(images: Iterable[npt.NDArray[np.uint8]]) -> Iterator[list[npt.NDArray[np.uint8]]]:
    """Split images into batches of `BATCH`, or of fewer where they are large."""
    iterator = iter(images)
    first = next(iterator, None)
    if first is not None:
        yield from batches(chain([first], iterator), batch_size((first.shape[0], first.shape[1])))


def _embedded(session: Any, batch: Sequence[npt.NDArray[np.uint8]]) -> Embeddings:
    """Compute the embeddings `(N, D, h, w)` of a batch, one for each kind of distance."""
    together = side_by_side((batch[0].shape[0], batch[0].shape[1]))
    found = [session.run(None, feed(session, np.stack(some))) for some in batches(batch, together)]
    embeddings = tuple(np.concatenate(parts) for parts in zip(*found, strict=True))
    if not all(np.isfinite(each).all() for each in embeddings):
        raise PadimEdgeError("the backbone gives values that are not finite; check its weights")
    return tuple(np.asarray(each, np.float32) for each in embeddings)
