"""Progress on stderr, so that stdout holds results only. It is silent anywhere but on a terminal or in a notebook."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

__all__ = ["SILENT", "Feedback", "Report", "bar", "feedback_of", "none"]

Report = Callable[[str, "int | None"], AbstractContextManager[Callable[[int], object]]]
"""Maker of a progress bar for one stage of the work: takes its description and its number of steps."""

_PERIOD = 0.2
"""Seconds between two lines in a notebook, which redraws slowly."""


@contextmanager
def bar(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a progress bar; call the result with the number of steps done since the last call.

    Args:
        description: Name of the stage, such as "fitting".
        total: Number of steps; `None` where it is not known.
    """
    if "ipykernel" in sys.modules:
        yield from _in_notebook(description, total)
        return
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


def _in_notebook(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Rewrite one line, which every notebook shows without a widget package."""
    done, shown = 0, 0.0

    def advance(steps: int) -> None:
        nonlocal done, shown
        done += steps
        if time.monotonic() - shown > _PERIOD or done == total:
            shown = time.monotonic()
            sys.stderr.write(f"\r{description} {done}{'' if total is None else f'/{total}'}")
            sys.stderr.flush()

    advance(0)
    try:
        yield advance
    finally:
        sys.stderr.write("\n")
        sys.stderr.flush()


@contextmanager
def none(_: str, __: int | None) -> Iterator[Callable[[int], None]]:
    """Show no bar: for a process whose work another process shows."""
    yield lambda _: None


def _untold(_: str) -> None:
    """Drop a sentence."""


@dataclass(frozen=True)
class Feedback:
    """Way in which a long job tells about itself."""

    report: Report = bar
    """Maker of progress bars."""
    tell: Callable[[str], object] = _untold
    """Function that is given sentences worth knowing meanwhile, such as the memory that a fit needs."""


SILENT = Feedback(none)
"""Feedback that shows nothing."""


def feedback_of(progress: bool | Feedback) -> Feedback:
    """Return the feedback that a `progress` argument means: bars for True, nothing for False."""
    if isinstance(progress, Feedback):
        return progress
    return Feedback() if progress else SILENT
