"""The line's side of a camera's process: start, questions, answers, end."""

from __future__ import annotations

import asyncio
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import PadimEdgeError
from padim_edge_line.config import CameraConfig
from padim_edge_runtime.image_limits import LARGEST_AREA

__all__ = ["CameraProcess", "EndedError", "Frame", "LostError"]

_OPEN_S = 15.0
"""Seconds more than `timeout_s` that a camera may take to be opened."""
_LONGEST_LINE = 1 << 16


class LostError(PadimEdgeError):
    """The camera gives no more frames; the sentence is the reason."""


class EndedError(PadimEdgeError):
    """The video has ended."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a camera."""

    number: int
    """Number of the frame since the camera was opened, from 1."""
    pixels: npt.NDArray[np.uint8]
    """`(H, W)` or `(H, W, 3)`, RGB."""


class CameraProcess:
    """A camera that is open in a process of its own. Make it with `opened`, and call `close` at the end."""

    def __init__(self, config: CameraConfig) -> None:
        self._config = config
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._memory = _Memory()
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answer: asyncio.Future[dict[str, Any]] | None = None
        self._question = 0
        self._turn = asyncio.Lock()
        self._lost: asyncio.Future[PadimEdgeError] = asyncio.get_running_loop().create_future()
        self._advanced = math.inf
        self.frames = 0
        """Number of frames that the camera gave."""
        self.given = 0
        """Number of frames that somebody asked for and got."""
        self.on_demand = False
        """Whether the camera takes a frame only when one is asked for."""

    @classmethod
    async def opened(cls, config: CameraConfig) -> CameraProcess:
        """Start the process and open the camera.

        Raises:
            LostError: It cannot be opened.
        """
        found = cls(config)
        try:
            await found._start()
        except BaseException:
            await found.close()
            raise
        return found

    async def frame(self, after: float) -> Frame:
        """Return the newest frame that was taken after a moment of `time.monotonic` and that nobody else got.

        Raises:
            LostError: There is none within `timeout_s`. The process is of no use any more.
            EndedError: The video has ended.
        """
        async with self._turn:
            self._question += 1
            self._answer = asyncio.get_running_loop().create_future()
            await self._send({"question": self._question, "after": after})
            answer = await self._within(self._answer, self._config.timeout_s)
            pixels = await asyncio.to_thread(_read, self._memory, answer["shape"])
            return Frame(int(answer["frame"]), pixels)

    async def lost(self) -> PadimEdgeError:
        """Wait until the camera is lost or ends, and return the reason."""
        while not self._lost.done():
            await asyncio.wait({self._lost}, timeout=0.25)
            if not self.on_demand and time.monotonic() - self._advanced > self._config.timeout_s:
                self._lose(LostError(f"no frame for {self._config.timeout_s:g} s"))
        return self._lost.result()

    async def close(self) -> None:
        """End the process at once."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            if process.stdin is not None:
                process.stdin.close()
                with suppress(OSError):
                    await process.stdin.wait_closed()
            await process.wait()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        self._lose(LostError("it was closed"))

    async def _start(self) -> None:
        command = [sys.executable, "-m", "padim_edge_line.sources.camera_child"]
        # The process is started by the thread of the loop: where that ends, Linux ends the process.
        self._process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # drivers print addresses with passwords
            pass_fds=[self._memory.descriptor],
            limit=_LONGEST_LINE,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )
        self._reader = asyncio.create_task(self._read())
        # The address goes through the pipe, because everybody can read the arguments of a process.
        await self._send(
            {
                "parent": os.getpid(),
                "descriptor": self._memory.descriptor,
                "camera": self._config.camera,
                "url": self._config.url,
                "options": dict(self._config.options),
            }
        )
        await self._within(self._opened, self._config.timeout_s + _OPEN_S)
        self._advanced = time.monotonic()

    async def _send(self, question: dict[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            await self._process.stdin.drain()
        except OSError:  # it has ended; the reason is on its way
            await asyncio.wait({self._lost}, timeout=1.0)

    async def _within(self, future: asyncio.Future[Any], seconds: float) -> Any:
        done, _ = await asyncio.wait({future, self._lost}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if future in done:
            return future.result()
        if self._lost not in done:
            self._lose(LostError(f"no frame for {seconds:g} s"))
        raise self._lost.result()

    async def _read(self) -> None:
        """Take the answers until there are no more."""
        assert self._process is not None
        assert self._process.stdout is not None
        reason: PadimEdgeError = LostError("its driver ended the process")
        with suppress(OSError, ValueError, KeyError, TypeError):
            while line := await self._process.stdout.readline():
                answer = json.loads(line)
                if "error" in answer:
                    reason = LostError(str(answer["error"]))
                elif "end" in answer:
                    reason = EndedError("the video has ended")
                else:
                    self._note(answer)
        self._lose(reason)

    def _note(self, answer: dict[str, Any]) -> None:
        if "opened" in answer:
            self.on_demand = bool(answer["on_demand"])
            if not self._opened.done():
                self._opened.set_result(None)
        elif "frames" in answer:
            self._count(int(answer["frames"]), int(answer["given"]))
        else:
            self._count(int(answer["frame"]), self.given + 1)
            if answer["answer"] == self._question and self._answer is not None and not self._answer.done():
                self._answer.set_result(answer)

    def _count(self, frames: int, given: int) -> None:
        if frames > self.frames:
            self._advanced = time.monotonic()
        self.frames, self.given = max(self.frames, frames), max(self.given, given)

    def _lose(self, reason: PadimEdgeError) -> None:
        if not self._lost.done():
            self._lost.set_result(reason)


class _Memory:
    """File in memory without a name: it ends with the last process that has it open, however that ends.

    Raises:
        PadimEdgeError: This system has none.
    """

    def __init__(self) -> None:
        self.descriptor = -1
        """Descriptor of the file. It is closed when nobody knows this object any more, as a thread may be reading."""
        if os.name == "nt":
            raise PadimEdgeError("cameras need Linux or macOS; write their images into a folder, and watch that")
        if sys.platform == "linux":
            self.descriptor = os.memfd_create("frame", os.MFD_CLOEXEC)
        else:
            with tempfile.TemporaryFile() as file:
                self.descriptor = os.dup(file.fileno())

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


def _read(memory: _Memory, shape: Sequence[int]) -> npt.NDArray[np.uint8]:
    """Read the pixels of a frame.

    Raises:
        LostError: The shape is none of an image, or the pixels are not there.
    """
    height, width, *channels = shape
    if not (height > 0 and width > 0 and height * width <= LARGEST_AREA and channels in ([], [3])):
        raise LostError(f"it gave a frame of shape {tuple(shape)}")
    pixels = np.empty(tuple(shape), np.uint8)
    view = pixels.reshape(-1).data
    done = 0
    while done < len(view):
        count = os.preadv(memory.descriptor, [view[done:]], done)
        if not count:
            raise LostError("the pixels of a frame are missing")
        done += count
    return pixels
