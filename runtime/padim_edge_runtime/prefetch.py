"""Work in threads, some items ahead and results in order: decoding while the model runs."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["cores", "in_order"]

S = TypeVar("S")
T = TypeVar("T")


def cores() -> int:
    """Logical ones that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(function: Callable[[S], T], items: Iterable[S], *, workers: int = 2, ahead: int = 8) -> Iterator[T]:
    """`function` of each item, in the items' order, at most `ahead` results waiting (so memory is bounded).

    Pillow and onnxruntime release the interpreter's lock while they work, so threads do overlap. An exception is
    raised in its item's turn. Leaving the iteration early (also by Ctrl-C) drops what has not begun.
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
