"""Final names for a finished model and its data file, so that a model that works stands there at every moment.

The name of a data file holds the beginning of its digest. So the new one never takes the place of the old one, which
the old model needs until the new model stands under its name, and which a loaded model needs for as long as it runs.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from padim_edge_artifact.container import read_metadata
from padim_edge_artifact.errors import ArtifactError
from padim_edge_artifact.files import flush, flush_folder, keep_mode
from padim_edge_artifact.unfinished import real

__all__ = ["data_name", "publish"]

_DIGITS = 8
"""Digits of the digest in the name of a data file. The whole digest stands in the metadata."""


def data_name(model: str, digest: str) -> str:
    """Name the data file of a model, such as `bottle.onnx.3fa9c1b2.data`.

    Args:
        model: Name of the model file.
        digest: SHA-256 of the data file.
    """
    return f"{model}.{digest[:_DIGITS]}.data"


def publish(model: Path, data: Path | None, target: Path) -> None:
    """Give a model and its data file their final names; then remove the data file that no model needs any more.

    The content is brought to the disk first. A kill at any moment leaves the old model whole, or the new one.

    Args:
        model: The finished model, on the same file system as `target`.
        data: Its data file under its final name, in any folder; `None` without one.
        target: The final name of the model. A link stays one.

    Raises:
        OSError: A file cannot be given its name.
    """
    final = real(target)
    before = _data_of(final)
    if data is not None:
        there = final.with_name(data.name)
        if data != there:
            flush(data)
            data.replace(there)
    keep_mode(model, final)
    flush(model)
    flush_folder(final.parent)  # a model never stands under its name before its data file does
    model.replace(final)
    flush_folder(final.parent)
    kept = None if data is None else data.name
    for name in sorted((before | _left_behind(final)) - {kept}):
        if not _needed(final.with_name(name)):
            with contextlib.suppress(OSError):  # the model stands; a file too much does no harm
                final.with_name(name).unlink()


def _data_of(model: Path) -> set[str]:
    """Return the name of the data file of a model that may stand there, in its own folder."""
    try:
        name = read_metadata(model).digests.data_file
    except ArtifactError:
        return set()
    return {name} if name is not None and Path(name).name == name else set()


def _left_behind(model: Path) -> set[str]:
    """Return the names of data files that were made for a model of this name, of whichever process."""
    made = re.compile(rf"{re.escape(model.name)}\.[0-9a-f]{{{_DIGITS}}}\.data")
    return {path.name for path in model.parent.iterdir() if made.fullmatch(path.name)}


def _needed(data: Path) -> bool:
    """Tell whether a model in the same folder names this data file: somebody may have copied or renamed one."""
    return any(data.name in _data_of(path) for path in data.parent.glob("*.onnx"))
