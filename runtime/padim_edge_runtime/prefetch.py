"""Work in threads, some items ahead and results in order: decoding while the model runs."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from padim_edge_artifact.errors import ImageError

__all__ = ["cores", "decoded", "in_order"]

S = TypeVar("S")
T = TypeVar("T")


def cores() -> int:
    """Return the number of logical cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(function: Callable[[S], T], items: Iterable[S], *, workers: int = 2, ahead: int = 8) -> Iterator[T]:
    """Apply `function` to each item in threads and give the results in the items' order.

    Pillow and onnxruntime release the interpreter's lock while they work, so threads do overlap. Memory is bounded,
    also for an endless iterable. An exception is raised in its item's turn. Leaving the iteration early, also by
    Ctrl-C, drops the items that have not begun.

    Args:
        function: Called with one item, in any of the threads.
        items: Taken one by one; never turned into a list.
        workers: Number of threads.
        ahead: Maximum number of items that are taken before their results are used.
    """
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[T]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def decoded(
    items: Iterable[S], decode: Callable[[S], T], *, workers: int = 2, ahead: int = 8
) -> Iterator[tuple[S, T | ImageError]]:
    """Decode images ahead in threads and give (item, what `decode` made of it), in order.

    An image that cannot be read comes as its `ImageError`, so that it stops nothing. Other exceptions are raised.

    Args:
        items: Paths or other descriptions of images; never turned into a list.
        decode: Reads one of them, for example `Detector.prepare`.
        workers: Number of threads.
        ahead: Maximum number of items that are taken before their results are used.
    """

    def attempt(item: S) -> tuple[S, T | ImageError]:
        try:
            return item, decode(item)
        except ImageError as error:
            return item, error

    return in_order(attempt, items, workers=workers, ahead=ahead)
