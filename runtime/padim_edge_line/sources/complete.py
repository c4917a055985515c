"""Whether a file is complete: no program writes it any more.

Three signs count, from the surest to the weakest. Linux grants a *read lease* only on a file that nobody has open for
writing. Many formats tell where they end. And a file that is being written changes.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CLOSED", "OPEN", "UNKNOWN", "Wait", "ended", "grants_leases", "verdict", "written_by_others"]

OPEN, CLOSED, UNKNOWN = "open", "closed", "unknown"
"""Answers to the question whether a program has a file open for writing."""

_LOCAL = frozenset(("bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "vfat", "xfs"))
"""File systems on which a lease is refused only where a program has the file open. Those of a network refuse others."""

_ENDED_S = 0.2
"""Seconds without a change that suffice for a file whose end is in place."""
_CLOSED_S = 0.05
"""Seconds without a change that suffice for a closed file of a format without an end."""
_TAIL = 4096
"""Number of bytes at the end of a file that may hold its end."""


@dataclass(frozen=True)
class Wait:
    """A file that is not complete yet."""

    seconds: float
    """Seconds after which to look again."""


def verdict(path: Path, status: os.stat_result, unchanged_s: float, settle_s: float, *, leases: bool) -> Wait | None:
    """Tell whether a file is complete: `None` where it is, otherwise how long to wait.

    Args:
        path: The file.
        status: Its status just now.
        unchanged_s: Seconds since it was seen to change.
        settle_s: Seconds without a change that suffice where nothing else is known.
        leases: Whether the file system grants leases, from `grants_leases`.

    Raises:
        OSError: The file cannot be opened.
    """
    if unchanged_s >= settle_s and not leases:
        return None
    writer = written_by_others(path) if leases else UNKNOWN
    if writer == OPEN:
        return Wait(min(max(unchanged_s / 10, 0.005), 0.1))
    end = ended(path, status.st_size)
    if writer == CLOSED:
        needed = 0.0 if end else settle_s if end is False else min(_CLOSED_S, settle_s)
    else:
        needed = min(_ENDED_S, settle_s) if end else settle_s
    left = needed - unchanged_s
    return None if left <= 0 else Wait(min(max(left, 0.005), 0.25))


def ended(path: Path, size: int) -> bool | None:
    """Tell whether the end of a file is in place; `None` where its format does not tell.

    Raises:
        OSError: The file cannot be read.
    """
    if size == 0:
        return False
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == b"RIFF":
            return size >= int.from_bytes(head[4:8], "little") + 8
        if head[:2] == b"BM":
            return size >= int.from_bytes(head[2:6], "little")
        if head[:2] != b"\xff\xd8" and head[:8] != b"\x89PNG\r\n\x1a\n":
            return None
        file.seek(max(0, size - _TAIL))
        tail = file.read(_TAIL)
    if head[:2] == b"\xff\xd8":
        return tail.rstrip(b"\0").endswith(b"\xff\xd9")
    return b"IEND\xaeB`\x82" in tail


def written_by_others(path: Path) -> str:
    """Ask Linux whether a program has the file open for writing.

    Raises:
        OSError: The file cannot be opened.
    """
    if sys.platform != "linux":
        return UNKNOWN
    import fcntl
    import signal

    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        # A program that opens the file in this moment makes the kernel send a signal. The usual one would end this
        # process; this one is ignored.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return OPEN
    except OSError:  # the file belongs to another user, or leases are turned off
        return UNKNOWN
    else:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return CLOSED
    finally:
        os.close(descriptor)


def grants_leases(folder: Path) -> bool:
    """Tell whether a refused lease means that a file is being written: on file systems of this machine."""
    if sys.platform != "linux":
        return False
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        place = os.path.realpath(folder)
    except OSError:
        return False
    best, kind = -1, ""
    for line in mounts:
        left, _, right = line.partition(" - ")
        point = left.split(" ")[4]
        for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
            point = point.replace(code, character)
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best:  # a later mount hides an earlier one
            best, kind = len(point), right.split(" ")[0]
    return kind in _LOCAL
