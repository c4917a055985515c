"""A camera, a stream or a video file as a source."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

from padim_edge_artifact import PadimEdgeError
from padim_edge_line.arrival import KEY_BYTES, Arrival
from padim_edge_line.config import CameraConfig
from padim_edge_line.errors import LaterError
from padim_edge_line.health import FAILING, STARTING, WORKING
from padim_edge_line.sources.av_camera import is_file
from padim_edge_line.sources.camera_process import CameraProcess, EndedError, Frame, LostError

if TYPE_CHECKING:
    from padim_edge_line.line import Line
    from padim_edge_line.row import Row

__all__ = ["CameraSource", "check"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
"""Seconds from the loss of a camera to the next attempt."""
_TELL_S = 1.0
"""Seconds between two notes of the number of frames."""
_LATER_S = 1.0
"""Seconds until the frame of a file is tried again that could not be judged."""

_LOG = logging.getLogger(__name__)


class CameraSource:
    """Source that judges frames, all the time or on demand.

    Args:
        config: The camera.

    Raises:
        PadimEdgeError: A value is unknown.
    """

    def __init__(self, config: CameraConfig) -> None:
        if config.trigger not in ("free", "software"):
            raise PadimEdgeError(
                f"source {config.name} has the trigger {config.trigger!r}, expected `free` or `software`"
            )
        self._config = config
        self._process: CameraProcess | None = None
        self._reason = "it is not open yet"
        self._before = (0, 0)
        self._file = _identity(config)

    @property
    def name(self) -> str:
        """Name of the source."""
        return self._config.name

    async def run(self, line: Line) -> None:
        """Judge frames until it is cancelled, or until the video has ended."""
        pause = _FIRST_PAUSE
        self._tell(line, STARTING, "")
        while True:
            process = None
            try:
                process = await CameraProcess.opened(self._config)
                self._process = process
                self._tell(line, WORKING, "")
                await self._served(line, process)
                return
            except EndedError:
                self._reason = "the video has ended"
                self._tell(line, WORKING, self._reason)
                return
            except LostError as error:
                if process is not None and process.frames:
                    pause = _FIRST_PAUSE
                seconds = pause * random.uniform(0.75, 1.25)  # noqa: S311 - so that not all come at a time
                pause = min(2 * pause, _LONGEST_PAUSE)
                self._reason = str(error)
                sentence = f"the camera gives no frames: {error}; check its power, its cable and its address"
                self._tell(line, FAILING, sentence)
            finally:
                self._process = None
                if process is not None:
                    self._before = (self._before[0] + process.frames, self._before[1] + process.given)
                    await process.close()
            await asyncio.sleep(seconds)

    async def trigger(self, line: Line, part: str | None) -> Row:
        """Take a frame whose exposure begins after this call, have it judged, and return its row.

        Raises:
            PadimEdgeError: The camera judges by itself, or gives no frame.
        """
        asked = time.monotonic()
        if self._config.trigger != "software":
            raise PadimEdgeError(
                f"source {self.name} judges by itself and cannot be triggered; set its trigger to `software`"
            )
        product = self._config.product or line.products.active
        process = self._process
        if process is None:
            raise PadimEdgeError(f"source {self.name} gives no frames: {self._reason}; see the state of the line")
        try:
            frame = await process.frame(asked)
        except (LostError, EndedError) as error:
            raise PadimEdgeError(f"source {self.name} gave no frame: {error}; see the state of the line") from error
        return await line.judge(self._arrival(frame, product, part))

    async def _served(self, line: Line, process: CameraProcess) -> None:
        """Judge frames until the camera is lost or has ended.

        Raises:
            LostError: It is lost.
            EndedError: The video has ended.
        """
        tasks = [asyncio.create_task(self._watch(line, process))]
        if self._config.trigger == "free":
            # A frame of a file has its own turn, so that the rows are in the order of the frames.
            count = 1 if process.on_demand else max(1, line.workers)
            turn = asyncio.Lock()
            tasks += [asyncio.create_task(self._judge(line, process, turn)) for _ in range(count)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _judge(self, line: Line, process: CameraProcess, turn: asyncio.Lock) -> None:
        """Judge one frame after the other. Several of these share a camera and take turns at it."""
        while True:
            async with turn:
                start = time.monotonic()
                product = self._config.product or line.products.active
                frame = await process.frame(0.0)
                arrival = self._arrival(frame, product, None)
                judging = asyncio.create_task(self._judged(line, arrival, again=process.on_demand))
                try:
                    await asyncio.sleep(self._config.every_s - (time.monotonic() - start))
                except BaseException:
                    judging.cancel()
                    raise
            await judging

    async def _judged(self, line: Line, arrival: Arrival, *, again: bool) -> None:
        while True:
            try:
                await line.judge(arrival)
                return
            except LaterError:
                if not again:
                    return
            except PadimEdgeError as error:
                _LOG.warning("source %s: a frame could not be judged: %s", self.name, type(error).__name__)
                if not again:
                    return
            await asyncio.sleep(_LATER_S)

    async def _watch(self, line: Line, process: CameraProcess) -> None:
        """Note how many frames come, until the camera is lost.

        Raises:
            LostError: It is lost.
            EndedError: The video has ended.
        """
        lost = asyncio.create_task(process.lost())
        last = (time.monotonic(), process.frames)
        try:
            while not lost.done():
                await asyncio.wait({lost}, timeout=_TELL_S)
                now, frames = time.monotonic(), process.frames
                rate = (frames - last[1]) / max(now - last[0], 1e-3)
                last = (now, frames)
                self._count(line, process, rate)
            self._count(line, process, 0.0)
            raise lost.result()
        finally:
            lost.cancel()

    def _count(self, line: Line, process: CameraProcess, rate: float) -> None:
        frames, given = self._before[0] + process.frames, self._before[1] + process.given
        dropped = max(0, frames - given) if self._config.trigger == "free" else 0
        line.board.count("source", self.name, frames=frames, dropped=dropped, fps=round(rate, 1))

    def _tell(self, line: Line, state: str, sentence: str) -> None:
        line.board.set("source", self.name, state, sentence)

    def _arrival(self, frame: Frame, product: str, part: str | None) -> Arrival:
        if self._file is None or self._config.trigger != "free":
            name = f"frame {self._before[0] + frame.number}"
            return Arrival(source=self.name, name=name, image=frame.pixels, product=product, part=part)
        # The same frame of the same file is the same image, also after a restart.
        name = f"frame {frame.number}"
        key = hashlib.sha256(f"{self._file}\0{name}".encode(errors="surrogateescape")).digest()[:KEY_BYTES]
        return Arrival(source=self.name, name=name, image=frame.pixels, product=product, key=key)


def _identity(config: CameraConfig) -> str | None:
    """Return what tells a video file from others; `None` for cameras."""
    if config.camera != "av" or config.options.get("realtime") or not is_file(config.url):
        return None
    status = Path(config.url).stat()
    return f"{Path(config.url).name}\0{status.st_mtime_ns}\0{status.st_size}"


async def check(config: CameraConfig) -> str:
    """Open the camera, take a frame, and say what was found.

    Raises:
        PadimEdgeError: It gives no frame.
    """
    CameraSource(config)
    start = time.monotonic()
    try:
        process = await CameraProcess.opened(config)
        try:
            frame = await process.frame(0.0)
        finally:
            await process.close()
    except (LostError, EndedError) as error:
        raise PadimEdgeError(
            f"source {config.name} gives no frames: {error}; check its power, its cable and its address"
        ) from error
    height, width = frame.pixels.shape[:2]
    colours = "grey" if frame.pixels.ndim == 2 else "colour"
    return f"{width} x {height}, {colours}, first frame after {time.monotonic() - start:.1f} s"
