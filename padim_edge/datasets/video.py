"""Video frames in the layout of ShanghaiTech Campus. Frames and masks are read one at a time, when needed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_edge.datasets import clips, thinning
from padim_edge.datasets.frames import ENDINGS as VIDEO_ENDINGS
from padim_edge.datasets.items import (
    ANOMALY,
    ENDINGS,
    GOOD,
    Dataset,
    Item,
    Mask,
    Stored,
    item,
    name_of,
)
from padim_edge.datasets.selection import ALL, Selection
from padim_edge.datasets.trees import folders_in, images_in
from padim_edge_artifact import ImageError, PadimEdgeError
from padim_edge_runtime import image_files

__all__ = ["here", "load"]

_VIDEOS = ("training/videos", "train/videos")
_SIGNS = ("training/frames", "train/frames", "testing/frames", "test/frames", *_VIDEOS)
_TRAINING = ("training/frames", "train/frames", "training", "train")
_TESTING = ("testing", "test")


def here(data: Path) -> bool:
    """Tell whether there is a folder `frames` or `videos` where one is expected.

    A folder `train/<clip>` alone is no clear sign, because it may also be `train/defective`.
    """
    return any((data / sign).is_dir() for sign in _SIGNS)


def load(data: Path, class_name: str | None, selection: Selection = ALL) -> Dataset:
    """Load all clips as one class: `training/frames/<clip>` or `train/<clip>`, and `testing/frames/<clip>`.

    Without such frames, the good ones are taken from videos: `training/videos/<clip>.avi`. Good frames are thinned.

    `testing/test_frame_mask/<clip>.npy` holds one number per frame, 0 for good and 1 for anomalous. The optional
    `testing/test_pixel_mask/<clip>.npy`, `(frames, height, width)`, marks the anomalous pixels. The two are not
    compared, because that would read gigabytes.

    Raises:
        PadimEdgeError: There are no frames to fit on, or masks do not belong to the frames.
    """
    good, notes = _good(data, selection)
    test: list[Item] = []
    unlabelled: list[Path] = []
    for clip in _clips(data, tuple(f"{name}/frames" for name in _TESTING)):
        labels = clip.parent.parent / "test_frame_mask" / f"{clip.name}.npy"
        if labels.is_file():
            test += _labelled(data, clip, labels)
        else:
            unlabelled.append(clip)
    note = (
        f"clips without test_frame_mask/<clip>.npy are left out of the test: {len(unlabelled)}, first "
        f"{next(iter(unlabelled), None)}"
    )
    return Dataset(class_name or name_of(data), good, tuple(test), (*notes, note) if unlabelled else notes)


def _good(data: Path, selection: Selection) -> tuple[tuple[Item, ...], tuple[str, ...]]:
    """Return the frames to fit on, and notes on them."""
    extracted = {clip: images_in(clip) for clip in _clips(data, _TRAINING)}
    total = sum(len(frames) for frames in extracted.values())
    if total:
        step = thinning.step(selection.every, None, total)
        thinned = [thinning.Thinned(clip.name, len(frames), step) for clip, frames in extracted.items()]
        taken = [frame for frames in extracted.values() for frame in frames[::step]]
        items = tuple(item(path, GOOD, None, path.relative_to(data).as_posix()) for path in taken)
        return items, thinning.notes(thinned)
    videos = next((found for place in _VIDEOS if (found := clips.find(data / place))), [])
    if videos:
        return clips.good_frames(videos, data, selection)
    raise PadimEdgeError(
        f"{data} holds no frames in training/frames/<clip> or train/<clip>, expected files ending in {ENDINGS}; "
        f"extract them, or put the videos into training/videos ({VIDEO_ENDINGS})"
    )


def _clips(data: Path, places: tuple[str, ...]) -> list[Path]:
    """List the folders of the clips in the first place that has any, sorted by name."""
    return next((found for place in places if (found := folders_in(data / place))), [])


def _labelled(data: Path, clip: Path, labels: Path) -> Iterator[Item]:
    """Yield the frames of a clip with their labels and masks."""
    frames = images_in(clip)
    flags = _array(labels)
    if flags.shape != (len(frames),):
        raise PadimEdgeError(
            f"{labels} has the shape {flags.shape}, expected ({len(frames)},) for the {len(frames)} frames in {clip}; "
            "extract all of them"
        )
    pixels = clip.parent.parent / "test_pixel_mask" / labels.name
    with_pixels = pixels.is_file()
    if with_pixels and (len(shape := _array(pixels).shape) != 3 or shape[0] != len(frames)):
        raise PadimEdgeError(
            f"{pixels} has the shape {shape}, expected ({len(frames)}, height, width) for the {len(frames)} frames in "
            f"{clip}; extract all of them"
        )
    for index, (path, bad) in enumerate(zip(frames, flags > 0, strict=True)):
        yield Item(
            name=str(path),
            kind=ANOMALY if bad else GOOD,
            read=partial(image_files.read, path),
            mask=partial(_pixel_mask, pixels, index) if bad and with_pixels else None,
            key=path.relative_to(data).as_posix(),
            stored=Stored.of(path),
        )


def _pixel_mask(path: Path, index: int) -> Mask:
    """Read the ground truth of one frame. The file is opened each time, or the files of all clips would stay open."""
    try:
        return np.asarray(_array(path)[index] > 0)
    except (PadimEdgeError, IndexError) as error:
        raise ImageError(str(error)) from error


def _array(path: Path) -> npt.NDArray[Any]:
    """Map an array on disk into memory, so that only the parts in use are read.

    Raises:
        PadimEdgeError: The file is no array of numbers.
    """
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise PadimEdgeError(
            f"{path} cannot be read ({error}); expected an array of 0 and 1, so save it with numpy.save"
        ) from None
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "biuf":
        raise PadimEdgeError(f"{path} is no array of numbers; expected one of 0 and 1, so save it with numpy.save")
    return found
