"""Which layout a data set has: a table of layouts, tried in order. The first whose sign is there is taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from padim_edge.datasets import clips, folders, frames, tables, video
from padim_edge.datasets.items import ENDINGS, Dataset, class_folders, name_of
from padim_edge_artifact import PadimEdgeError

__all__ = ["LAYOUTS", "Layout", "class_names", "from_folder"]


@dataclass(frozen=True)
class Layout:
    """One way of arranging a data set."""

    sign: str
    """By what it is recognised, for messages."""
    here: Callable[[Path], bool]
    """Whether that sign is there."""
    classes: Callable[[Path], tuple[str, ...]]
    """Names of the classes there, sorted."""
    load: Callable[[Path, str | None], Dataset]
    """The data set of one class, named unless there is only one."""


def _in_classes(name: str, marker: str, load: Callable[[Path, str | None], Dataset]) -> Layout:
    """A layout with a folder for each class, in which there is a folder `marker`."""
    return Layout(
        sign=f"{name}'s {marker}",
        here=lambda data: bool(class_folders(data, marker)),
        classes=lambda data: tuple(class_folders(data, marker)),
        load=load,
    )


def _one_class(sign: str, here: Callable[[Path], bool], load: Callable[[Path, str | None], Dataset]) -> Layout:
    return Layout(sign=sign, here=here, classes=lambda data: (name_of(data),), load=load)


LAYOUTS = (
    Layout("a .csv file", tables.here, tables.classes, tables.load),
    _one_class("a video file", clips.here, clips.load),
    _in_classes("MVTec AD", "train/good", partial(folders.load_by_kind, good="good")),
    _in_classes("BTAD", "train/ok", partial(folders.load_by_kind, good="ok")),
    _in_classes("VisA", "Data/Images/Normal", folders.load_visa),
    _one_class("ShanghaiTech's training/frames or training/videos", video.here, video.load),
    # Last, since a preview may lie beside the folders of any of the others.
    _one_class("good images in the folder itself", folders.plain_here, folders.load_plain),
    _one_class("videos in the folder itself", clips.within, clips.load),
)
"""From the clearest sign to the weakest."""


def from_folder(data: Path, class_name: str | None) -> Dataset:
    """A data set on disk.

    `data` may be, and is tried as, in this order:

    1. a CSV file with the columns `path,label,mask`, and perhaps `class` and `split`;
    2. a video, all of whose frames are good images;
    3. an MVTec AD root (`<class>/train/good`) or one class folder of it;
    4. a BTAD root (`<class>/train/ok`) or one class folder of it;
    5. a VisA root (`<class>/Data/Images/Normal`) or one class folder of it;
    6. frames of videos as in ShanghaiTech Campus (`training/frames/<clip>`, or `training/videos/<clip>.avi`);
    7. a folder of good images (not looked for in its sub-folders, which might hold the bad ones);
    8. a folder of videos like that in 2, as one class.

    Args:
        data: The folder, CSV file or video.
        class_name: Which class, where there are several; else the name to give to the only one, which otherwise is
            called like its folder or file.

    Raises:
        PadimEdgeError: No such folder, no such class in it, or no images where they are expected.
    """
    return _layout(data).load(data, class_name)


def class_names(data: Path) -> tuple[str, ...]:
    """Names of all classes of a data set on disk, sorted; one where it is a single class.

    Raises:
        PadimEdgeError: No such folder, or no data set in it.
    """
    return _layout(data).classes(data)


def _layout(data: Path) -> Layout:
    if not data.exists():
        raise PadimEdgeError(
            f"there is no folder {data}; give --data the folder of a data set or of good images, a CSV file or a video"
        )
    found = next((layout for layout in LAYOUTS if layout.here(data)), None)
    if found is not None:
        return found
    if not data.is_dir():
        raise PadimEdgeError(
            f"{data} is a file that does not end in .csv or as a video does; expected a folder, a CSV file or a video "
            f"({frames.ENDINGS})"
        )
    signs = ", ".join(layout.sign for layout in LAYOUTS[:-2])
    raise PadimEdgeError(
        f"{data} holds no images and no data set of a known layout; expected files ending in {ENDINGS}, or one of "
        f"{signs}, or videos"
    )
