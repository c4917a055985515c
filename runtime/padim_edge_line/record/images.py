"""Files of the kept images, each with its overlay, in a folder for each day."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from padim_edge_line.row import utc

__all__ = ["FOLDER", "OVERLAY", "files", "place", "remove", "save"]

FOLDER = "images"
"""Name of the folder in the line's folder."""
OVERLAY = "overlay.jpg"
"""Ending of an overlay."""

_NAME = re.compile(r"([0-9a-f]{32})\.([a-z0-9.]{1,16})")
_PART = ".part"


def place(folder: Path, time: int, key: bytes, ending: str) -> Path:
    """Return where a file of an image lies.

    Args:
        folder: The line's folder.
        time: Time of the arrival in microseconds since 1970.
        key: Identity of the image.
        ending: `OVERLAY`, or the ending of the image, such as `png`.
    """
    return folder / FOLDER / utc(time)[:10] / f"{key.hex()}.{ending}"


def save(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file; it gets its name when it is whole.

    `files.replacing` would lock it and bring the folder to the disk as well, and each alarm would wait for that. A file
    without a row is swept up at the next start.

    Args:
        path: The final name.
        content: The content.
        durable: Whether to wait until it is on the disk.

    Raises:
        OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + _PART)
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def remove(folder: Path, time: int, key: bytes, ending: str) -> None:
    """Remove a kept image and its overlay, and the folder of the day when it is empty.

    Raises:
        OSError: They cannot be removed.
    """
    for each in (ending, OVERLAY):
        place(folder, time, key, each).unlink(missing_ok=True)
    with suppress(OSError):  # other images of the day are there
        place(folder, time, key, ending).parent.rmdir()


def files(folder: Path) -> Iterator[tuple[Path, bytes | None]]:
    """Yield each file of a kept image with the image's key; `None` where the file is unfinished."""
    root = folder / FOLDER
    for day in sorted(root.iterdir()) if root.is_dir() else ():
        if not day.is_dir() or day.is_symlink():
            continue
        for path in day.iterdir():
            if (found := _NAME.fullmatch(path.name)) is not None:
                yield path, None if path.name.endswith(_PART) else bytes.fromhex(found[1])
