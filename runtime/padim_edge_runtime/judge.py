"""Many picture files through one detector: decoding overlaps inference, and one bad picture stops nothing."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import ImageError, Metadata, PadimEdgeError
from padim_edge_artifact.comparable import compare
from padim_edge_artifact.files import replacing
from padim_edge_runtime import images
from padim_edge_runtime.detector import Detector
from padim_edge_runtime.overlay import overlay
from padim_edge_runtime.prefetch import in_order
from padim_edge_runtime.regions import Region, find_regions, to_picture

__all__ = ["COLUMNS", "Judged", "Unreadable", "judge"]


@dataclass(frozen=True)
class Judged:
    """The decision on one picture."""

    path: Path
    """As it was given."""
    score: float
    p_value: float
    threshold: float
    anomalous: bool
    regions: tuple[Region, ...]
    width: int
    """Of the picture, in pixels."""
    height: int
    milliseconds: float
    """Time in the model, without decoding and drawing."""
    shift: tuple[int, int]
    """(x, y) in pixels of the picture by which it seems moved against the mean good picture, in steps of a patch."""
    warnings: tuple[str, ...]
    """`shift` or `exposure` where the picture is not comparable with the good ones: camera or lamp, not the part."""
    notes: tuple[str, ...]
    """What was changed in the picture before judging."""

    def to_json(self) -> dict[str, Any]:
        """The object that `infer --json` prints."""
        content = dataclasses.asdict(self)
        return {**content, "path": str(self.path), "milliseconds": round(self.milliseconds, 3)}


@dataclass(frozen=True)
class Unreadable:
    """A picture that could not be judged, and why."""

    path: Path
    error: str

    def to_json(self) -> dict[str, Any]:
        """The object that `infer --json` prints."""
        return {"path": str(self.path), "error": self.error}


COLUMNS = ("path", "score", "p_value", "threshold", "anomalous", "regions", "width", "height", "milliseconds", "error")
"""Columns of the CSV file; `regions` is their number."""


def judge(
    detector: Detector,
    files: Iterable[tuple[Path, Path]],
    *,
    threshold: float | None = None,
    heatmaps: Path | None = None,
    smallest: int = 0,
) -> Iterator[Judged | Unreadable]:
    """Judge picture files, in their order.

    Args:
        detector: The model.
        files: (path, name to report it under), as from `images.find`.
        threshold: Used instead of the model's own.
        heatmaps: Folder for overlays, `<name>.png` in the picture's own size.
        smallest: Regions of less area, in square pixels of the picture, are not reported. The decision is the score's
            alone.

    Raises:
        PadimEdgeError: The heat maps cannot be written, or the device failed. Unreadable pictures are reported instead.
    """
    files = list(files)
    metadata = detector.metadata
    targets = _targets(heatmaps, [name for _, name in files])

    def decode(path: Path) -> tuple[images.Picture, npt.NDArray[np.uint8]] | ImageError:
        try:
            picture = images.read(path)
            return picture, images.prepare(picture.image, detector.metadata.preprocessing)
        except ImageError as error:
            return error

    def run() -> Iterator[tuple[Judged | Unreadable, images.Picture | None, npt.NDArray[np.float32] | None]]:
        for (path, _), decoded in zip(files, in_order(decode, [path for path, _ in files], ahead=4), strict=True):
            if isinstance(decoded, ImageError):
                yield Unreadable(path, str(decoded)), None, None
                continue
            picture, frame = decoded
            comparison = compare(frame, metadata.reference, metadata.grid)
            start = time.perf_counter()
            result = detector(frame, threshold=threshold)
            milliseconds = 1e3 * (time.perf_counter() - start)
            anomaly_map, (width, height) = result.anomaly_map[0], picture.image.size
            yield (
                Judged(
                    path=path,
                    score=float(result.score[0]),
                    p_value=float(result.p_value[0]),
                    threshold=result.threshold,
                    anomalous=bool(result.anomalous[0]),
                    regions=find_regions(
                        anomaly_map,
                        result.threshold,
                        detector.metadata.preprocessing,
                        width,
                        height,
                        smallest=smallest,
                    ),
                    shift=in_pixels(comparison.shift, metadata, width, height),
                    warnings=comparison.warnings,
                    width=width,
                    height=height,
                    milliseconds=milliseconds,
                    notes=picture.notes,
                ),
                picture,
                anomaly_map,
            )

    if heatmaps is None:
        for judged, _, _ in run():
            yield judged
        return

    inspected = detector.metadata.inspected

    def draw(
        work: tuple[Path, tuple[Judged | Unreadable, images.Picture | None, npt.NDArray[np.float32] | None]],
    ) -> Judged | Unreadable:
        target, (judged, picture, anomaly_map) = work
        if isinstance(judged, Judged) and picture is not None and anomaly_map is not None:
            shown = to_picture(
                anomaly_map,
                detector.metadata.preprocessing,
                judged.width,
                judged.height,
                inspected=inspected,
            )
            drawn = overlay(
                picture.image,
                shown,
                judged.threshold,
                anomalous=judged.anomalous,
                score=judged.score,
                boxes=[region.box for region in judged.regions],
            )
            _make_folder(target.parent)
            with replacing(target) as temporary:
                drawn.save(temporary, format="PNG", compress_level=1)
        return judged

    # Overlays are drawn in one thread beside the model's; both wait at most a few pictures for each other.
    yield from in_order(draw, zip(targets, run(), strict=True), workers=1, ahead=4)


def in_pixels(shift: tuple[int, int], metadata: Metadata, width: int, height: int) -> tuple[int, int]:
    """(x, y) in pixels of the picture, from (rows, columns) in patches."""
    box, (h, w) = metadata.preprocessing.judged_box(width, height), metadata.grid
    return round(shift[1] * box.width / w), round(shift[0] * box.height / h)


def _targets(folder: Path | None, names: list[Path]) -> list[Path]:
    """Where each picture's overlay goes; names that differ only in their ending do not overwrite each other."""
    if folder is None:
        return []
    _make_folder(folder)
    taken: set[Path] = set()
    targets = []
    for name in names:
        target = folder / name.with_suffix(".png")
        number = 2
        while target in taken:
            target = folder / name.with_name(f"{name.stem}-{number}.png")
            number += 1
        taken.add(target)
        targets.append(target)
    return targets


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PadimEdgeError(
            f"the folder {folder} cannot be made ({error.strerror}); choose another one for the heat maps"
        ) from error
