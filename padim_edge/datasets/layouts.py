"""Layouts of data sets on disk: one table, tried in order. The first layout whose sign is found is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from padim_edge.datasets import clips, folders, frames, tables, video
from padim_edge.datasets.items import ENDINGS, Dataset, class_folders, name_of
from padim_edge.datasets.selection import Selection, grouped
from padim_edge.datasets.shapes import shapes
from padim_edge.datasets.trees import closed
from padim_edge_artifact import PadimEdgeError

__all__ = ["LAYOUTS", "Layout", "class_names", "from_folder"]

Load: TypeAlias = Callable[[Path, "str | None", Selection], Dataset]


@dataclass(frozen=True)
class Layout:
    """One way to arrange a data set on disk. A new layout is a new line in `LAYOUTS`."""

    sign: str
    """File or folder by which the layout is recognised, for messages."""
    here: Callable[[Path], bool]
    """Function that tells whether the sign is there."""
    classes: Callable[[Path], tuple[str, ...]]
    """Function that returns the names of the classes, sorted."""
    load: Load
    """Function that returns the data set of one class. The class must be named if there are several."""
    frames: bool = False
    """Whether its images are frames of videos."""


def _in_classes(sign: str, here: Callable[[Path], bool], load: Load) -> Layout:
    """Return a layout with one folder per class; `here` tells whether a folder is one."""
    return Layout(
        sign=sign,
        here=lambda data: bool(class_folders(data, here)),
        classes=lambda data: tuple(class_folders(data, here)),
        load=load,
    )


def _one_class(sign: str, here: Callable[[Path], bool], load: Load, *, frames: bool = False) -> Layout:
    """Return a layout that holds a single class."""
    return Layout(sign=sign, here=here, classes=lambda data: (name_of(data),), load=load, frames=frames)


LAYOUTS = (
    Layout("a .csv file", tables.here, tables.classes, tables.load),
    _one_class("a video file", clips.here, clips.load, frames=True),
    _in_classes("MVTec AD's train/good or BTAD's train/ok", folders.kinds_here, folders.load_by_kind),
    _in_classes("VisA's Data/Images/Normal", folders.visa_here, folders.load_visa),
    _one_class("ShanghaiTech's training/frames or training/videos", video.here, video.load, frames=True),
    # The last two, because a single preview image may lie beside the folders of any other layout.
    _one_class("good images in the folder itself", folders.plain_here, folders.load_plain),
    _one_class("videos in the folder itself", clips.within, clips.load, frames=True),
)
"""Known layouts, from the clearest sign to the weakest."""


def from_folder(data: Path, class_name: str | None, *, every: int | None = None, group: str | None = None) -> Dataset:
    """Return the data set at a path.

    These layouts are tried in this order:

    1. a CSV file with the columns `path,label,mask`, and optionally `class` and `split`;
    2. a video;
    3. an MVTec AD root (`<class>/train/good`), a BTAD root (`<class>/train/ok`), or one class folder of it;
    4. a VisA root (`<class>/Data/Images/Normal`), or one class folder of it;
    5. video frames as in ShanghaiTech Campus (`training/frames/<clip>`, or `training/videos/<clip>.avi`);
    6. a folder of good images; of its sub-folders those are taken whose names allow it (`trees.plain_images`);
    7. a folder of videos of the same class.

    Every frame of a video is a good image. Good images come in the order of the numbers in their names.

    Args:
        data: The folder, CSV file or video.
        class_name: The class to take where there are several. Where there is only one, the name to give it; by default
            the name of its folder or file.
        every: Take every Nth frame of each video to fit on, 1 or more. By default about 3 frames a second, as long as
            that leaves 30.
        group: Which images show the same part, so that together they are one piece of evidence: `folder` (those of one
            folder), `video` (those of one video), or a column of the CSV file. By default the images tell.

    Raises:
        PadimEdgeError: There is no such folder, no such class or column in it, no images where they are expected, a
            folder that cannot be opened, or `every` or `group` does not suit the data.
    """
    selection = Selection(every, group)
    with _rights(data):
        layout = _layout(data)
        dataset = grouped(layout.load(data, class_name, selection), group, frames=layout.frames)
    return replace(dataset, notes=(*dataset.notes, *shapes(dataset)))


def class_names(data: Path) -> tuple[str, ...]:
    """Return the names of all classes of a data set on disk, sorted.

    Raises:
        PadimEdgeError: There is no such folder, or no data set in it.
    """
    with _rights(data):
        return _layout(data).classes(data)


@contextmanager
def _rights(data: Path) -> Iterator[None]:
    """Turn the error of a folder that may not be entered into one sentence."""
    try:
        yield
    except PermissionError as error:
        raise closed(Path(error.filename or data), error) from None


def _layout(data: Path) -> Layout:
    if not data.exists():
        raise PadimEdgeError(
            f"there is no folder {data}; give the folder of a data set or of good images, a CSV file or a video"
        )
    found = next((layout for layout in LAYOUTS if layout.here(data)), None)
    if found is not None:
        return found
    if not data.is_dir():
        raise PadimEdgeError(
            f"{data} is neither a CSV file nor a video by its ending; expected a folder, a .csv file or a video "
            f"({frames.ENDINGS}), so give the folder of an image"
        )
    signs = ", ".join(layout.sign for layout in LAYOUTS[:-2])
    nested = folders.unsure(data)
    raise PadimEdgeError(
        f"{data} holds no images and no data set of a known layout; expected files ending in {ENDINGS}, or one of "
        f"{signs}, or videos; give the folder that holds them{nested and f'; {nested}'}"
    )
