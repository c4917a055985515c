"""Opening files that may be anything: regular ones only, without waiting for a pipe."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from padim_edge_artifact.errors import ArtifactError

__all__ = ["Stamp", "descriptor_of", "open_regular", "outside_of", "plain_name", "stamp_of"]

_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""Not blocking: opening a pipe would wait for its writer for ever."""
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9]) *(?:\..*)?", re.IGNORECASE)
"""Names that are devices on Windows, whatever their ending."""


@dataclass(frozen=True)
class Stamp:
    """State of a file; another one means that the file was written to or replaced."""

    device: int
    """Number of the file system."""
    inode: int
    """Number of the file on it."""
    size: int
    """Size in bytes."""
    modified: int
    """Time of the last write in nanoseconds."""
    changed: int
    """Time of the last change, also of its names or rights, in nanoseconds."""


def stamp_of(status: os.stat_result) -> Stamp:
    """Return the stamp of a file from what `os.stat` says about it."""
    return Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@contextmanager
def open_regular(path: Path, *, follow: bool = True) -> Iterator[BinaryIO]:
    """Open a regular file for reading.

    Args:
        path: The file.
        follow: Whether the path may be a link itself.

    Raises:
        ArtifactError: It is a pipe, a socket or a device.
        OSError: It is a folder, or cannot be opened.
        ValueError: The path holds a character that no path may hold.
    """
    with os.fdopen(descriptor_of(path, follow=follow), "rb") as file:
        yield file


def descriptor_of(path: Path, *, follow: bool = True) -> int:
    """Open a regular file for reading and return its number; the caller closes it.

    Args:
        path: As in `open_regular`.
        follow: As in `open_regular`.

    Raises:
        ArtifactError: It is a pipe, a socket or a device.
        OSError: It is a folder, or cannot be opened.
        ValueError: The path holds a character that no path may hold.
    """
    descriptor = os.open(path, _FLAGS | (0 if follow else _NOFOLLOW))
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    kind = _KINDS.get(stat.S_IFMT(mode), "no regular file")
    raise ArtifactError(f"{path} is {kind}, expected a regular file; copy its content into one")


def plain_name(name: str) -> bool:
    """Tell whether a text is a file's name without any folder, on every system."""
    return (
        bool(name)
        and name not in (".", "..")
        and not re.search(r"[/\\\0]", name)
        and Path(name).name == name  # on Windows, "C:name" is none
        and not _RESERVED.fullmatch(name)
    )


def outside_of(data: Path, model: Path) -> bool:
    """Tell whether a data file is a link that leads out of the folder of its model, links of both being followed."""
    return data.resolve().parent != model.resolve().parent
