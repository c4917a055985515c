"""One JSON object per row on stdout, for a program at the other end of a pipe."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import sys
import threading
from typing import TYPE_CHECKING

from padim_edge_artifact import PadimEdgeError
from padim_edge_line.config import StdoutConfig
from padim_edge_line.health import FAILING, WORKING

if TYPE_CHECKING:
    from padim_edge_line.line import Line

__all__ = ["StdoutSink", "check"]


class StdoutSink:
    """Writer of JSON lines. It begins with the first row after its start: nobody reads an old pipe.

    Args:
        config: The sink.
        descriptor: File descriptor to write to; `None` takes that of stdout.
    """

    def __init__(self, config: StdoutConfig, descriptor: int | None = None) -> None:
        self._config = config
        self._descriptor = descriptor

    @property
    def name(self) -> str:
        """Name of the sink."""
        return self._config.name

    async def run(self, line: Line) -> None:
        """Write rows until it is cancelled. Where nobody reads any more, this sink rests and says so."""
        told = line.record.reader().last()
        try:
            writer = _Writer(_stdout() if self._descriptor is None else self._descriptor)
        except PadimEdgeError as error:
            line.board.set("sink", self.name, FAILING, str(error))
            await asyncio.Event().wait()
            raise
        line.board.set("sink", self.name, WORKING)
        try:
            async for row in line.rows_after(told):
                await writer.write(json.dumps(row.to_json(), allow_nan=False).encode() + b"\n")
        except OSError as error:
            sentence = f"stdout takes no more lines ({error.strerror}); start the service and its reader again"
            line.board.set("sink", self.name, FAILING, sentence)
            await asyncio.Event().wait()
        finally:
            writer.close()


async def check(config: StdoutConfig) -> str:
    """Look whether there is a stdout.

    Raises:
        PadimEdgeError: It is closed.
    """
    _stdout()
    return f"{config.name}: stdout is open"


def _stdout() -> int:
    """Return the file descriptor of stdout."""
    try:
        sys.stdout.flush()
        return sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):
        raise PadimEdgeError("stdout is closed; start the service with one, or take the sink out") from None


class _Writer:
    """Thread that writes, because a reader that sleeps would hold up the line.

    The thread writes to the descriptor and not to `sys.stdout`, whose lock would keep the interpreter from ending while
    the reader sleeps.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = os.dup(descriptor)
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[tuple[bytes, asyncio.Future[None]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="stdout", daemon=True).start()

    async def write(self, content: bytes) -> None:
        """Write all bytes and return when the system has taken them."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._jobs.put((content, done))
        await done

    def close(self) -> None:
        """End the thread as soon as it does not write."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            content, done = job
            error: OSError | None = None
            try:
                left = memoryview(content)
                while left:
                    left = left[os.write(self._descriptor, left) :]
            except OSError as found:
                error = found
            try:
                self._loop.call_soon_threadsafe(_settle, done, error)
            except RuntimeError:  # the loop has ended meanwhile
                break
        os.close(self._descriptor)


def _settle(done: asyncio.Future[None], error: OSError | None) -> None:
    """Hand the end of a write to the one who waits for it."""
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
