"""The line itself: images in, one durable row each, and everybody who wants to know is told."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from padim_edge_artifact import PadimEdgeError
from padim_edge_line import judging
from padim_edge_line.arrival import Arrival
from padim_edge_line.config import FolderConfig
from padim_edge_line.errors import BusyError, LaterError, StoppingError
from padim_edge_line.health import FAILING, STARTING, WORKING, Board, Health
from padim_edge_line.loading import Loading
from padim_edge_line.metrics import Metrics
from padim_edge_line.news import Event, News
from padim_edge_line.products import ACTIVE, Product, Products
from padim_edge_line.record import Mark, Record, images
from padim_edge_line.record.store import Entry, Written
from padim_edge_line.row import FAILED, Row
from padim_edge_runtime.decoding_child import DecodingChild
from padim_edge_runtime.inspection import Inspection
from padim_edge_runtime.prefetch import cores

if TYPE_CHECKING:
    from padim_edge_line.config import LineConfig
    from padim_edge_line.drift import Drift
    from padim_edge_line.interfaces import Triggered

__all__ = ["Line", "Picture", "takes_turns"]

_LATENCIES = 1000
_PICTURE_EVERY = 0.5
"""Seconds between two pictures of good images of one product for the page."""
_UNDRAWN = 2
"""Number of images that may wait to be drawn."""
_ROW_S = 60.0
"""Seconds that a drawing waits for the row, which a full disk holds up."""
_ANSWER_S = 0.02
"""Seconds from the row to the drawing, in which the answer is on its way."""
_LOADING = 60.0
"""Seconds that an image waits for its model, which may be on its way."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Picture:
    """An image with its overlay, for the page."""

    key: bytes
    """Key of the image."""
    content: bytes
    """JPEG, at most 1024 pixels wide and high."""
    drawn: float
    """Time of the drawing, from `time.monotonic`."""
    arrived: int
    """Time of the image's arrival in microseconds."""


def takes_turns(config: LineConfig) -> bool:
    """Tell whether one image at a time has all cores: the shortest time for one, rather than the most images."""
    prefer = config.judging.prefer
    if prefer == "auto":
        posts = config.server is not None and config.server.images
        return posts or not all(isinstance(source, FolderConfig) for source in config.sources)
    return prefer == "latency"


