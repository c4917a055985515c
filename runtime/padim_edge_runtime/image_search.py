"""Search for images in folders. Links are followed, and nothing is passed over in silence."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from padim_edge_artifact import ImageError
from padim_edge_runtime.image_formats import SUFFIXES
from padim_edge_runtime.image_sources import opened

__all__ = ["Found", "Problem", "Tree", "capture_order", "circles", "find", "good_files", "listing", "search"]

Words = tuple[str | int, ...]

_NO_IMAGES = frozenset(
    (
        *(".csv", ".ini", ".json", ".log", ".txt", ".xml", ".yaml"),  # also in encodings with zero bytes
        *(".data", ".db", ".engine", ".npy", ".npz", ".onnx", ".pkl", ".pt", ".pth", ".pyc", ".safetensors"),
        *(".doc", ".docx", ".gz", ".pdf", ".sqlite", ".tar", ".xls", ".xlsx", ".zip"),
    )
)
"""File endings, in lower case, of files that accompany images."""
_BY_SYSTEMS = frozenset(("thumbs.db", "desktop.ini", "ehthumbs.db", "__macosx", "icon\r"))
"""Names, in lower case, of files and folders that operating systems put beside images."""
_HEAD = 512
"""Number of bytes that tell text from other content."""
_TEXT_IMAGES = (b"P1", b"P2", b"P3", b"/* XPM", b"<svg", b"%!PS")
"""First bytes of images that are text."""
_NAMED = 5
"""Number of file endings that a sentence gives."""


@dataclass(frozen=True)
class Problem:
    """A file or folder that could not be searched or judged."""

    path: Path
    """The file or folder."""
    error: str
    """Reason, in one sentence."""


@dataclass(frozen=True)
class Tree:
    """Everything that lies in a folder and its sub-folders, except hidden files and folders."""

    files: tuple[Path, ...]
    """Files with one of the endings that were searched for, in `capture_order`. Broken links are among them."""
    passed_over: tuple[Path, ...]
    """Other files that may be images: their content is no text, and their ending is none of a known other kind."""
    other: tuple[Path, ...]
    """Files that are no images, such as texts and tables."""
    problems: tuple[Problem, ...]
    """Folders that cannot be opened, links that lead nowhere, and devices that do not end as an image does."""
    again: tuple[Path, ...]
    """Links to folders that were searched under another path already, or that hold the folder itself."""


@dataclass(frozen=True)
class Found:
    """Images that a user means, and what was passed over beside them."""

    files: tuple[tuple[Path, Path], ...]
    """(path, name to report it under) of each image."""
    trees: tuple[Tree, ...] = ()
    """Content of each folder that was given."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Folders and files that could not be searched."""
        return tuple(problem for tree in self.trees for problem in tree.problems)

    @property
    def missed(self) -> tuple[Problem, ...]:
        """Everything that may hide a defect because it was not judged: the problems, and files that may be images."""
        over = (
            Problem(path, f"{path} was passed over: {_ending(path)} is no ending of an image; {_REMEDY}")
            for tree in self.trees
            for path in tree.passed_over
        )
        return (*self.problems, *over)

    def sentences(self) -> tuple[str, ...]:
        """Say what could not be searched and what was passed over, one sentence each; mostly empty."""
        told = [problem.error for problem in self.problems]
        over = [path for tree in self.trees for path in tree.passed_over]
        other = [path for tree in self.trees for path in tree.other]
        again = [path for tree in self.trees for path in tree.again]
        if over:
            told.append(f"passed over: {listing(over)}, which may hold images; {_REMEDY}")
        if other:
            told.append(f"passed over: {listing(other)}, no images")
        if again:
            told.append(circles(again))
        return tuple(told)


_REMEDY = "convert them to PNG, or give a file by its name to have it read whatever its ending"


def find(paths: Iterable[Path]) -> Found:
    """Find each file given and each image in each folder given and its sub-folders, in order.

    Files are taken whatever their ending. Hidden files and folders are no images. The name is relative to the folder
    that was given. Where several things were given, the folder's own name stands in front.

    Raises:
        ImageError: A path does not exist, or a folder holds no image.
    """
    found: list[tuple[Path, Path]] = []
    trees = []
    given = list(paths)
    for path in given:
        if path.is_dir():
            tree = search(path)
            trees.append(tree)
            if not tree.files:
                raise ImageError(_nothing(path, tree))
            prefix = Path(path.resolve().name) if len(given) > 1 else Path()
            found += [(file, prefix / file.relative_to(path)) for file in tree.files]
        elif path.exists():
            found.append((path, Path(path.name)))
        else:
            raise ImageError(f"{path} does not exist; expected an image or a folder of images")
    return Found(tuple(found), tuple(trees))


def good_files(paths: Iterable[Path], tell: Callable[[str], object]) -> list[Path]:
    """Find the good images that a model is to learn from, and tell what was passed over.

    Raises:
        ImageError: As for `find`; or a folder cannot be searched, because a part of the evidence would be missing.
    """
    found = find(paths)
    if found.problems:
        raise ImageError(found.problems[0].error)
    for sentence in found.sentences():
        tell(sentence)
    return [path for path, _ in found.files]


