"""Layouts of data sets on disk: one table, tried in order. The first layout whose sign is found is taken."""

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
    """One way to arrange a data set on disk. A new layout is a new line in `LAYOUTS`."""

    sign: str
    """File or folder by which the layout is recognised, for messages."""
    here: Callable[[Path], bool]
    """Function that tells whether the sign is there."""
    classes: Callable[[Path], tuple[str, ...]]
    """Function that returns the names of the classes, sorted."""
    load: Callable[[Path, str | None], Dataset]
    """Function that returns the data set of one class. The class must be named if there are several."""


def _in_classes(name: str, marker: str, load: Callable[[Path, str | None], Dataset]) -> Layout:
    """Return a layout with one folder per class, which holds a folder `marker`."""
    return Layout(
        sign=f"{name}'s {marker}",
        here=lambda data: bool(class_folders(data, marker)),
        classes=lambda data: tuple(class_folders(data, marker)),
        load=load,
    )


def _one_class(sign: str, here: Callable[[Path], bool], load: Callable[[Path, str | None], Dataset]) -> Layout:
    """Return a layout that holds a single class."""
    return Layout(sign=sign, here=here, classes=lambda data: (name_of(data),), load=load)


LAYOUTS = (
    Layout("a .csv file", tables.here, tables.classes, tables.load),
    _one_class("a video file", clips.here, clips.load),
    _in_classes("MVTec AD", "train/good", partial(folders.load_by_kind, good="good")),
    _in_classes("BTAD", "train/ok", partial(folders.load_by_kind, good="ok")),
    _in_classes("VisA", "Data/Images/Normal", folders.load_visa),
    _one_class("ShanghaiTech's training/frames or training/videos", video.here, video.load),
    # The last two, because a single preview image may lie beside the folders of any other layout.
    _one_class("good images in the folder itself", folders.plain_here, folders.load_plain),
    _one_class("videos in the folder itself", clips.within, clips.load),
)
"""Known layouts, from the clearest sign to the weakest."""


def from_folder(data: Path, class_name: str | None) -> Dataset:
    """Return the data set at a path.

    These layouts are tried in this order:

    1. a CSV file with the columns `path,label,mask`, and optionally `class` and `split`;
    2. a video; every frame is a good image;
    3. an MVTec AD root (`<class>/train/good`), or one class folder of it;
    4. a BTAD root (`<class>/train/ok`), or one class folder of it;
    5. a VisA root (`<class>/Data/Images/Normal`), or one class folder of it;
    6. video frames as in ShanghaiTech Campus (`training/frames/<clip>`, or `training/videos/<clip>.avi`);
    7. a folder of good images (sub-folders are not searched, because they might hold defective images);
    8. a folder of videos; every frame is a good image of the same class.

    Args:
        data: The folder, CSV file or video.
        class_name: The class to take where there are several. Where there is only one, the name to give it; by default
            the name of its folder or file.

    Raises:
        PadimEdgeError: There is no such folder, no such class in it, or no images where they are expected.
    """
    return _layout(data).load(data, class_name)


def class_names(data: Path) -> tuple[str, ...]:
    """Return the names of all classes of a data set on disk, sorted.

    Raises:
        PadimEdgeError: There is no such folder, or no data set in it.
    """
    return _layout(data).classes(data)


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
    raise PadimEdgeError(
        f"{data} holds no images and no data set of a known layout; expected files ending in {ENDINGS}, or one of "
        f"{signs}, or videos; give the folder that holds them"
    )
