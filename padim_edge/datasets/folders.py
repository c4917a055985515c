"""Data sets in folders: MVTec AD and BTAD, VisA, or only good images."""

from __future__ import annotations

from pathlib import Path

from padim_edge.datasets import tables
from padim_edge.datasets.items import (
    ANOMALY,
    ENDINGS,
    GOOD,
    Dataset,
    choose,
    class_folders,
    contradictions,
    folders_in,
    images_in,
    item,
    masks_by_stem,
    name_of,
)
from padim_edge_artifact import PadimEdgeError

__all__ = ["HELD_OUT", "load_by_kind", "load_plain", "load_visa", "plain_here"]

HELD_OUT = 5
"""Step at which good images of VisA are held out for the test, where the official split is missing."""

_SPLIT = Path("split_csv", "1cls.csv")
_NORMAL = "Data/Images/Normal"


def load_by_kind(data: Path, class_name: str | None, *, good: str) -> Dataset:
    """Load one class in the layout of MVTec AD (`good` is "good") or BTAD (`good` is "ok").

    Reads `train/<good>`, and where they exist `test/<kind>` and `ground_truth/<kind>/<stem>_mask.png`. A mask may also
    be called `<stem>.png`, and have any other ending of images.

    Raises:
        PadimEdgeError: There is no such class, or there are no images to fit on.
    """
    folder, name = _chosen(data, f"train/{good}", class_name)
    fitting = _some(folder, f"train/{good}")
    test, suspects = [], []
    for kind in folders_in(folder / "test"):
        masks = masks_by_stem(folder / "ground_truth" / kind.name)
        is_good = kind.name == good
        for path in images_in(kind):
            mask = masks.get(path.stem)
            test.append(item(path, GOOD if is_good else kind.name, mask, _key(path, folder)))
            if is_good and mask:
                suspects.append((path, mask))
    return Dataset(
        name,
        tuple(item(path, GOOD, None, _key(path, folder)) for path in fitting),
        tuple(test),
        contradictions(suspects),
    )


def load_visa(data: Path, class_name: str | None) -> Dataset:
    """Load one class of VisA: `Data/Images/{Normal,Anomaly}`, `Data/Masks/Anomaly/<stem>.png`, `../split_csv/1cls.csv`.

    Without the official split, every `HELD_OUT`th good image goes to the test, and a note says so.

    Raises:
        PadimEdgeError: There is no such class, there are no images to fit on, or a line of the split is wrong.
    """
    folder, name = _chosen(data, _NORMAL, class_name)
    for place in (folder.absolute(), folder.resolve()):  # the folder may be a link, or lie in a linked folder
        if (place.parent / _SPLIT).is_file():
            return _visa_split(place, name)
    normal = _some(folder, _NORMAL)
    masks = masks_by_stem(folder / "Data" / "Masks" / "Anomaly")
    held_out = normal[HELD_OUT - 1 :: HELD_OUT]
    kept = [path for index, path in enumerate(normal, 1) if index % HELD_OUT]
    defective = images_in(folder / "Data" / "Images" / "Anomaly")
    note = (
        f"there is no {_SPLIT.as_posix()} beside {folder}, so every {HELD_OUT}th good image by name was held out for "
        f"the test, {len(held_out)} of {len(normal)}; do not compare the results with published ones"
    )
    return Dataset(
        name,
        tuple(item(path, GOOD, None, _key(path, folder)) for path in kept),
        (
            *(item(path, GOOD, None, _key(path, folder)) for path in held_out),
            *(item(path, ANOMALY, masks.get(path.stem), _key(path, folder)) for path in defective),
        ),
        (note,),
    )


def _visa_split(folder: Path, name: str) -> Dataset:
    """Return the official split of the class in this folder, under the name `name`."""
    table = folder.parent / _SPLIT
    rows = tables.read(table, {"class": "object", "path": "image"})
    own = [row for row in rows if row.class_name == folder.name]
    if not own:
        raise PadimEdgeError(
            f"{table} has no lines for the object {folder.name}, expected some; add them, or move the file away to "
            f"hold out every {HELD_OUT}th good image"
        )
    return tables.assemble(own, folder.parent, name)


def plain_here(data: Path) -> bool:
    """Tell whether images lie directly in the folder."""
    return bool(images_in(data))


def load_plain(data: Path, class_name: str | None) -> Dataset:
    """Load a folder of good images. Sub-folders are not searched, because they might hold defective images."""
    good = tuple(item(path, GOOD, None, path.name) for path in images_in(data))
    return Dataset(class_name or name_of(data), good, ())


def _chosen(data: Path, marker: str, class_name: str | None) -> tuple[Path, str]:
    """Return folder and name of a class. Where `data` is the folder of one class, `class_name` renames it."""
    found = class_folders(data, marker)
    if data in found.values():
        return data, class_name or name_of(data)
    name = choose(data, found, class_name)
    return found[name], name


def _some(folder: Path, where: str) -> list[Path]:
    """List the images to fit on; raise PadimEdgeError where there are none."""
    found = images_in(folder / where)
    if not found:
        raise PadimEdgeError(
            f"{folder} holds no images in {where}; expected files ending in {ENDINGS}, so put good images there"
        )
    return found


def _key(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
