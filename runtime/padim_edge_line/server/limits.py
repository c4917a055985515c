"""Limits on what one address and one request may take: number, size and time."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

import anyio
from starlette.requests import Request

from padim_edge_line.server.answers import RefusedError

__all__ = ["Buckets", "Memory", "body"]

_MOST_ADDRESSES = 4096
"""Number of addresses that are remembered; the one that was quiet longest is forgotten first."""
_CHUNK_S = 10.0
"""Seconds within which the next part of a body must come."""
_GRACE_S = 10.0
"""Seconds before the speed of a body is looked at."""
_SLOWEST = 16_384
"""Bytes a second that a body must bring on average."""


class Buckets:
    """Token buckets, one for each address.

    Args:
        rate: Requests a second on average.
        burst: Requests at once.
        clock: Clock in seconds.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, max(burst, 1.0), clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, address: str, *, take: float = 1.0) -> float:
        """Take from the bucket of an address.

        Args:
            address: IP address.
            take: How much to take; 0 only looks.

        Returns:
            0 where there was enough, otherwise the seconds after which there will be; nothing was taken then.
        """
        name, now = _network(address), self._clock()
        left, then = self._left.pop(name, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        enough = left >= max(take, 1.0)
        self._left[name] = (left - take if enough else left, now)
        if len(self._left) > _MOST_ADDRESSES:
            self._left.popitem(last=False)
        return 0.0 if enough else (max(take, 1.0) - left) / self._rate


class Memory:
    """Bytes of all bodies that are held at the moment.

    Args:
        most: Largest sum.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.held = 0

    def hold(self, count: int) -> None:
        """Count bytes as held.

        Raises:
            RefusedError: There are too many.
        """
        if self.held + count > self._most:
            raise RefusedError(429, "too many images are being posted at the same time; try again soon", wait=1)
        self.held += count

    def release(self, count: int) -> None:
        """Count bytes as free again."""
        self.held -= count


async def body(request: Request, most: int, memory: Memory) -> bytes:
    """Read the body of a request. The caller releases the memory when it no longer needs the body.

    Args:
        request: The request.
        most: Largest number of bytes.
        memory: Count of what is held.

    Raises:
        RefusedError: The body is too large or comes too slowly, or too much is held.
    """
    declared = request.headers.get("content-length", "0")
    if declared.isascii() and declared.isdigit() and int(declared) > most:
        raise _too_large(most)
    parts: list[bytes] = []
    total, start, stream = 0, time.monotonic(), request.stream().__aiter__()
    try:
        while True:
            try:
                with anyio.fail_after(_CHUNK_S):
                    part = await stream.__anext__()
            except StopAsyncIteration:
                return b"".join(parts)
            except TimeoutError:
                raise _too_slow() from None
            if total + len(part) > most:
                raise _too_large(most)
            memory.hold(len(part))
            total += len(part)
            parts.append(part)
            late = time.monotonic() - start - _GRACE_S
            if late > 0 and total < late * _SLOWEST:
                raise _too_slow()
    except BaseException:
        memory.release(total)
        raise


def _too_large(most: int) -> RefusedError:
    size = f"{most / 1e6:.0f} MB" if most >= 1_000_000 else f"{most} bytes"
    return RefusedError(413, f"the body is larger than {size}; send a smaller one", close=True)


def _too_slow() -> RefusedError:
    return RefusedError(408, "the body came too slowly; send it again", close=True)


def _network(address: str) -> str:
    """Return the address, and for IPv6 its /64, which is what one subscriber has."""
    try:
        return str(ipaddress.IPv6Network((address.partition("%")[0], 64), strict=False).network_address)
    except ValueError:
        return address
