"""Waiting between two attempts, and what sinks do while they wait."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from padim_edge_artifact import PadimEdgeError

if TYPE_CHECKING:
    from padim_edge_line.line import Line

__all__ = ["Pauses", "count_waiting", "ended", "pause", "secret_of", "together"]

_EVERY_S = 1.0
"""Seconds between two looks at the number of waiting rows."""
_CANCEL_EVERY_S = 0.1
"""Seconds between two cancellations of a task that goes on."""
_MOST_BYTES = 4096
"""Largest file that is read as a secret."""
_RANDOM = secrets.SystemRandom()


@dataclass(frozen=True, kw_only=True)
class Pauses:
    """Pauses between attempts: they double from one to the next, and vary by chance.

    Chance keeps many lines from asking a server that comes back all at once.
    """

    first_s: float = 0.5
    """Longest pause after the first failure in seconds."""
    most_s: float = 10.0
    """Longest pause in seconds."""

    def after(self, failures: int) -> float:
        """Return a pause in seconds after a number of failures in a row, 1 or more."""
        longest = min(self.most_s, self.first_s * 2.0 ** min(failures - 1, 30))
        return _RANDOM.uniform(longest / 2, longest)


def count_waiting(line: Line, name: str) -> None:
    """Show on the board how many rows a sink has not told yet."""
    waiting = line.record.reader().last() - line.record.position(name)
    line.board.count("sink", name, waiting=max(0, waiting))


async def pause(line: Line, name: str, seconds: float) -> None:
    """Wait before the next attempt, and show meanwhile how many rows of a sink wait."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while (left := end - loop.time()) > 0:
        count_waiting(line, name)
        await asyncio.sleep(min(left, _EVERY_S))


async def together(*parts: Coroutine[Any, Any, None]) -> None:
    """Run parts until the first one ends, cancel the others, and raise the error of the one that ended."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await ended(tasks)


async def ended(tasks: Collection[asyncio.Future[Any]]) -> None:
    """Cancel tasks until they have ended.

    One cancellation is not enough before Python 3.12: `asyncio.wait_for`, which libraries use, loses one that comes at
    the moment when the awaited thing is done.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_CANCEL_EVERY_S)
    await asyncio.gather(*tasks, return_exceptions=True)  # looks at all errors, so that none is reported as overlooked


def secret_of(path: Path, key: str) -> str:
    """Read a secret from a file. White space at its ends does not belong to it.

    Args:
        path: The file. The errors name the key, and not the path.
        key: Key in `line.toml` that names the file.

    Raises:
        PadimEdgeError: The file cannot be read, is empty, or is no text.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise PadimEdgeError(
            f"the {key} cannot be read ({error.strerror}); name a file that the service's user may read"
        ) from None
    try:
        found = content.decode().strip()
    except UnicodeDecodeError:
        found = ""
    if not found or len(content) > _MOST_BYTES:
        raise PadimEdgeError(f"the {key} does not contain one line of text; write the secret alone into it")
    return found
