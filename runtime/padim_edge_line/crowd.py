"""One core for each image where several wait, and all cores for one that is alone.

Cores that share an image wait for each other at the end of each layer. With an image each, they judge a tenth more.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import Metadata, PadimEdgeError
from padim_edge_line.products import Product
from padim_edge_runtime.detector import Detector
from padim_edge_runtime.inspection import Result
from padim_edge_runtime.prefetch import cores

__all__ = ["Crowd"]

log = logging.getLogger(__name__)


class Crowd:
    """A judge that holds the model a second time, for one thread, from the first crowd on. Any thread may call it.

    The second one is taken only if it gives the bits of the first one for the image at hand.

    Args:
        product: The product with its model on the CPU.
        waiting: Tells how many images wait or are being judged, with the one that asks.
    """

    def __init__(self, product: Product, waiting: Callable[[], int]) -> None:
        self.product = product
        """The product with its model."""
        self._waiting = waiting
        self._making = threading.Lock()
        self._made = product.detector.device != "cpu" or product.detector.threads == 1 or cores() == 1
        self._single: Detector | None = None

    @property
    def metadata(self) -> Metadata:
        """Metadata of the model."""
        return self.product.detector.metadata

    @property
    def device(self) -> str:
        """Device that the model runs on."""
        return self.product.detector.device

    @property
    def threads(self) -> int | None:
        """CPU threads for an image that is alone; `None` where onnxruntime chose."""
        return self.product.detector.threads

    def __call__(self, images: npt.NDArray[np.uint8], *, threshold: float | None = None) -> Result:
        """Judge images in the model's frame."""
        whole = self.product.detector
        if self._waiting() < 2:
            return whole(images, threshold=threshold)
        if not self._made and self._making.acquire(blocking=False):  # others go on with the first one meanwhile
            try:
                if not self._made:
                    self._single = self._same(images)
                    self._made = True
            finally:
                self._making.release()
        return (self._single or whole)(images, threshold=threshold)

    def _same(self, images: npt.NDArray[np.uint8]) -> Detector | None:
        """Load the model for one thread; `None` unless it gives the same bits."""
        product = self.product
        try:
            found = Detector.load(product.model, "cpu", product=product.bundled, threads=1)
            reason = "the file has changed since"
            if found.metadata == product.detector.metadata:
                one, other = found(images), product.detector(images)
                if np.array_equal(one.anomaly_map, other.anomaly_map) and np.array_equal(one.score, other.score):
                    return found
                reason = "one thread gives other values"
        except PadimEdgeError as error:
            reason = str(error)
        log.warning("images of %s that wait share the cores, which is slower: %s", product.name, reason)
        return None