def search(folder: Path, endings: Collection[str] = SUFFIXES, *, deep: bool = True) -> Tree:
    """Search a folder and its sub-folders for files with one of these endings.

    Links are followed. A folder is searched once, however many links lead to it, so circles end. A link to a folder
    around this one is not followed. Folders come before links to them, so that a file is found under its own path.

    Args:
        folder: The folder. Where it is hidden, its content is not.
        endings: Endings in lower case, with a dot.
        deep: Whether to search the sub-folders too.
    """
    files: list[Path] = []
    unknown: list[Path] = []
    other: list[Path] = []
    problems: list[Problem] = []
    again: list[Path] = []
    seen = set(_above(folder))
    folders: list[Path] = [folder]
    links: list[Path] = []
    while folders or links:
        if not folders:
            folders.append(links.pop(links.index(min(links, key=capture_order))))
        here = folders.pop()
        try:
            status = here.stat()
            if (status.st_dev, status.st_ino) in seen:
                again.append(here)
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = list(os.scandir(here))
        except OSError as error:
            problems.append(_closed(here, error))
            continue
        for entry in entries:
            if entry.name.startswith(".") or entry.name.lower() in _BY_SYSTEMS:
                continue
            path = here / entry.name
            matches = path.suffix.lower() in endings
            try:
                kind = _kind(entry)
            except OSError as error:  # a link to nowhere or in a circle, or a folder without rights
                if matches:
                    files.append(path)  # reading it gives the error
                else:
                    problems.append(_closed(path, error))
                continue
            if kind == "folder":
                if deep:
                    (links if entry.is_symlink() else folders).append(path)
            elif kind == "device" and not matches:  # reading one that matches gives the error
                problems.append(Problem(path, f"{path} is neither a file nor a folder; expected images, so remove it"))
            elif matches:
                files.append(path)
            else:
                (other if _is_no_image(path) else unknown).append(path)
    return Tree(
        tuple(sorted(files, key=capture_order)),
        tuple(sorted(unknown, key=capture_order)),
        tuple(sorted(other, key=capture_order)),
        tuple(sorted(problems, key=lambda problem: capture_order(problem.path))),
        tuple(again),
    )


def capture_order(path: Path) -> tuple[tuple[Words, ...], Words, str, str]:
    """Return the key that sorts paths as people number them: `img2.png` comes before `img10.png`.

    The files of a folder come before those of its sub-folders.
    """
    # The name itself decides between 1.png and 01.png, so that the order never depends on the disk.
    return tuple(_split(part) for part in path.parts[:-1]), _split(path.stem), path.suffix, str(path)


def circles(links: Sequence[Path]) -> str:
    """Say that links lead to folders that are known already."""
    lead = f"{len(links)} links lead" if len(links) > 1 else "a link leads"
    return f"{lead} back to folders that were searched already or hold this one, first {links[0]}"


def listing(paths: Collection[Path]) -> str:
    """Count files by their endings: `3 files (2 .raw, 1 without an ending)`."""
    counts = Counter(_ending(path) for path in paths)
    if len(counts) == 1:
        named = next(iter(counts))
    else:
        named = ", ".join(f"{count} {ending}" for ending, count in counts.most_common(_NAMED))
        named += ", ..." if len(counts) > _NAMED else ""
    return f"{len(paths)} file{'s' if len(paths) > 1 else ''} ({named})"


def _ending(path: Path) -> str:
    return path.suffix.lower() or "no ending"


def _split(text: str) -> Words:
    """Split a name into text and numbers, in turns. Text is then compared with text, and numbers with numbers."""
    return tuple(int(part) if turn % 2 else part for turn, part in enumerate(re.split(r"([0-9]+)", text)))


def _above(folder: Path) -> Iterator[tuple[int, int]]:
    """Identify the folders around a folder. A link to one of them is a circle, which leads to much else on its way."""
    for parent in folder.resolve().parents:
        with suppress(OSError):
            status = parent.stat()
            yield status.st_dev, status.st_ino


def _kind(entry: os.DirEntry[str]) -> str:
    """Tell whether an entry is a `file`, a `folder` or a `device`; a link is what it leads to.

    Raises:
        OSError: A link leads nowhere.
    """
    if entry.is_file(follow_symlinks=False):
        return "file"
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    mode = entry.stat().st_mode
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "device"


def _is_no_image(path: Path) -> bool:
    """Tell whether a file is of a known other kind, or text."""
    if path.suffix.lower() in _NO_IMAGES:
        return True
    try:
        with opened(path) as file:
            head = file.read(_HEAD)
    except (OSError, ImageError):
        return False
    if head.lstrip().startswith(_TEXT_IMAGES):
        return False
    return b"\0" not in head and _is_text(head)


def _is_text(head: bytes) -> bool:
    """Tell whether bytes are text in UTF-8, of which the last character may be cut."""
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return True


def _closed(path: Path, error: OSError) -> Problem:
    return Problem(
        path,
        f"{path} cannot be opened ({error.strerror}), so what lies there is unknown; expected a folder or file that "
        "can be read, so correct its permissions or the link, or remove it",
    )


def _nothing(folder: Path, tree: Tree) -> str:
    """Say that a folder holds no images, and what it holds instead."""
    if tree.problems:
        return tree.problems[0].error
    beside = [*tree.passed_over, *tree.other]
    instead = f", only {listing(beside)}" if beside else ""
    return f"{folder} holds no images{instead}; expected files ending in {', '.join(sorted(SUFFIXES))}"
