"""Folders without the right to open them, also for root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["closed", "enterable"]


@contextmanager
def closed(folder: Path) -> Iterator[None]:
    """Take away the right to open a folder. Root may open everything, so it becomes nobody for a while."""
    rights, user = folder.stat().st_mode, os.geteuid()
    folder.chmod(0)
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.chmod(rights)


def enterable(folder: Path) -> Path:
    """Let every user enter a temporary folder."""
    for parent in (folder, *folder.parents):
        if parent.stat().st_uid == os.geteuid() and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o055)
    return folder
