"""The end of a file that was judged: it stays, moves or goes."""

from __future__ import annotations

import filecmp
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from padim_edge_line.config import FolderConfig

__all__ = ["disposed"]


def disposed(config: FolderConfig, name: str, status: os.stat_result) -> None:
    """Move or delete a judged file, unless it has changed meanwhile or has gone.

    A move that was cut off is finished when it is called again, and leaves one copy.

    Args:
        config: The source.
        name: Name of the file, relative to the folder.
        status: Status of the file when it was judged.

    Raises:
        OSError: The file can be neither moved nor deleted.
    """
    path = config.path / name
    try:
        now = path.stat()
    except FileNotFoundError:
        return
    if (now.st_mtime_ns, now.st_size) != (status.st_mtime_ns, status.st_size):
        return
    if config.judged == "delete":
        path.unlink(missing_ok=True)
    elif config.judged == "move":
        assert config.move_to is not None
        target = config.move_to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        _move(path, target)


def _move(path: Path, target: Path) -> None:
    """Move a file without ever overwriting another one."""
    if path.is_symlink():  # the link's own folder means nothing at the other place
        _copied(path, target)
        return
    for place in _places(target):
        try:
            os.link(path, place)
        except FileExistsError:
            if _same(path, place):
                break
            continue
        except OSError:  # another file system, or one without links
            _copied(path, target)
            return
        break
    path.unlink()


def _copied(path: Path, target: Path) -> None:
    """Copy a file under a temporary name, then give it its own."""
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=target.parent)
    os.close(descriptor)
    part = Path(name)
    try:
        shutil.copyfile(path, part)
        shutil.copystat(path, part)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        for place in _places(target):
            if _placed(part, place) or _same(path, place):
                break
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
    path.unlink()


def _placed(part: Path, place: Path) -> bool:
    """Give a file a name that is free; return whether it was."""
    try:
        os.link(part, place)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        if os.path.lexists(place):
            return False
        part.rename(place)
    return True


def _places(target: Path) -> Iterator[Path]:
    """Yield the name itself, then the name with a number."""
    yield target
    number = 1
    while True:
        yield target.with_name(f"{target.stem}-{number}{target.suffix}")
        number += 1


def _same(path: Path, place: Path) -> bool:
    """Tell whether a file is the copy that an earlier attempt has left."""
    try:
        return place.samefile(path) or (
            place.stat().st_mtime_ns == path.stat().st_mtime_ns and filecmp.cmp(path, place, shallow=False)
        )
    except OSError:
        return False
