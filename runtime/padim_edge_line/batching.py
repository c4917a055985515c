"""Judging images of many requests at the same time, beside the line: nothing of it goes on record.

A GPU gets images of several requests in one call. A CPU does not: a batch has other scores than single images, in their
last digits. There, each image is a call of its own, with the score that `infer` gives, and has a core where many wait.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import MutableMapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import ImageError, Metadata
from padim_edge_line.crowd import Crowd
from padim_edge_line.errors import BusyError, StoppingError
from padim_edge_line.products import Product
from padim_edge_runtime import pipeline
from padim_edge_runtime.decoding_child import DecodingChild
from padim_edge_runtime.inspection import Inspection, Result
from padim_edge_runtime.pipeline import MOST_AT_ONCE, Judge
from padim_edge_runtime.prefetch import cores

__all__ = ["Answer", "Batching", "Gathering"]

_DECODING_S = 10.0
"""Seconds that decoding one image may take."""

Float32 = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Answer:
    """Distances of one image."""

    score: float
    """Maximum of the anomaly map; a value of float32."""
    anomaly_map: Float32
    """`(H, W)` distances in the model's frame."""
    patch_distance: Float32
    """`(h, w)` distance of each patch."""
    inspection: Inspection | None
    """Verdict on an encoded image; `None` for an image in the model's frame, whose own size is not known."""


class Batching:
    """Judges images of requests in threads of its own. Make it in the event loop, and close it at the end.

    Args:
        batch: Most images that a GPU gets in one call.
        wait_s: Seconds that an image waits for others to come, so that a GPU gets more of them.
        most: Number of images that may be judged and wait at a time.
        busy: Thread and time of each image in judging, for the watchdog.
    """

    def __init__(self, *, batch: int, wait_s: float, most: int, busy: MutableMapping[int, float] | None = None) -> None:
        self._batch, self._wait_s, self.most = batch, wait_s, most
        self._busy: MutableMapping[int, float] = {} if busy is None else busy
        self._lock = threading.Lock()
        self._waiting = 0
        self._closed = False
        self._pools: dict[bool, ThreadPoolExecutor] = {}
        self._gathering: dict[str, Gathering] = {}
        self._crowds: dict[str, Crowd] = {}
        self._local = threading.local()
        self._children: list[DecodingChild] = []

    @property
    def waiting(self) -> int:
        """Number of images that wait or are being judged."""
        return self._waiting

    async def judge(self, product: Product, images: Sequence[Pixels | bytes]) -> list[Answer]:
        """Judge the images of one request.

        Args:
            product: The product with its model.
            images: Images in the model's frame and its order of channels, `(H, W, 3)`; or encoded ones.

        Raises:
            BusyError: Too many images are waiting. None of these was judged.
            StoppingError: This is closed, or about to be.
            ImageError: An image cannot be read. The sentence begins with its number.
            DeviceError: The device failed.
        """
        futures = self._submitted(product, images)
        try:
            return list(await asyncio.gather(*map(asyncio.wrap_future, futures)))
        except asyncio.CancelledError:
            if self._closed:
                raise StoppingError("the service is about to end; send the request again later") from None
            raise
        finally:
            for future in futures:
                future.cancel()  # the rest, where one has failed

    def close(self) -> None:
        """Judge nothing that waits any more. What is being judged goes on, and its child processes end."""
        with self._lock:
            self._closed = True
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        for child in self._children:
            child.close()

    def _submitted(self, product: Product, images: Sequence[Pixels | bytes]) -> list[Future[Answer]]:
        with self._lock:
            if self._closed:
                raise StoppingError("the service is about to end; send the request again later")
            if self._waiting + len(images) > self.most:
                raise BusyError(f"{self._waiting} images are waiting already; send this later, or more slowly")
            self._waiting += len(images)
            together = product.detector.device != "cpu" and self._batch > 1
            if together not in self._pools:
                workers = self._batch if together else min(cores(), MOST_AT_ONCE)
                self._pools[together] = ThreadPoolExecutor(workers, "batch")
            pool = self._pools[together]
            judge = self._gathered(product) if together else self._crowded(product)
            futures = [pool.submit(self._one, judge, product, image, i) for i, image in enumerate(images, 1)]
        for future in futures:
            future.add_done_callback(self._done)
        return futures

    def _done(self, _: Future[Answer]) -> None:
        with self._lock:
            self._waiting -= 1

    def _one(self, judge: Judge, product: Product, image: Pixels | bytes, number: int) -> Answer:
        """Judge one image in a thread of the pool."""
        me = threading.get_ident()
        self._busy[me] = time.monotonic()
        try:
            if not isinstance(image, bytes):
                result = judge(image, threshold=product.choice.threshold)
                return Answer(float(result.score[0]), result.anomaly_map[0], result.patch_distance[0], None)
            levels = product.detector.metadata.preprocessing.levels
            found = pipeline.inspect(judge, self._child().decode(image, levels=levels), product.choice)
            return Answer(found.score, found.view.frame_map, found.view.patch_distance, found)
        except ImageError as error:
            raise ImageError(f"image {number} cannot be judged: {error}") from error
        finally:
            self._busy.pop(me, None)

    def _gathered(self, product: Product) -> Gathering:
        found = self._gathering.get(product.name)
        if found is None or found.judge is not product.detector:  # another model may have been promoted
            largest = product.detector.largest or self._batch
            found = Gathering(product.detector, min(self._batch, largest), self._wait_s)
            self._gathering[product.name] = found
        return found

    def _crowded(self, product: Product) -> Judge:
        found = self._crowds.get(product.name)
        if found is None or found.product is not product:
            found = self._crowds[product.name] = Crowd(product, lambda: self._waiting)
        return found

    def _child(self) -> DecodingChild:
        found: DecodingChild | None = getattr(self._local, "child", None)
        if found is None:
            found = self._local.child = DecodingChild(seconds=_DECODING_S)
            self._children.append(found)
        return found