class Line:
    """A running line. Make it inside the event loop, and close it at the end.

    Args:
        config: What the line consists of.
        token: Secret for changes through the page.
        sources: Sources that can be triggered, by name.

    Raises:
        PadimEdgeError: The record cannot be used.
    """

    def __init__(self, config: LineConfig, token: str = "", sources: Mapping[str, Triggered] | None = None) -> None:
        self.config = config
        self.token = token
        self.sources = dict(sources or {})
        self._loop = asyncio.get_running_loop()
        self._news = News()
        self.board = Board(self._health_changed)
        self.workers = 1 if takes_turns(config) else min(cores(), 8)
        """Number of images that are judged at a time."""
        self.board.set("record", "record", STARTING)
        self.record = Record(config.folder, config.record, told=self._record_told, wrote=self._wrote)
        self.board.set("record", "record", WORKING)
        names = [product.name for product in config.products]
        active = self.record.reader().setting(ACTIVE)
        self.products = Products(names, active if active in names else names[0])
        self.loading = Loading(self, threads=None if self.workers == 1 else 1)
        self.drift: Drift | None = None
        self.metrics = Metrics(self)
        self.busy_since: dict[int, float] = {}
        """Thread and time of each image in judging, for the watchdog."""
        self._pool = ThreadPoolExecutor(self.workers, "judge")
        self._drawing = ThreadPoolExecutor(1, "draw")
        self._undrawn = threading.BoundedSemaphore(_UNDRAWN)
        self._local = threading.local()
        self._children: list[DecodingChild] = []
        self._tasks: set[asyncio.Task[Row]] = set()
        self._waiting = 0
        self._stopping = False
        self._grown = asyncio.Event()
        self._latencies: deque[float] = deque(maxlen=_LATENCIES)
        self._pictures: dict[str, Picture] = {}

    async def judge(self, arrival: Arrival, *, wait: bool = True) -> Row:
        """Judge an image; its row is durable when this returns. A cancelled caller does not stop it.

        An image that the record has already, by its source and key, gets no second row: the first one is returned.

        Args:
            arrival: The image.
            wait: Whether to wait although many others do.

        Raises:
            BusyError: Too many images are waiting, and `wait` is not set.
            LaterError: The device or the model fails, and the arrival is `patient`.
            StoppingError: The line is about to end.
            PadimEdgeError: There is no such product.
        """
        self.products.require(arrival.product)
        if self._stopping:
            raise StoppingError("the line is about to end and takes no more images; send it again later")
        if not wait and self._waiting >= self.config.judging.most_waiting:
            raise BusyError(f"{self._waiting} images are waiting already; send it again later, or more slowly")
        self._waiting += 1
        task = self._loop.create_task(self._judged(arrival))
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    async def trigger(self, source: str, part: str | None) -> Row:
        """Take a new image from a source and judge it.

        Raises:
            PadimEdgeError: There is no such source, or it gives no image.
        """
        if source not in self.sources:
            known = ", ".join(self.sources) or "none"
            raise PadimEdgeError(f"there is no source {source[:64]!r} that can be triggered, expected one of: {known}")
        return await self.sources[source].trigger(self, part)

    async def choose(self, product: str) -> None:
        """Make another product from now on. Images that have arrived keep theirs.

        Raises:
            PadimEdgeError: There is no such product, or its model is not loaded.
        """
        self.products.require(product)
        if not self.products.loaded(product):
            raise PadimEdgeError(f"the model of {product} is not loaded; see the state of the line")
        await asyncio.wrap_future(self.record.set(ACTIVE, product))
        self.products.choose(product)
        self.record.event("product", product)
        self._news.tell(Event("product", {"active": product}))
        log.info("the line makes %s from now on", product)

    async def mark(self, seq: int, mark: str, who: str) -> Mark:
        """Note what a person says about a verdict.

        Raises:
            PadimEdgeError: There is no such row, or the word is unknown.
        """
        found: Mark = await asyncio.wrap_future(self.record.mark(seq, mark, judging.text(who)))
        row = self.record.reader().row(seq)
        if row is not None and self.drift is not None:
            self.drift.marked(row.product, row.time, found.mark)
        self._news.tell(Event("mark", {"seq": seq, "mark": found.mark, "who": found.who}))
        return found

    async def rows_after(self, seq: int) -> AsyncIterator[Row]:
        """Yield durable rows in order, and wait for new ones without an end."""
        while True:
            grown = self._grown
            found = list(self.record.reader().rows(after=seq, limit=200))
            for row in found:
                yield row
                seq = row.seq
            if not found:
                await grown.wait()

    def listen(self) -> AsyncIterator[Event]:
        """Yield events from now on, without an end."""
        return self._news.listen()

    def preview(self, product: str) -> Picture | None:
        """Return the last picture of a product; `None` where there is none yet. Of fast images, not each has one."""
        return self._pictures.get(product)

    def latencies(self) -> tuple[float, ...]:
        """Return the milliseconds from arrival to row of the last images."""
        return tuple(self._latencies)

    @property
    def waiting(self) -> int:
        """Number of images that have arrived and have no row yet."""
        return self._waiting

    def tell(self, event: Event) -> None:
        """Tell all listeners, from any thread."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._news.tell, event)

    async def finish(self, seconds: float = 1.0) -> None:
        """Take no more images, and finish those in judging, as far as that takes no longer than some seconds."""
        self._stopping = True
        self.loading.stop()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=seconds)
        for pool in (self._pool, self._drawing):
            pool.shutdown(wait=False, cancel_futures=True)

    async def close(self, seconds: float = 1.0) -> None:
        """Finish, and close the record."""
        await self.finish(seconds)
        await self._loop.run_in_executor(None, self.record.close)
        for child in self._children:
            child.close()

    async def _judged(self, arrival: Arrival) -> Row:
        try:
            judged, future = await self._loop.run_in_executor(self._pool, self._in_thread, arrival)
        except LaterError as error:
            self.loading.failed(arrival.product, str(error))
            raise
        written = await asyncio.wrap_future(future)
        if judged is not None and written.new and self.drift is not None:
            self.drift.add(judged)
        if written.row.verdict == FAILED:
            self.loading.failed(arrival.product, written.row.error or "")
        return written.row

    def _in_thread(self, arrival: Arrival) -> tuple[judging.Judged | None, Future[Written]]:
        """Judge in a thread of the pool, and hand the row to the record before anybody can forget it."""
        me = threading.get_ident()
        self.busy_since[me] = time.monotonic()
        try:
            known = self.record.reader().row_of_key(judging.text(arrival.source), arrival.key)
            if known is not None:
                done: Future[Written] = Future()
                done.set_result(Written(known, new=False))
                return None, done
            found = judging.judged(arrival, lambda: self._product(arrival.product), self._child())
            if arrival.patient and found.row.verdict == FAILED:
                raise LaterError(found.row.error or "")
            row, size = self._kept(arrival, found)
            future = self.record.add(Entry(row, size))
            self._picture(arrival, found, future if size else None)
            return found, future
        finally:
            self.busy_since.pop(me, None)

    def _product(self, name: str) -> Product:
        return self.products.get(name, 0 if self._stopping else _LOADING)

    def _kept(self, arrival: Arrival, found: judging.Judged) -> tuple[Row, int]:
        """Keep the image where it is wanted; return the row that says so, and the bytes."""
        if not judging.wanted(found.row, self.config.record.good_every):
            return found.row, 0
        try:
            ending, size = judging.kept(self.config.folder, arrival, found)
        except (OSError, MemoryError) as error:
            reason = getattr(error, "strerror", None) or "no memory"
            self.board.set("store", "kept images", FAILING, f"images cannot be kept ({reason}); check the disk's room")
            return found.row, 0
        self.board.set("store", "kept images", WORKING)
        return replace(found.row, image=ending), size

    def _picture(self, arrival: Arrival, found: judging.Judged, kept: Future[Written] | None) -> None:
        """Have the overlay drawn for the page, and for a kept image, if there is one to draw.

        The answer waits for no picture, which takes as long as a model. But where images come faster than pictures can
        be drawn, the judging waits for them, so that few images are in memory.
        """
        product, now = found.row.product, time.monotonic()
        last = self._pictures.get(product)
        shown = self.config.server is not None and (
            last is None or (now - last.drawn > _PICTURE_EVERY and len(self._news))
        )
        if found.inspection is None or (kept is None and not shown):
            return
        if not self._undrawn.acquire(blocking=False):
            self._draw(arrival, found.inspection, kept)
            return
        with suppress(RuntimeError):  # the line has ended
            self._drawing.submit(self._draw_later, arrival, found.inspection, kept).add_done_callback(self._drawn)

    def _draw_later(self, arrival: Arrival, inspection: Inspection, kept: Future[Written] | None) -> None:
        """Draw after the answer, which would have to take turns with the drawing."""
        if kept is not None:
            wait([kept], _ROW_S)
        time.sleep(_ANSWER_S)
        self._draw(arrival, inspection, kept)

    def _draw(self, arrival: Arrival, inspection: Inspection, kept: Future[Written] | None) -> None:
        with suppress(OSError, MemoryError):  # the image itself is kept, and the next one may have a picture
            content = judging.small_overlay(inspection)
            last = self._pictures.get(arrival.product)
            if last is None or last.arrived <= arrival.time:
                self._pictures[arrival.product] = Picture(arrival.key, content, time.monotonic(), arrival.time)
            if kept is not None:
                images.save(judging.overlay_of(self.config.folder, arrival), content, durable=False)
                kept.add_done_callback(lambda done: self.record.enlarge(done, len(content)))

    def _drawn(self, _: Future[None]) -> None:
        self._undrawn.release()

    def _child(self) -> DecodingChild:
        found: DecodingChild | None = getattr(self._local, "child", None)
        if found is None:
            found = self._local.child = DecodingChild(seconds=10.0)
            self._children.append(found)
        return found

    def _done(self, task: asyncio.Task[Row]) -> None:
        self._tasks.discard(task)
        self._waiting -= 1
        if not task.cancelled():
            task.exception()  # whoever waits for it is told; nobody else needs to be

    def _wrote(self, rows: Sequence[Row]) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._grow, rows)

    def _grow(self, rows: Sequence[Row]) -> None:
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()
        for row in rows:
            self._latencies.append(row.latency_ms)
            self.metrics.add(row)
            if len(self._news):
                self._news.tell(Event("row", row.to_json()))

    def _record_told(self, sentence: str) -> None:
        self.board.set("record", "record", FAILING if sentence else WORKING, sentence)

    def _health_changed(self, before: Health, after: Health) -> None:
        if after.state == FAILING:
            log.warning("%s %s: %s", after.kind, after.name, after.sentence)
        elif after.state == WORKING and before.state == FAILING:
            log.info("%s %s works again", after.kind, after.name)
        self.tell(Event("health", after.to_json()))
