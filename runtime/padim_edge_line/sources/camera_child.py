"""The process that a camera lives in: neither a crash nor a hang of its driver stops the line.

It takes frames all the time, so that none waits in the driver, and gives the newest one when it is asked. Questions
come as lines of JSON on stdin and answers go to stdout. The pixels go through a file in memory without a name, which
ends with the last process that has it open.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import PadimEdgeError
from padim_edge_line.interfaces import Camera
from padim_edge_line.sources.hiding import hidden

__all__ = ["GROUP", "camera_of", "main"]

GROUP = "padim_edge.cameras"
"""Group of the entry points that name cameras."""

_STATUS_S = 0.5
"""Seconds between two messages about the number of frames."""

Pixels = npt.NDArray[np.uint8]


def camera_of(name: str, url: str, options: Mapping[str, Any]) -> Camera:
    """Make a camera by its name: `av`, an entry point, or `module:function`.

    Raises:
        PadimEdgeError: There is no such camera.
    """
    if name == "av":
        from padim_edge_line.sources.av_camera import AvCamera

        return AvCamera(url, options)
    module, _, function = name.partition(":")
    if function:
        try:
            make = getattr(import_module(module), function)
        except (ImportError, AttributeError) as error:
            raise PadimEdgeError(
                f"the camera {name!r} cannot be imported ({type(error).__name__}); install its package, or name the "
                "folder of its module in PYTHONPATH"
            ) from error
    else:
        found = {each.name: each for each in entry_points(group=GROUP)}
        if name not in found:
            known = ", ".join(("av", *sorted(found)))
            raise PadimEdgeError(f"there is no camera {name!r}, expected one of {known}, or module:function")
        make = found[name].load()
    camera: Camera = make(url, options)
    return camera


class _Frames:
    """The camera, the newest frame, and the question that waits for one.

    Args:
        answers: Stream for the answers.
        descriptor: File in memory for the pixels.
    """

    def __init__(self, answers: BinaryIO, descriptor: int) -> None:
        self._answers = answers
        self._descriptor = descriptor
        self._writing = threading.Lock()
        self._giving = threading.Lock()
        self._asked = 0
        self._changed = threading.Condition()
        self._question: tuple[int, float] | None = None
        self._newest: tuple[Any, float] | None = None
        self._number = 0
        self._given = 0

    def tell(self, **answer: Any) -> None:
        """Send an answer."""
        with self._writing:
            self._answers.write(json.dumps(answer).encode() + b"\n")
            self._answers.flush()

    def ask(self, number: int, after: float) -> None:
        """Note a question for a frame that was taken after a moment."""
        with self._changed:
            self._asked, self._question = number, (number, after)
            self._changed.notify_all()
            due = self._due()
        if due is not None:
            self._give(*due)

    def take(self, frame: Any, captured: float) -> None:
        """Note a new frame, and give it where somebody waits for it."""
        with self._changed:
            self._newest = (frame, captured)
            self._number += 1
            due = self._due()
        if due is not None:
            self._give(*due)

    def wanted(self) -> None:
        """Wait for a question."""
        with self._changed:
            self._changed.wait_for(lambda: self._question is not None)

    def status(self) -> None:
        """Tell the number of frames every now and then, without an end."""
        while True:
            time.sleep(_STATUS_S)
            self.count()

    def count(self) -> None:
        """Tell the number of frames."""
        with self._changed:
            frames, given = self._number, self._given
        with suppress(OSError, ValueError):
            self.tell(frames=frames, given=given)

    def _due(self) -> tuple[int, Any, float, int] | None:
        """Return what is to be given now, if anything."""
        if self._question is None or self._newest is None or self._newest[1] < self._question[1]:
            return None
        (number, _), (frame, captured) = self._question, self._newest
        self._question = self._newest = None
        self._given += 1
        return number, frame, captured, self._number

    def _give(self, number: int, frame: Any, captured: float, count: int) -> None:
        with self._giving:
            if number == self._asked:  # otherwise nobody waits for it any more
                self._write(number, frame, captured, count)

    def _write(self, number: int, frame: Any, captured: float, count: int) -> None:
        pixels: Pixels = np.ascontiguousarray(frame)
        if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
            raise PadimEdgeError(
                f"the camera gave {pixels.dtype} of shape {pixels.shape}, expected (H, W) or (H, W, 3) uint8"
            )
        view = pixels.reshape(-1).data
        done = 0
        while done < len(view):
            done += os.pwrite(self._descriptor, view[done:], done)
        self.tell(answer=number, shape=pixels.shape, captured=captured, frame=count)


def main() -> None:
    """Run a camera until stdin ends."""
    _die_with_parent()
    # What a driver prints must not come between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    given = json.loads(sys.stdin.buffer.readline())
    if os.getppid() != given["parent"]:
        return
    frames = _Frames(answers, given["descriptor"])
    threading.Thread(target=_listen, args=[frames, given], daemon=True).start()
    threading.Thread(target=frames.status, daemon=True).start()
    try:
        _run(given, frames)
    except Exception as error:  # noqa: BLE001 - a camera may raise anything
        _fail(frames, given, error)
    os._exit(0)  # a driver may hang at its end


def _run(given: Mapping[str, Any], frames: _Frames) -> None:
    camera = camera_of(given["camera"], given["url"], given["options"])
    camera.open()
    frames.tell(opened=True, on_demand=bool(getattr(camera, "on_demand", False)))
    try:
        while True:
            if getattr(camera, "on_demand", False):
                frames.wanted()
            start = time.monotonic()
            frame = camera.grab()
            if frame is None:
                frames.count()
                frames.tell(end=True)
                return
            frames.take(frame, float(getattr(camera, "captured", start)))
    finally:
        with suppress(Exception):
            camera.close()


def _listen(frames: _Frames, given: Mapping[str, Any]) -> None:
    """Take questions until the parent closes the pipe or dies."""
    try:
        for line in sys.stdin.buffer:
            question = json.loads(line)
            frames.ask(question["question"], question["after"])
    except Exception as error:  # noqa: BLE001 - the conversion of a frame may raise anything
        _fail(frames, given, error)
    os._exit(0)


def _fail(frames: _Frames, given: Mapping[str, Any], error: Exception) -> None:
    reason = str(error) if isinstance(error, PadimEdgeError) else getattr(error, "strerror", None) or str(error)
    frames.count()
    with suppress(OSError, ValueError):
        frames.tell(error=hidden(str(reason), given["url"], given["options"]) or type(error).__name__)


def _die_with_parent() -> None:
    """Ask Linux to end this process with its parent, even where a driver holds the interpreter."""
    if sys.platform == "linux":
        import ctypes

        set_parent_death_signal = 1
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":
    main()
