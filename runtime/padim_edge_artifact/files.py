"""Writing files whole: nothing half-written ever stands under the final name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from padim_edge_artifact.errors import PadimEdgeError

__all__ = ["make_folder", "refuse_inputs", "replacing", "require_folder"]


def require_folder(path: Path) -> None:
    """Refuse an output whose folder does not exist, before minutes of work.

    Raises:
        PadimEdgeError: The folder does not exist.
    """
    if not path.resolve().parent.is_dir():
        raise PadimEdgeError(f"the folder of {path} does not exist; make it or choose another one")


def refuse_inputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Refuse outputs that are inputs, before any of them is written.

    Raises:
        PadimEdgeError: One of them is.
    """
    read = {path.resolve() for path in inputs}
    for output in outputs:
        if output.resolve() in read:
            raise PadimEdgeError(f"the output {output} is an input, which would be lost; choose another name")


def make_folder(folder: Path) -> None:
    """Make a folder for maps, and those that it lies in, where they do not exist.

    Raises:
        PadimEdgeError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PadimEdgeError(
            f"the folder {folder} cannot be made ({error.strerror}); choose another one for the maps"
        ) from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` on success, remove it on any failure.

    Raises:
        PadimEdgeError: The path names no file, the folder does not exist or cannot be written to, or the disk is full.
    """
    if not path.name:
        raise PadimEdgeError(f"{str(path)!r} cannot be written, expected the name of a file")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    except BrokenPipeError:  # the block's own output has no reader any more; this file is not concerned
        raise
    except OSError as error:
        raise PadimEdgeError(
            f"{path} could not be written ({error.strerror or error}); choose a folder that exists, can be written to "
            "and has room"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # where nothing could be written, nothing is left
            temporary.unlink()
