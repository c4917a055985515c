"""Command lines that change the packages of this very environment; the `pip` of a shell may be another one's."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from importlib import util
from pathlib import Path

__all__ = ["pip"]


def pip(arguments: str) -> str:
    """Return a command line that does `pip ARGUMENTS` to this interpreter's environment.

    It begins with `pip` where that is this interpreter's own. A virtual environment made by uv has none.
    """
    found = shutil.which("pip")
    if found and os.path.realpath(Path(found).parent) == os.path.realpath(Path(sys.executable).parent):
        return f"pip {arguments}"
    interpreter = shlex.quote(sys.executable)
    if util.find_spec("pip") is not None:
        return f"{interpreter} -m pip {arguments}"
    return f"uv pip {arguments} --python {interpreter}"
