"""Unfinished files and folders: made beside the final name, locked while their process lives, removed when it died.

The name depends on the final one. So a second writer of the same file meets the first, and the next writer removes what
a killed one has left. The lock is the kernel's (`flock`), which no dead process holds.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from padim_edge_artifact.errors import PadimEdgeError

_fcntl: ModuleType | None
try:
    import fcntl as _fcntl
except ImportError:  # not on Windows, where a file cannot be removed while it is open
    _fcntl = None

__all__ = ["LOCK", "PAIR", "TEMPORARY", "Claim", "abandoned", "claimed", "place_of", "real"]

_PREFIX = ".padim-edge-"
TEMPORARY, LOCK, PAIR = ".tmp", ".lock", ".pair"
"""Endings: of what becomes a file, of a mere lock, and of a file whose partner may already stand under its name."""

_SWEPT = (TEMPORARY, LOCK)
_DIGITS = 16
_TRIES = 20
_FORGOTTEN = 24 * 3600.0
"""Age in seconds from which a file counts as left behind, where the file system has no locks."""
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)

_clean: set[tuple[int, int]] = set()
"""Folders that this process has cleared of what dead processes left, as (device, inode)."""


@dataclass(frozen=True)
class Claim:
    """An unfinished file or folder of this process."""

    place: Path
    """Its path, in the folder of the final name."""
    target: Path
    """The final name, behind all links."""
    handle: int
    """Open descriptor, which holds the lock."""


def real(path: Path) -> Path:
    """Return the file behind all links, since a link is to stay one when its file is replaced."""
    return Path(os.path.realpath(path))


def place_of(path: Path, ending: str = TEMPORARY) -> Path:
    """Return where the unfinished form of a file lies. Its name is short, whatever the final one is."""
    target = real(path)
    digits = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:_DIGITS]
    return target.with_name(f"{_PREFIX}{digits}{ending}")


@contextlib.contextmanager
def claimed(path: Path, ending: str = TEMPORARY, *, folder: bool = False) -> Iterator[Claim]:
    """Make the unfinished form of a file, new and locked; remove it at the end if it is still there.

    Args:
        path: The final name.
        ending: One of the endings.
        folder: Whether a folder is made, for several files.

    Raises:
        PadimEdgeError: Another process is writing the same file.
        OSError: It cannot be made.
    """
    target, place = real(path), place_of(path, ending)
    _sweep(place.parent)
    for _ in range(_TRIES):
        try:
            handle = _made(place, folder=folder)
        except FileExistsError:
            if not _removed(place):
                break
            continue
        if _locked(handle) is not False and _same(place, handle):  # another process may have taken it for a dead one's
            try:
                yield Claim(place, target, handle)
            finally:
                _remove(place, handle)
                os.close(handle)
            return
        os.close(handle)
    raise PadimEdgeError(
        f"another process is writing {path}; wait until it is done, or choose another name (its unfinished file is "
        f"{place})"
    )


@contextlib.contextmanager
def abandoned(path: Path, ending: str) -> Iterator[Path | None]:
    """Give the unfinished file that a dead process left for `path`, and lock it; `None` where there is none."""
    place = place_of(path, ending)
    try:
        handle = os.open(place, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        yield None
        return
    try:
        yield place if stat.S_ISREG(os.fstat(handle).st_mode) and _locked(handle) and _same(place, handle) else None
    finally:
        os.close(handle)


def _made(place: Path, *, folder: bool) -> int:
    if folder:
        place.mkdir()
        return os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY)
    return os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)


def _locked(handle: int) -> bool | None:
    """Try to lock an open file; `None` where the file system or the system has no locks."""
    if _fcntl is None:
        return None
    try:
        _fcntl.flock(handle, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
    except OSError as error:
        return None if error.errno in _NO_LOCKS else False
    return True


def _same(place: Path, handle: int) -> bool:
    """Tell whether the name still stands for the open file."""
    try:
        found = place.lstat()
    except OSError:
        return False
    opened = os.fstat(handle)
    return (found.st_dev, found.st_ino) == (opened.st_dev, opened.st_ino)


def _removed(place: Path) -> bool:
    """Remove what a dead process left, and tell whether the place is free."""
    try:
        mode = place.lstat().st_mode
    except OSError:
        return True
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a planted link or pipe: never opened, never followed
        return _quietly(place.unlink)
    try:
        handle = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        return _free(handle) and _remove(place, handle)
    finally:
        os.close(handle)


def _free(handle: int) -> bool:
    """Tell whether no living process holds the lock; without locks, whether the file is old."""
    if (locked := _locked(handle)) is not None:
        return locked
    return time.time() - os.fstat(handle).st_mtime > _FORGOTTEN


def _remove(place: Path, handle: int) -> bool:
    """Remove our own or a dead process's file or folder, unless the name stands for another one by now."""
    if not _same(place, handle):
        return False
    if stat.S_ISDIR(os.fstat(handle).st_mode):
        shutil.rmtree(place, ignore_errors=True)
        return not place.exists()
    return _quietly(place.unlink)


def _quietly(remove: Callable[[], object]) -> bool:
    try:
        remove()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _sweep(folder: Path) -> None:
    """Remove what dead processes left in a folder, once for each folder and process."""
    try:
        found = folder.stat()
        key = (found.st_dev, found.st_ino)
        if key in _clean:
            return
        _clean.add(key)
        names = [entry.name for entry in os.scandir(folder) if entry.name.startswith(_PREFIX)]
    except OSError:  # whoever writes there is told
        return
    for name in names:
        if name.endswith(_SWEPT):
            _removed(folder / name)
