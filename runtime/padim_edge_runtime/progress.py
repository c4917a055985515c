"""Progress on stderr, so that stdout holds results only. On anything but a terminal it stays silent."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["bar", "none"]


@contextmanager
def bar(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar; call what it gives with the number of steps done since the last call.

    Args:
        description: What is being done, such as "fitting".
        total: Number of steps, `None` where it is not known.
    """
    if not sys.stderr.isatty():
        yield lambda _: None  # without rich, whose import takes longer than judging an image
        return

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None  # a disabled bar would end with an empty line in older versions of rich
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(description, total=total)
        yield lambda steps: progress.advance(task, steps)


@contextmanager
def none(_: str, __: int | None) -> Iterator[Callable[[int], None]]:
    """No bar: for a process whose work another one shows."""
    yield lambda _: None
