"""Heat maps and anomaly maps as files: one per image, in the folders that the images came from."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from padim_edge_artifact.files import make_folder, refuse_inputs, replacing
from padim_edge_runtime.inspection import Inspection
from padim_edge_runtime.profile import Clock

__all__ = ["anomaly_maps", "heat_maps"]

DRAWN_TOGETHER = 5_000_000
"""Largest number of pixels of all images that are drawn at a time; drawing takes some 150 bytes for each."""


def heat_maps(
    folder: Path, files: Sequence[tuple[Path, Path]], *, workers: int, clock: Clock | None = None
) -> Callable[[Inspection], None]:
    """Return a hook for `Detector.inspect_many` that writes the overlay of each file to a folder.

    Args:
        folder: Folder for the overlays, `<name>.png` in the image's own size; made if need be.
        files: (path, name to report it under) of each file that is inspected, as from `image_search.find`.
        workers: Number of threads that call the hook.
        clock: Counts the time that drawing takes.

    Raises:
        PadimEdgeError: The folder cannot be made, or a heat map would overwrite an image. The hook raises it where a
            file cannot be written.
    """
    clock, drawing = clock or Clock(), threading.Lock()
    targets = _targets(folder, files, ".png")

    def write(inspection: Inspection) -> None:
        assert inspection.path is not None
        target = targets[inspection.path].pop()  # a file that was given twice has two, which get the same
        large = inspection.width * inspection.height * workers > DRAWN_TOGETHER
        with drawing if large else nullcontext(), clock.stage("overlay"):
            shown = inspection.overlay()
            make_folder(target.parent)
            with replacing(target) as temporary:
                shown.save(temporary, format="PNG", compress_level=1)

    return write


def anomaly_maps(
    folder: Path, files: Sequence[tuple[Path, Path]], *, clock: Clock | None = None
) -> Callable[[Inspection], None]:
    """Return a hook for `Detector.inspect_many` that writes the anomaly map of each file to a folder.

    Args:
        folder: Folder for the maps, `<name>.tif` in the image's own size; made if need be.
        files: As for `heat_maps`.
        clock: Counts the time that writing takes.

    Raises:
        PadimEdgeError: As from `heat_maps`.
    """
    clock, targets = clock or Clock(), _targets(folder, files, ".tif")

    def write(inspection: Inspection) -> None:
        assert inspection.path is not None
        target = targets[inspection.path].pop()
        with clock.stage("overlay"):
            make_folder(target.parent)
            inspection.save_map(target)

    return write


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
