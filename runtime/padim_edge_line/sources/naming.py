"""Which files of a watched folder are images, in which order they are judged, and how one is told from another."""

from __future__ import annotations

import hashlib
import heapq
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from padim_edge_line.arrival import KEY_BYTES
from padim_edge_runtime.image_formats import SUFFIXES

__all__ = ["Listed", "is_hidden", "is_image", "key_of", "listed", "natural"]

_TEMPORARY = frozenset((".crdownload", ".part", ".partial", ".temp", ".tmp"))
"""Endings, in lower case, of names that programs give to files that they have not finished."""
_AT_ONCE = 500
"""Number of keys that the record is asked about at a time."""

Known = Callable[[list[bytes]], "set[bytes]"]
"""Function that tells which of some keys are on record."""


def is_hidden(name: str) -> bool:
    """Tell whether a relative name, or a folder in it, is hidden or a temporary one."""
    return any(part.startswith((".", "~")) or part.lower() == "__macosx" for part in name.split("/"))


def is_image(name: str) -> bool:
    """Tell whether a relative name is that of an image, and not of an unfinished or hidden file."""
    path = PurePosixPath(name)
    endings = [ending.lower() for ending in path.suffixes[-2:]]
    return bool(endings) and endings[-1] in SUFFIXES and not _TEMPORARY & set(endings) and not is_hidden(name)


def key_of(name: str, status: os.stat_result) -> bytes:
    """Return the identity of a file's content, as far as its name, its time and its size tell it."""
    text = f"{name}\0{status.st_mtime_ns}\0{status.st_size}"
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()[:KEY_BYTES]


def natural(name: str) -> str:
    """Return a short text that sorts relative names as `image_search.capture_order` sorts paths."""
    folder, _, file = name.rpartition("/")
    stem, dot, ending = file.rpartition(".")
    if not stem:  # a name without an ending
        stem, dot, ending = file, "", ""
    folders = "".join(f"\2{_numbered(part)}" for part in folder.split("/") if part)
    return f"{folders}\1{_numbered(stem)}\1{dot}{ending}\1{name}"


def _numbered(text: str) -> str:
    """Write the numbers in a text so that they sort by value: their length comes first."""
    return re.sub(r"[0-9]+", _number, text) + "\0"


def _number(found: re.Match[str]) -> str:
    digits = found[0].lstrip("0") or "0"
    # Text ends with the lowest character, so it is compared with text only; 1 and 2 stand behind the end of a name.
    return f"\0{chr(len(digits) + 2)}{digits}"


@dataclass(frozen=True)
class Listed:
    """Images in a folder that are not on record."""

    names: tuple[str, ...]
    """Relative names, in natural order; the first ones where there are too many."""
    more: bool
    """Whether there are more."""
    problem: str = ""
    """Reason why a sub-folder could not be searched, or blank."""


def listed(folder: Path, known: Known, most: int, *, deep: bool) -> Listed:
    """Search a folder for images that are not on record.

    The memory that this takes depends on `most`, not on the number of files.

    Args:
        folder: The folder.
        known: Tells which keys are on record.
        most: Most names to give.
        deep: Whether to search the sub-folders too.

    Raises:
        OSError: The folder cannot be searched.
    """
    problems: list[str] = []

    def unknown() -> Iterator[str]:
        found = _files(folder, problems, deep=deep)
        while some := list(islice(found, _AT_ONCE)):
            on_record = known([key for _, key in some])
            yield from (name for name, key in some if key not in on_record)

    names = heapq.nsmallest(most + 1, unknown(), key=natural)
    return Listed(tuple(names[:most]), len(names) > most, problems[0] if problems else "")


def _files(top: Path, problems: list[str], *, deep: bool) -> Iterator[tuple[str, bytes]]:
    """Yield (relative name, key) of each image. A folder is searched once, however many links lead to it."""
    seen: set[tuple[int, int]] = set()
    folders = [""]
    while folders:
        here = folders.pop()
        try:
            status = (top / here).stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(top / here) as entries:
                for entry in entries:
                    name = f"{here}/{entry.name}" if here else entry.name
                    if is_hidden(entry.name):
                        continue
                    if entry.is_dir():
                        if deep:
                            folders.append(name)
                    elif is_image(name):
                        yield from _keyed(entry, name)
        except OSError as error:
            if not here:
                raise
            problems.append(error.strerror or type(error).__name__)


def _keyed(entry: os.DirEntry[str], name: str) -> Iterator[tuple[str, bytes]]:
    try:
        if entry.is_file():
            yield name, key_of(name, entry.stat())
    except OSError:  # it has gone meanwhile, or it is a link to nowhere
        return
