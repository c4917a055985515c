"""Wishes of a user about a data set: which frames of a video to take, and which images show the same part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from padim_edge.datasets.items import Dataset, Item
from padim_edge_artifact import PadimEdgeError

__all__ = ["ALL", "FOLDER", "VIDEO", "Selection", "grouped"]

FOLDER, VIDEO = "folder", "video"
"""Values of `Selection.group` that need no table."""


@dataclass(frozen=True)
class Selection:
    """Wishes of a user about the images of a data set."""

    every: int | None = None
    """Take every Nth frame of each video to fit on, 1 or more; `None` chooses it by time, see `thinning`."""
    group: str | None = None
    """Which images show the same part and are no independent evidence: `folder`, `video`, or a column of the CSV list.
    `None` leaves that to the images themselves."""

    def __post_init__(self) -> None:
        if self.every is not None and self.every < 1:
            raise PadimEdgeError(f"every is {self.every}, expected 1 or more; 1 takes every frame")

    def refuse_every(self, what: str) -> None:
        """Refuse `every` where it means nothing, instead of ignoring it.

        Raises:
            PadimEdgeError: It is given; `what` says what the data are.
        """
        if self.every is not None:
            raise PadimEdgeError(
                f"--every {self.every} thins out videos, and the data are {what}; leave it out (every in Python)"
            )

    def refuse(self, what: str) -> None:
        """Refuse every wish, where none means anything.

        Raises:
            PadimEdgeError: There is one; `what` says what the data are.
        """
        self.refuse_every(what)
        if self.group is not None:
            raise PadimEdgeError(
                f"--group {self.group} needs folders, videos or a CSV list, and the data are {what}; leave it out "
                "(group in Python)"
            )


ALL = Selection()
"""No wishes."""


def grouped(dataset: Dataset, by: str | None, *, frames: bool) -> Dataset:
    """Return the data set with the group of each item.

    Args:
        dataset: The data set. A table has given its items their groups already where `by` is one of its columns.
        by: Value of `Selection.group`.
        frames: Whether the images are frames of videos.

    Raises:
        PadimEdgeError: The data have no such groups, or all good images are in one.
    """
    if by is None:
        return dataset
    if by == VIDEO and not frames:
        raise PadimEdgeError("--group video needs videos, expected those; the data are single images, so try folder")
    ready = any(item.group is not None for item in (*dataset.good, *dataset.test))
    if not ready and by not in (FOLDER, VIDEO):
        raise PadimEdgeError(f"--group is {by!r}, expected folder, video or a column of a CSV list; choose one of them")
    found = dataset if ready else replace(dataset, good=_by_folder(dataset.good), test=_by_folder(dataset.test))
    if len({item.group for item in found.good}) == 1 and len(found.good) > 1:
        raise PadimEdgeError(
            f"--group {by} puts all {len(found.good)} good images into one group, {found.good[0].group!r}, expected "
            "several; leave it out to group the images by what they show"
        )
    return found


def _by_folder(items: Sequence[Item]) -> tuple[Item, ...]:
    """Group images by their folder, and frames by their video: a video stands in the key like a folder."""
    return tuple(replace(item, group=PurePosixPath(item.key).parent.as_posix()) for item in items)