@dataclass(eq=False)
class _Waiting:
    """An image that waits in a thread."""

    frame: Pixels
    """The image, `(1, H, W, 3)`."""
    outcome: Result | Exception | None = field(default=None)
    """Its distances, or the reason why there are none; `None` as long as it waits."""


class Gathering:
    """A judge that puts images of several threads into one call. One thread calls for all of them.

    While the device works, further images gather. One that comes to an idle device waits for others, but not for long.

    Args:
        judge: The model.
        batch: Most images in one call.
        wait_s: Seconds that the first image waits for others.
    """

    def __init__(self, judge: Judge, batch: int, wait_s: float) -> None:
        self.judge = judge
        self._batch, self._wait_s = batch, wait_s
        self._changed = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._calling = False

    @property
    def metadata(self) -> Metadata:
        """Metadata of the model."""
        return self.judge.metadata

    @property
    def device(self) -> str:
        """Device that the model runs on."""
        return self.judge.device

    @property
    def threads(self) -> int | None:
        """CPU threads for one image; `None` where onnxruntime chose."""
        return self.judge.threads

    def __call__(self, images: Pixels, *, threshold: float | None = None) -> Result:
        """Judge one image in the model's frame. All threads give the same threshold."""
        mine = _Waiting(images if images.ndim == 4 else images[None])
        with self._changed:
            self._waiting.append(mine)
            self._changed.notify_all()
            while mine.outcome is None:
                if self._calling:
                    self._changed.wait()
                    continue
                self._calling = True
                group = self._group()
                self._changed.release()
                try:
                    self._call(group, threshold)
                finally:
                    self._changed.acquire()
                    self._calling = False
                    self._changed.notify_all()
        if isinstance(mine.outcome, Exception):
            raise mine.outcome
        return mine.outcome

    def _group(self) -> list[_Waiting]:
        """Wait until there are enough images, or long enough, and take them in their order."""
        until = time.monotonic() + self._wait_s
        while len(self._waiting) < self._batch and (left := until - time.monotonic()) > 0:
            self._changed.wait(left)
        group = self._waiting[: self._batch]
        del self._waiting[: self._batch]
        return group

    def _call(self, group: list[_Waiting], threshold: float | None) -> None:
        try:
            found = self.judge(np.concatenate([each.frame for each in group]), threshold=threshold)
        except Exception as error:  # noqa: BLE001 - it is raised in each thread
            for each in group:
                each.outcome = error
            return
        for i, each in enumerate(group):
            one = slice(i, i + 1)
            each.outcome = replace(
                found,
                score=found.score[one],
                anomaly_map=found.anomaly_map[one],
                patch_distance=found.patch_distance[one],
                p_value=found.p_value[one],
                anomalous=found.anomalous[one],
            )
