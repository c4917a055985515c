"""Videos as data sets. A frame is an image, decoded when it is needed; neighbours are thinned out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from padim_edge.datasets import thinning
from padim_edge.datasets.frames import SUFFIXES, Clip, Reader, scan
from padim_edge.datasets.items import GOOD, Dataset, Item, name_of
from padim_edge.datasets.selection import ALL, Selection
from padim_edge.datasets.shapes import odd_shapes
from padim_edge.datasets.trees import closed
from padim_edge_artifact import ImageError
from padim_edge_runtime.image_search import capture_order

__all__ = ["find", "good_frames", "here", "load", "within"]


def here(data: Path) -> bool:
    """Tell whether this is a video, by its ending."""
    return data.suffix.lower() in SUFFIXES and data.is_file()


def within(data: Path) -> bool:
    """Tell whether videos lie directly in the folder."""
    return bool(find(data))


def find(folder: Path) -> list[Path]:
    """List the videos directly in a folder, in order; none if there is no such folder.

    Raises:
        PadimEdgeError: The folder cannot be opened.
    """
    if not folder.is_dir():
        return []
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise closed(folder, error) from None
    return sorted((path for path in entries if _is_video(path)), key=capture_order)


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not path.is_dir()


def load(data: Path, class_name: str | None, selection: Selection = ALL) -> Dataset:
    """Load the frames of a video, or of the videos in a folder, as good images.

    Raises:
        PadimEdgeError: None of the videos can be read, or PyAV is not installed.
    """
    paths, base = (find(data), data) if data.is_dir() else ([data], data.parent)
    good, notes = good_frames(paths, base, selection)
    return Dataset(class_name or name_of(data), good, (), notes)


def good_frames(paths: Sequence[Path], base: Path, selection: Selection) -> tuple[tuple[Item, ...], tuple[str, ...]]:
    """Return frames of these videos, in order, and notes on missing and thinned frames and unreadable videos.

    Args:
        paths: The videos, at least one.
        base: The folder of the data set. Keys of the frames are relative to it.
        selection: Wishes of the user.

    Raises:
        PadimEdgeError: None of the videos can be read, or PyAV is not installed.
    """
    reader = Reader()
    clips: list[Clip] = []
    errors: list[ImageError] = []
    for path in paths:
        try:
            clips.append(scan(path))
        except ImageError as error:
            errors.append(error)
    if not clips:
        raise errors[0]
    good: list[Item] = []
    thinned: list[thinning.Thinned] = []
    total = sum(clip.count for clip in clips)
    for clip in clips:
        step = thinning.step(selection.every, clip.rate, total)
        thinned.append(thinning.Thinned(clip.path.name, clip.count, step))
        key, aspect = clip.path.relative_to(base).as_posix(), clip.size[0] / clip.size[1]
        good += (
            Item(
                f"frame {number} of {clip.path}",
                GOOD,
                partial(reader.read, clip, number),
                None,
                f"{key}/{number}",
                aspect=aspect,
            )
            for number in range(0, clip.count, step)
        )
    cuts = [
        f"{clip.path} breaks off, so only {clip.cut} are used; copy or record it again to use the rest"
        for clip in clips
        if clip.cut
    ]
    notes = (*cuts, *thinning.notes(thinned), *odd_shapes([(str(clip.path), clip.size) for clip in clips], "videos"))
    return tuple(good), (*notes, *(f"left out: {error}" for error in errors))
