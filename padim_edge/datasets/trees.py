"""Images in folders and their sub-folders, and what was left out there and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from padim_edge.datasets.labels import is_defective, is_good, is_of_time_or_place
from padim_edge_artifact import PadimEdgeError
from padim_edge_runtime.image_search import Tree, capture_order, circles, listing, search

__all__ = [
    "Images",
    "closed",
    "counted",
    "find_folder",
    "folders_in",
    "images_below",
    "images_in",
    "nested_images",
    "plain_images",
]

_NAMED = 5
"""Number of folders that a sentence names."""
_LABELS = {"0", "1"}
"""Names of two folders that look like numbers of days or cameras, but may mean good and defective."""


@dataclass(frozen=True)
class Images:
    """Images of one kind, found in a folder and its sub-folders."""

    taken: tuple[Path, ...]
    """The images, in order."""
    notes: tuple[str, ...]
    """Remarks on what was left out, and on sub-folders that were taken by their name; mostly empty."""


def images_in(folder: Path) -> list[Path]:
    """List the images directly in a folder, in order; none if there is no such folder.

    Broken links are listed too, so that reading them gives an error. Skipping them would hide it.

    Raises:
        PadimEdgeError: The folder cannot be opened.
    """
    return list(_searched(folder, deep=False).files) if folder.is_dir() else []


def nested_images(folder: Path) -> list[Path]:
    """List the images in a folder and its sub-folders, in order.

    Raises:
        PadimEdgeError: The folder or a sub-folder cannot be opened.
    """
    return list(_searched(folder).files)


def folders_in(folder: Path) -> list[Path]:
    """List the folders directly in a folder, without hidden ones, in order; none if there is no such folder.

    Raises:
        PadimEdgeError: The folder cannot be opened.
    """
    if not folder.is_dir():
        return []
    try:
        return sorted(
            (path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir()), key=capture_order
        )
    except OSError as error:
        raise closed(folder, error) from None


def find_folder(folder: Path, *names: str) -> Path | None:
    """Find a folder by its names from above, `find_folder(data, "Data", "Images")`. Capitals do not matter."""
    for name in names:
        exact = folder / name
        same = (
            [exact]
            if exact.is_dir()
            else [each for each in folders_in(folder) if each.name.casefold() == name.casefold()]
        )
        if not same:
            return None
        folder = same[0]
    return folder


def images_below(folder: Path, *, good: bool) -> Images:
    """Find all images of one kind in a folder and its sub-folders, such as one for each day.

    A sub-folder whose name says the opposite is left out with a note: `NG` in a folder of good images, `good` in one of
    defective images.

    Args:
        folder: The folder.
        good: Whether the images are good.

    Raises:
        PadimEdgeError: The folder or a sub-folder cannot be opened.
    """
    tree = _searched(folder)
    against = is_defective if good else is_good
    taken: list[Path] = []
    left: list[Path] = []
    for path in tree.files:
        parts = path.relative_to(folder).parts[:-1]
        (left if any(against(part) for part in parts) else taken).append(path)
    notes = list(_passed_over(folder, tree))
    if left:
        why = "defective" if good else "good"
        notes.append(f"left out: {counted(left)} in {_places(left, folder)}, whose names say {why}; move them")
    return Images(tuple(taken), tuple(notes))


def plain_images(folder: Path) -> Images:
    """Find the good images of a folder that has no known layout.

    Images directly in the folder are good. Of its sub-folders those are taken whose name says so (`good`, `OK`). Where
    none does, those are taken that are named by a time or place (`monday`, `2026-11-28`, `camera 2`). In a folder that
    is itself named `good`, every sub-folder is taken. No sub-folder is taken whose name says that it holds defects.

    Raises:
        PadimEdgeError: The folder or a sub-folder cannot be opened.
    """
    return _plain(folder, _searched(folder))


def has_plain_images(folder: Path) -> bool:
    """Tell whether `plain_images` finds any, whatever else lies there."""
    return bool(_plain(folder, search(folder)).taken)


def _plain(folder: Path, tree: Tree) -> Images:
    inside = {path: path.relative_to(folder).parts[:-1] for path in tree.files}
    first = {parts[0] for parts in inside.values() if parts}
    by_name = any(is_good(name) for name in first)
    whole = is_good(_real_name(folder))

    def fits(parts: tuple[str, ...]) -> bool:
        if any(is_defective(part) for part in parts):
            return False
        if not parts or whole or is_good(parts[0]):
            return True
        known = all(is_of_time_or_place(part) or is_good(part) for part in parts)
        return known and not by_name and first != _LABELS

    taken = [path for path, parts in inside.items() if fits(parts)]
    left = [path for path, parts in inside.items() if not fits(parts)]
    nested = [path for path in taken if inside[path]]
    notes = list(_passed_over(folder, tree))
    if nested:
        notes.append(f"taken as good by the names of their folders: {counted(nested)} in {_places(nested, folder)}")
    if left:
        notes.append(
            f"not taken: {counted(left)} in {_places(left, folder)}, which may hold defects; if they are good, move "
            "them into a folder named good, or list them in a CSV file"
        )
    return Images(tuple(taken), tuple(notes))


def counted(paths: Collection[Path]) -> str:
    """Count images: `1 image`, `3 images`."""
    return f"{len(paths)} image{'' if len(paths) == 1 else 's'}"


def closed(path: Path, error: OSError) -> PadimEdgeError:
    """Return the error for a folder that cannot be opened."""
    return PadimEdgeError(f"{path} cannot be opened ({error.strerror}), expected a folder; correct its permissions")


def _searched(folder: Path, *, deep: bool = True) -> Tree:
    """Search a folder; raise PadimEdgeError where a part of it cannot be opened, since good images may be missing."""
    tree = search(folder, deep=deep)
    if tree.problems:
        raise PadimEdgeError(tree.problems[0].error)
    return tree


def _passed_over(folder: Path, tree: Tree) -> Iterable[str]:
    if tree.passed_over:
        yield f"passed over: {listing(tree.passed_over)} in {folder}, which may hold images; convert them to PNG"
    if tree.again:
        yield circles(tree.again)


def _places(paths: Iterable[Path], folder: Path) -> str:
    """Name the folders of these images and count the images in each."""
    places = Counter(path.parent.relative_to(folder).as_posix() for path in paths)
    named = [f"{place} ({count})" for place, count in list(places.items())[:_NAMED]]
    more = len(places) - len(named)
    return ", ".join(named) + (f" and {more} more folders" if more else "")


def _real_name(folder: Path) -> str:
    return folder.resolve().name if folder.name in ("", "..") else folder.name
