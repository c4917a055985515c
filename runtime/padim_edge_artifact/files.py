"""Writing files so that nothing half-written ever stands under the final name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from padim_edge_artifact.errors import PadimEdgeError

__all__ = ["replacing"]


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` on success, remove it on any failure.

    Raises:
        PadimEdgeError: The folder does not exist, cannot be written to, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise PadimEdgeError(
            f"{path} could not be written ({error.strerror or error}); choose a folder that exists, can be written to "
            "and has room"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
