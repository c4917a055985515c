"""Videos as data sets. Every frame is an image, decoded when it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from padim_edge.datasets.frames import SUFFIXES, Reader, scan
from padim_edge.datasets.items import GOOD, Dataset, Item, name_of
from padim_edge_artifact import ImageError

__all__ = ["find", "good_frames", "here", "load", "within"]


def here(data: Path) -> bool:
    """Tell whether this is a video, by its ending."""
    return data.suffix.lower() in SUFFIXES and data.is_file()


def within(data: Path) -> bool:
    """Tell whether videos lie directly in the folder."""
    return bool(find(data))


def find(folder: Path) -> list[Path]:
    """List the videos directly in a folder, sorted by name; none if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not path.is_dir()
    )


def load(data: Path, class_name: str | None) -> Dataset:
    """Load all frames of a video, or of the videos in a folder, as good images.

    Raises:
        PadimEdgeError: None of the videos can be read, or PyAV is not installed.
    """
    paths, base = (find(data), data) if data.is_dir() else ([data], data.parent)
    good, notes = good_frames(paths, base)
    return Dataset(class_name or name_of(data), good, (), notes)


def good_frames(paths: Sequence[Path], base: Path) -> tuple[tuple[Item, ...], tuple[str, ...]]:
    """Return the frames of these videos, in order, and notes on missing frames and unreadable videos.

    Args:
        paths: The videos, at least one.
        base: The folder of the data set. Keys of the frames are relative to it.

    Raises:
        PadimEdgeError: None of the videos can be read, or PyAV is not installed.
    """
    reader = Reader()
    good: list[Item] = []
    notes: list[str] = []
    errors: list[ImageError] = []
    for path in paths:
        try:
            clip = scan(path)
        except ImageError as error:
            errors.append(error)
            continue
        key = path.relative_to(base).as_posix()
        good += (
            Item(f"frame {number} of {path}", GOOD, partial(reader.read, clip, number), None, f"{key}/{number}")
            for number in range(clip.count)
        )
        if clip.cut:
            notes.append(f"{path} breaks off, so only {clip.cut} are used; copy or record it again to use the rest")
    if not good:
        raise errors[0]
    return tuple(good), (*notes, *(f"left out: {error}" for error in errors))
