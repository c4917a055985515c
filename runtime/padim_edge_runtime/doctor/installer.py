"""How packages of this environment are changed, as a line that can be copied: the `pip` of a shell may be another's."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from importlib import util
from pathlib import Path

__all__ = ["pip"]


def pip(arguments: str) -> str:
    """A command line that does `pip ARGUMENTS` to this interpreter's environment.

    `pip` alone where that is its own; a virtual environment that uv made has none.
    """
    found = shutil.which("pip")
    if found and os.path.realpath(Path(found).parent) == os.path.realpath(Path(sys.executable).parent):
        return f"pip {arguments}"
    interpreter = shlex.quote(sys.executable)
    if util.find_spec("pip") is not None:
        return f"{interpreter} -m pip {arguments}"
    return f"uv pip {arguments} --python {interpreter}"
