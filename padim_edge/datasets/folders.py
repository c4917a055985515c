"""Data sets in folders: MVTec AD and BTAD, VisA, or only good images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from padim_edge.datasets import tables
from padim_edge.datasets.items import ANOMALY, ENDINGS, GOOD, Dataset, Item, choose, class_folders, item, name_of
from padim_edge.datasets.labels import is_defective, is_good, is_of_time_or_place
from padim_edge.datasets.masks import Masks, contradictions
from padim_edge.datasets.selection import ALL, Selection
from padim_edge.datasets.trees import (
    Images,
    counted,
    find_folder,
    folders_in,
    has_plain_images,
    images_below,
    images_in,
    nested_images,
    plain_images,
)
from padim_edge_artifact import PadimEdgeError

__all__ = [
    "HELD_OUT",
    "kinds_here",
    "load_by_kind",
    "load_plain",
    "load_visa",
    "plain_here",
    "unsure",
    "visa_here",
]

HELD_OUT = 5
"""Step at which good images of VisA are held out for the test, where the official split is missing."""

_SPLIT = Path("split_csv", "1cls.csv")
_TRAIN, _TEST, _TRUTH = "train", "test", "ground_truth"
_IMAGES = ("Data", "Images")


def kinds_here(folder: Path) -> bool:
    """Tell whether there is `train/good` or `train/ok`, or one with another name for good images."""
    return bool(_good_folders(find_folder(folder, _TRAIN)))


def load_by_kind(data: Path, class_name: str | None, selection: Selection = ALL) -> Dataset:
    """Load one class in the layout of MVTec AD or BTAD.

    Reads `train/<good>`, and where they exist `test/<kind>` and `ground_truth/<kind>`, each with its sub-folders. Good
    images lie in folders called `good`, `ok` or another of `labels.GOOD_NAMES`; capitals do not matter. See `Masks` for
    the names of masks.

    Raises:
        PadimEdgeError: There is no such class, there are no images to fit on, or a folder cannot be opened.
    """
    selection.refuse_every("single images")
    folder, name = _chosen(data, kinds_here, class_name)
    fitting = _some(folder, _good_folders(find_folder(folder, _TRAIN)))
    test, truth = find_folder(folder, _TEST), find_folder(folder, _TRUTH)
    kinds = {kind: images_below(kind, good=is_good(kind.name)) for kind in (folders_in(test) if test else ())}
    entries = [(path, kind) for kind, images in kinds.items() for path in images.taken]
    places = {path: path.relative_to(test).parts[:-1] for path, _ in entries if test}
    masks = Masks(truth, ((places[path], path.stem) for path, kind in entries if not is_good(kind.name)))
    found, suspects = [], []
    for path, kind in entries:
        mask = masks.take(places[path], path.stem)
        found.append(item(path, GOOD if is_good(kind.name) else kind.name, mask, _key(path, folder)))
        if is_good(kind.name) and mask:
            suspects.append((path, mask))
    notes = [
        *(note for images in (fitting, *kinds.values()) for note in images.notes),
        *_unused(folder),
        *_doubtful(kinds),
        *masks.notes(),
        *contradictions(suspects),
    ]
    return Dataset(name, _good_items(fitting.taken, folder), tuple(found), tuple(notes))


def visa_here(folder: Path) -> bool:
    """Tell whether there is `Data/Images/Normal`, or one with another name for good images."""
    return bool(_good_folders(find_folder(folder, *_IMAGES)))


def load_visa(data: Path, class_name: str | None, selection: Selection = ALL) -> Dataset:
    """Load one class of VisA: `Data/Images/{Normal,Anomaly}`, `Data/Masks/Anomaly/<stem>.png`, `../split_csv/1cls.csv`.

    Without the official split, every `HELD_OUT`th good image goes to the test, and a note says so.

    Raises:
        PadimEdgeError: There is no such class, there are no images to fit on, or a line of the split is wrong.
    """
    selection.refuse_every("single images")
    folder, name = _chosen(data, visa_here, class_name)
    for place in (folder.absolute(), folder.resolve()):  # the folder may be a link, or lie in a linked folder
        if (place.parent / _SPLIT).is_file():
            return _visa_split(place, name)
    above = find_folder(folder, *_IMAGES)
    normal = _some(folder, _good_folders(above))
    held_out = normal.taken[HELD_OUT - 1 :: HELD_OUT]
    kept = [path for index, path in enumerate(normal.taken, 1) if index % HELD_OUT]
    kinds = {kind: images_below(kind, good=False) for kind in folders_in(above or folder) if not is_good(kind.name)}
    defective = [(path, kind) for kind, images in kinds.items() for path in images.taken]
    places = {path: path.relative_to(above).parts[:-1] for path, _ in defective if above}
    masks = Masks(find_folder(folder, "Data", "Masks"), ((places[path], path.stem) for path, _ in defective))
    anomalous = [
        item(
            path,
            ANOMALY if is_defective(kind.name) else kind.name,
            masks.take(places[path], path.stem),
            _key(path, folder),
        )
        for path, kind in defective
    ]
    note = (
        f"there is no {_SPLIT.as_posix()} beside {folder}, so every {HELD_OUT}th good image by name was held out for "
        f"the test, {len(held_out)} of {len(normal.taken)}; do not compare the results with published ones"
    )
    return Dataset(
        name,
        _good_items(kept, folder),
        (*_good_items(held_out, folder), *anomalous),
        (note, *(note for images in (normal, *kinds.values()) for note in images.notes), *masks.notes()),
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
    """Tell whether good images lie in the folder; see `plain_images` for its sub-folders."""
    return data.is_dir() and has_plain_images(data)


def load_plain(data: Path, class_name: str | None, selection: Selection = ALL) -> Dataset:
    """Load a folder of good images, and those of its sub-folders that `plain_images` takes."""
    selection.refuse_every("single images")
    found = plain_images(data)
    return Dataset(class_name or name_of(data), _good_items(found.taken, data), (), found.notes)


def unsure(data: Path) -> str:
    """Say which sub-folders hold images that no layout takes; empty where none does."""
    return "; ".join(plain_images(data).notes) if data.is_dir() else ""


def _good_folders(folder: Path | None) -> list[Path]:
    """List the sub-folders whose names say that they hold good images."""
    return [] if folder is None else [each for each in folders_in(folder) if is_good(each.name)]


def _good_items(paths: Iterable[Path], folder: Path) -> tuple[Item, ...]:
    return tuple(item(path, GOOD, None, _key(path, folder)) for path in paths)


def _chosen(data: Path, here: Callable[[Path], bool], class_name: str | None) -> tuple[Path, str]:
    """Return folder and name of a class. Where `data` is the folder of one class, `class_name` renames it."""
    found = class_folders(data, here)
    if data in found.values():
        return data, class_name or name_of(data)
    name = choose(data, found, class_name)
    return found[name], name


def _some(folder: Path, places: list[Path]) -> Images:
    """Find the images to fit on; raise PadimEdgeError where there are none."""
    found = [images_below(place, good=True) for place in places]
    taken = tuple(path for images in found for path in images.taken)
    if not taken:
        where = " or ".join(_key(place, folder) for place in places)
        left = "".join(f"; {note}" for images in found for note in images.notes)
        raise PadimEdgeError(
            f"{folder} holds no images in {where}; expected files ending in {ENDINGS}, so put good images there{left}"
        )
    return Images(taken, tuple(note for images in found for note in images.notes))


def _unused(folder: Path) -> Iterator[str]:
    """Say which images of a class folder lie where the layout has none."""
    train, test = find_folder(folder, _TRAIN), find_folder(folder, _TEST)
    places = [each for each in folders_in(folder) if each.name.casefold() not in (_TRAIN, _TEST, _TRUTH)]
    places += [each for each in folders_in(train) if not is_good(each.name)] if train else []
    found = {_key(place, folder): nested_images(place) for place in places}
    found |= {_key(place, folder): images_in(place) for place in (folder, train, test) if place is not None}
    lost = [path for paths in found.values() for path in paths]
    if lost:
        named = ", ".join(f"{place} ({len(paths)})" for place, paths in found.items() if paths)
        yield (
            f"not used: {counted(lost)} in {named}; good ones to fit on belong into train/good, labelled ones into "
            "test/good and test/<kind of defect>, masks into ground_truth/<kind of defect>"
        )


def _doubtful(kinds: Iterable[Path]) -> Iterator[str]:
    """Name the folders of test images whose names say when they were taken, and not what they show."""
    named = [kind.name for kind in kinds if is_of_time_or_place(kind.name)]
    if named:
        yield (
            f"test/{', test/'.join(named)} count{'s' if len(named) == 1 else ''} as defective, since every folder in "
            "test but good is a kind of defect; move good images into test/good"
        )


def _key(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
