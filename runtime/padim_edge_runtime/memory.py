"""Memory, as the system tells it: of the machine, of control groups, and of a process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Available", "Resident", "available_memory", "of_machine", "peak_memory", "resident"]

_ROOT = Path("/")


@dataclass(frozen=True)
class Available:
    """Memory of the machine, or of the container if that has less."""

    total: int
    """Bytes."""
    free: int
    """Bytes that this process may still take."""


@dataclass(frozen=True)
class Resident:
    """Memory that a process holds now."""

    private: int
    """Bytes of the process alone, which the system cannot do without."""
    mapped: int
    """Bytes of mapped files. All processes on the machine share them, and the system may drop them."""


def available_memory(root: Path = _ROOT) -> int | None:
    """Return the bytes that this process may still take; `None` where the system does not tell.

    Args:
        root: Folder that holds `proc` and `sys`; another one for tests.
    """
    found = of_machine(root)
    return None if found is None else found.free


def of_machine(root: Path = _ROOT) -> Available | None:
    """Return the memory of the machine within the limits of control groups; `None` where the system does not tell.

    Args:
        root: Folder that holds `proc` and `sys`; another one for tests.
    """
    found = [each for each in (_of_meminfo(root / "proc/meminfo"), *_of_containers(root)) if each is not None]
    if not found:
        return None
    return Available(min(each.total for each in found), min(each.free for each in found))


def resident(process: str = "self", root: Path = _ROOT) -> Resident | None:
    """Return the memory that a process holds now; `None` where the system does not tell, as outside Linux.

    Args:
        process: Its number, or `self`.
        root: Folder that holds `proc`; another one for tests.
    """
    found = _fields(root / "proc" / process / "status")
    if "RssAnon" not in found or "RssFile" not in found:
        return None
    return Resident(found["RssAnon"], found["RssFile"])


def peak_memory(root: Path = _ROOT) -> int | None:
    """Return the largest number of bytes that this process has held so far, mapped files included.

    Args:
        root: Folder that holds `proc`; another one for tests.

    Returns:
        `None` where the system does not tell, as on Windows.
    """
    # Not ru_maxrss, where there is a choice: a child inherits the peak of the process that forked it.
    if (peak := _fields(root / "proc/self/status").get("VmHWM")) is not None:
        return peak
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _of_meminfo(path: Path) -> Available | None:
    found = _fields(path)
    if "MemTotal" not in found or "MemAvailable" not in found:
        return None
    return Available(found["MemTotal"], found["MemAvailable"])


def _fields(path: Path) -> dict[str, int]:
    """Read the lines `Name: NUMBER kB` of a file, as bytes by name; other lines and missing files give nothing."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if len(words) == 2 and words[1] == "kB" and words[0].isdecimal():
            found[name] = 1024 * int(words[0])
    return found


def _of_containers(root: Path) -> Iterator[Available]:
    """Give the limit of each control group (version 2) that this process is in, the innermost first."""
    top = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    # In a container the path is often that of the host, which does not exist inside: then the top is the container's.
    own = next((line.removeprefix("0::").strip("/") for line in lines if line.startswith("0::")), "")
    folder = top / own
    while True:
        if (found := _of_group(folder)) is not None:
            yield found
        if folder == top:
            return
        folder = folder.parent


def _of_group(folder: Path) -> Available | None:
    try:
        limit = int((folder / "memory.max").read_text())  # "max" where there is none
        taken = int((folder / "memory.current").read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return Available(limit, max(0, limit - taken + int(stat.get("inactive_file", 0))))
    except (OSError, ValueError):
        return None
