"""Choice of frames: neighbours in a video show nearly the same, so most of them cost time and tell nothing new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["LEAST", "PER_SECOND", "UNTIMED", "Thinned", "notes", "step"]

PER_SECOND = 3
"""Frames a second that are taken of a video. Of a 30 Hz video that is every 10th frame."""
UNTIMED = 10
"""Step where the frame rate is unknown, as with extracted frames."""
LEAST = 30
"""Number of frames that thinning leaves where the videos have as many. A fit needs tens of images."""


@dataclass(frozen=True)
class Thinned:
    """Number of frames of a video that are taken."""

    name: str
    """Name of the video, for messages."""
    count: int
    """Number of its frames."""
    step: int
    """Every how many of them are taken."""

    @property
    def taken(self) -> int:
        """Number of frames taken."""
        return len(range(0, self.count, self.step))


def step(every: int | None, rate: float | None, total: int) -> int:
    """Choose every how many frames one is taken.

    Args:
        every: Choice of the user, `None` for none.
        rate: Frames a second; `None` where it is unknown.
        total: Number of frames of all videos of the data set.
    """
    if every is not None:
        return every
    by_time = UNTIMED if rate is None else max(1, round(rate / PER_SECOND))
    return max(1, min(by_time, total // LEAST))


def notes(clips: Sequence[Thinned]) -> tuple[str, ...]:
    """Say how many frames were taken: `belt.mp4: 300 frames, every 10th taken: 30`; empty where all were."""
    steps = sorted({clip.step for clip in clips})
    if not clips or steps[-1] == 1:
        return ()
    name = clips[0].name if len(clips) == 1 else f"{len(clips)} videos"
    count, taken = sum(clip.count for clip in clips), sum(clip.taken for clip in clips)
    which = _ordinal(steps[0]) + (f" to {_ordinal(steps[-1])}" if len(steps) > 1 else "")
    return (f"{name}: {count} frames, every {which} taken: {taken}; --every 1 takes all (every=1 in Python)",)


def _ordinal(number: int) -> str:
    teen = 10 < number % 100 < 20
    return f"{number}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
