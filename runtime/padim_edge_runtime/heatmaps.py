"""Heat maps and anomaly maps as files: one per image, in the folders that the images came from."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.files import make_folder, refuse_inputs, replacing
from padim_edge_artifact.schema import reason_of
from padim_edge_runtime.inspection import Inspection
from padim_edge_runtime.profile import Clock

__all__ = ["anomaly_maps", "heat_maps"]

DRAWN_TOGETHER = 25_000_000
"""Largest number of pixels of all images that are drawn at a time; drawing takes four bytes for each."""

_LONGEST = 1000
"""Largest number of characters of a reason; it holds a path."""

Lost = Callable[[str], object]
"""Function that takes a sentence about a map that could not be drawn or written. Threads call it."""


def _raised(sentence: str) -> None:
    raise PadimEdgeError(sentence)


def heat_maps(
    folder: Path,
    files: Sequence[tuple[Path, Path]],
    *,
    workers: int,
    clock: Clock | None = None,
    lost: Lost = _raised,
) -> Callable[[Inspection], None]:
    """Return a hook for `Detector.inspect_many` that writes the overlay of each file to a folder.

    Args:
        folder: Folder for the overlays, `<name>.png` in the image's own size; made if need be.
        files: (path, name to report it under) of each file that is inspected, as from `image_search.find`.
        workers: Number of threads that call the hook.
        clock: Counts the time that drawing takes.
        lost: Called where a heat map cannot be drawn or written. By default the hook raises PadimEdgeError.

    Raises:
        PadimEdgeError: The folder cannot be made, or a heat map would overwrite an image.
    """
    clock, drawing = clock or Clock(), threading.Lock()
    targets = _targets(folder, files, ".png")

    def write(inspection: Inspection) -> None:
        assert inspection.path is not None
        target = targets[inspection.path].pop()  # a file that was given twice has two, which get the same
        large = inspection.width * inspection.height * workers > DRAWN_TOGETHER
        with _one("heat map", inspection, lost), drawing if large else nullcontext(), clock.stage("overlay"):
            shown = inspection.overlay()
            make_folder(target.parent)
            with replacing(target) as temporary:
                shown.save(temporary, format="PNG", compress_level=1)

    return write


def anomaly_maps(
    folder: Path, files: Sequence[tuple[Path, Path]], *, clock: Clock | None = None, lost: Lost = _raised
) -> Callable[[Inspection], None]:
    """Return a hook for `Detector.inspect_many` that writes the anomaly map of each file to a folder.

    Args:
        folder: Folder for the maps, `<name>.tif` in the image's own size; made if need be.
        files: As for `heat_maps`.
        clock: Counts the time that writing takes.
        lost: As for `heat_maps`.

    Raises:
        PadimEdgeError: As from `heat_maps`.
    """
    clock, targets = clock or Clock(), _targets(folder, files, ".tif")

    def write(inspection: Inspection) -> None:
        assert inspection.path is not None
        target = targets[inspection.path].pop()
        with _one("anomaly map", inspection, lost), clock.stage("overlay"):
            make_folder(target.parent)
            inspection.save_map(target)

    return write


@contextmanager
def _one(kind: str, inspection: Inspection, lost: Lost) -> Iterator[None]:
    """Let the failure of one map cost that map only."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever the reason is, the other images are to be judged
        if isinstance(error, MemoryError):
            reason = "the memory does not suffice; free memory, or use smaller images"
        else:
            reason = reason_of(error, _LONGEST)
        lost(f"the {kind} of {inspection.path} was not written: {reason}")


def _targets(folder: Path, files: Sequence[tuple[Path, Path]], ending: str) -> dict[Path, list[Path]]:
    """Choose a file for each image, none of them an image; names that differ only in their ending get a number."""
    make_folder(folder)
    taken: set[Path] = set()
    targets: dict[Path, list[Path]] = {}
    for path, name in files:
        target = folder / name.with_suffix(ending)
        number = 2
        while target in taken:
            target = folder / name.with_name(f"{name.stem}-{number}{ending}")
            number += 1
        taken.add(target)
        targets.setdefault(path, []).append(target)
    refuse_inputs(taken, targets)
    return targets
