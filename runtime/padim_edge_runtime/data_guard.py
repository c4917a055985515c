"""Guard against a data file that is overwritten under a loaded model.

onnxruntime maps the constants of a data file into memory and does not copy them. So whoever writes into that file, as
`cp` does, changes the model that is running; whoever cuts it short ends the process. A file that is renamed over it
does neither: the loaded model keeps the old one.
"""

from __future__ import annotations

import os
import weakref
from dataclasses import dataclass
from pathlib import Path

from padim_edge_artifact import ArtifactError, DeviceError
from padim_edge_artifact.container import Verified
from padim_edge_artifact.regular_files import Stamp, descriptor_of, stamp_of

__all__ = ["DataGuard", "guard_of", "require_unchanged"]


@dataclass(frozen=True, eq=False)
class DataGuard:
    """An open data file, as it was when its digest was taken. It is closed with this object."""

    path: Path
    """The data file."""
    descriptor: int
    """Number of the open file."""
    stamp: Stamp
    """Its state."""

    def __post_init__(self) -> None:
        weakref.finalize(self, os.close, self.descriptor)

    def check(self) -> None:
        """Refuse to go on if the file was written to. Its names and rights may change.

        Raises:
            DeviceError: It was.
        """
        found = os.fstat(self.descriptor)
        if found.st_mtime_ns != self.stamp.modified or found.st_size != self.stamp.size:
            raise DeviceError(
                f"{self.path} was overwritten under the loaded model, whose answers are worth nothing now; load the "
                "model again, and rename a new file over an old one instead of copying into it"
            )


def guard_of(verified: Verified) -> DataGuard | None:
    """Open the data file of a model for as long as the model is loaded; return `None` without a data file.

    Args:
        verified: What was read of the model.

    Raises:
        ArtifactError: The file was changed since its digest was taken.
    """
    data = verified.data_path
    if data is None or verified.data is None:
        return None
    try:
        descriptor = descriptor_of(data.resolve(), follow=False)
    except OSError as error:
        raise _changed(data) from error
    guard = DataGuard(data, descriptor, verified.data)
    if stamp_of(os.fstat(descriptor)) != verified.data:
        raise _changed(data)
    return guard


def require_unchanged(path: Path, verified: Verified) -> None:
    """Refuse a model of which a file was changed between its digest and the session that runs it.

    Args:
        path: The model.
        verified: What was read of it.

    Raises:
        ArtifactError: One was.
    """
    stamps = {path: verified.model} | ({} if verified.data_path is None else {verified.data_path: verified.data})
    for file, before in stamps.items():
        try:
            now = stamp_of(file.stat())
        except OSError as error:
            raise _changed(file) from error
        if now != before:
            raise _changed(file)


def _changed(path: Path) -> ArtifactError:
    return ArtifactError(f"{path} was changed while it was read; load the model again")
