"""Decoding in a child process with limits, for services that take images from strangers.

A decoder is native code. A hostile file may crash it, fill the memory or keep it busy. In a child, that costs one
image.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import ImageError, PadimEdgeError
from padim_edge_artifact.preprocessing import Levels
from padim_edge_runtime import image_files
from padim_edge_runtime.image_limits import LARGEST_AREA

__all__ = ["DecodingChild", "main"]

MEMORY = 1_600_000_000
"""Address space of a child in bytes: the largest image, and the interpreter with its libraries."""
SECONDS = 30.0
"""Seconds that one image may take, without the start of the child."""
_START = 60.0
"""Seconds that a child may take to start."""

_LENGTH = struct.Struct("<Q")
_LONGEST_ANSWER = 1 << 20
"""Largest number of bytes of an answer without its pixels."""
_AT_ONCE = 1 << 20
"""Number of pixels that are sent at a time."""

_PIPE = 1 << 20
"""Bytes that a pipe holds."""

Pixels = npt.NDArray[np.uint8]


class DecodingChild:
    """A child process that decodes one image after the other. Threads may share it; they wait for each other.

    It starts with the first image. After its death, or where an image takes too long, the next image starts another.
    Call `close` at the end, or use `contextlib.closing`.

    Args:
        memory: Largest address space of the child in bytes. Windows has no such limit.
        seconds: Seconds that one image may take.
    """

    def __init__(self, *, memory: int = MEMORY, seconds: float = SECONDS) -> None:
        self._memory = memory
        self._seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def decode(self, source: str | os.PathLike[str] | bytes, *, levels: Levels | None = None) -> Pixels:
        """Decode one image as `image_files.decode` does.

        Args:
            source: The path of a file, or the bytes of an encoded image.
            levels: Range of the signal, as in `Preprocessing.levels`.

        Returns:
            `(H, W, 3)` uint8, RGB.

        Raises:
            ImageError: The image is refused, takes too long, or its decoder crashed.
            PadimEdgeError: No child can be started.
        """
        content = source if isinstance(source, bytes) else b""
        path = None if isinstance(source, bytes) else str(Path(source))
        with self._lock:
            process = self._started()
            name = path or "the encoded image"
            with _watched(process, self._seconds) as ended:
                try:
                    return _asked(process, {"path": path, "levels": levels, "size": len(content)}, content)
                except (OSError, EOFError, ValueError) as error:
                    if isinstance(error, ImageError):
                        raise
                    self._kill()
                    if ended.is_set():
                        reason = f"took longer than {self._seconds:g} s to decode"
                    else:
                        reason = f"ended the process that decoded it (exit code {process.returncode})"
                    raise ImageError(f"{name} {reason}; leave it out, or save it again") from None
                except BaseException:
                    self._kill()  # or its late answer would pass for that to the next image
                    raise

    def close(self) -> None:
        """End the child. The next image starts another."""
        with self._lock:
            self._kill()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._kill()
        command = [sys.executable, "-m", "padim_edge_runtime.decoding_child", str(self._memory)]
        # Threads of a library for matrices would take address space, and decoding needs none.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        try:
            process = subprocess.Popen(  # noqa: S603 - this very module
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
            )
        except OSError as error:
            raise PadimEdgeError(f"no process for decoding can be started ({error.strerror or error})") from error
        self._process = process
        _widen(process)
        with _watched(process, _START):
            try:
                assert process.stdout is not None
                if _received(process.stdout) == {"ready": True}:
                    return process
            except (OSError, EOFError, ValueError):
                pass
            except BaseException:
                self._kill()
                raise
        self._kill()
        raise PadimEdgeError(
            f"the process for decoding did not start (exit code {process.returncode}); give it more memory than "
            f"{self._memory // 10**6} MB"
        )

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for stream in (process.stdin, process.stdout):
            with suppress(OSError):  # what was not sent yet
                if stream is not None:
                    stream.close()
        process.wait()


def _widen(process: subprocess.Popen[bytes]) -> None:
    """Let the pipes hold more than 64 kB, so that child and parent take turns less often; Linux only."""
    if sys.platform == "linux":
        import fcntl

        for stream in filter(None, (process.stdin, process.stdout)):
            with suppress(OSError):  # an administrator may allow less
                fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, _PIPE)


@contextmanager
def _watched(process: subprocess.Popen[bytes], seconds: float) -> Iterator[threading.Event]:
    """Kill a process that is not done in time; the event tells whether it was."""
    ended = threading.Event()

    def end() -> None:
        ended.set()
        process.kill()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield ended
    finally:
        timer.cancel()


def _asked(process: subprocess.Popen[bytes], question: dict[str, Any], content: bytes) -> Pixels:
    """Send a question and receive the pixels. The child may be in the hands of a hostile file: nothing is believed."""
    assert process.stdin is not None
    assert process.stdout is not None
    _send(process.stdin, question)
    process.stdin.write(content)
    process.stdin.flush()
    answer = _received(process.stdout)
    if isinstance(error := answer.get("error"), str):
        raise ImageError(error)
    height, width = answer.get("height"), answer.get("width")
    if not (isinstance(height, int) and isinstance(width, int) and 0 < height * width <= LARGEST_AREA and height > 0):
        raise ValueError("no size")
    pixels = np.empty((height, width, 3), np.uint8)
    view = pixels.data.cast("B")
    while view:
        count = process.stdout.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        view = view[count:]
    return pixels


def _send(file: BinaryIO | Any, message: dict[str, Any]) -> None:
    content = json.dumps(message).encode()
    file.write(_LENGTH.pack(len(content)) + content)


def _received(file: BinaryIO | Any) -> dict[str, Any]:
    """Receive a message.

    Raises:
        EOFError: There is none.
        ValueError: It is too long, or no message.
    """
    head = file.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(head)
    if length > _LONGEST_ANSWER:
        raise ValueError("too long")
    content = file.read(length)
    if len(content) < length:
        raise EOFError
    found = json.loads(content)
    if isinstance(found, dict):
        return found
    raise ValueError("no message")


def main() -> None:
    """Decode what the parent sends, until it closes the pipe. The first argument is the address space in bytes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    questions = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    with Path(os.devnull).open("r+b") as nothing:  # whatever a library prints is no answer
        os.dup2(nothing.fileno(), 0)
        os.dup2(nothing.fileno(), 1)
    _limit(int(sys.argv[1]))
    _send(answers, {"ready": True})
    answers.flush()
    while True:
        try:
            question = _received(questions)
        except EOFError:
            return
        try:
            _answer(question, questions.read(int(question["size"])), answers)
        except BrokenPipeError:
            return
        answers.flush()


def _limit(memory: int) -> None:
    """Limit the address space, and forbid to write files."""
    try:
        import resource
    except ImportError:  # Windows
        return
    for what, value in (("AS", memory), ("CORE", 0), ("FSIZE", 0)):
        resource.setrlimit(getattr(resource, f"RLIMIT_{what}"), (value, value))


def _answer(question: dict[str, Any], content: bytes, answers: BinaryIO) -> None:
    levels = question["levels"]
    source = content if question["path"] is None else Path(question["path"])
    try:
        image = image_files.decode(source, levels=None if levels is None else (levels[0], levels[1])).image
    except ImageError as error:
        _send(answers, {"error": str(error)[: _LONGEST_ANSWER // 8]})
        return
    _send(answers, {"height": image.height, "width": image.width})
    step = max(1, _AT_ONCE // image.width)
    if step >= image.height:
        answers.write(image.tobytes())
        return
    parts = ((0, first, image.width, min(first + step, image.height)) for first in range(0, image.height, step))
    answers.writelines(image.crop(part).tobytes() for part in parts)


if __name__ == "__main__":
    main()
