"""Answers of a model: arrays for a batch, an inspection for one image, or the reason why it could not be read."""

from __future__ import annotations

import io
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from padim_edge_artifact import ImageError, Metadata
from padim_edge_artifact.preprocessing import Levels
from padim_edge_model.comparable import FrameCheck
from padim_edge_runtime import float_tiff, image_files
from padim_edge_runtime.image_files import Decoded, ImageLike
from padim_edge_runtime.overlay import overlay
from padim_edge_runtime.regions import Region, to_image

__all__ = ["ANOMALOUS", "GOOD", "NOT_COMPARABLE", "UNREADABLE", "Inspection", "Result", "Source", "Unreadable", "View"]

GOOD, ANOMALOUS, NOT_COMPARABLE, UNREADABLE = "good", "anomalous", "not comparable", "unreadable"
"""The verdicts."""

_BLOCK = 2**20
"""Number of pixels of a map that are computed at a time where it is written to a file."""

_SHOWN = 800
"""Largest side in pixels of the overlay that a notebook shows."""

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Result:
    """Answer of the model for N images in its own frame."""

    score: Float32
    """`(N,)` maximum of the anomaly map; a raw distance, neither clamped nor rescaled."""
    anomaly_map: Float32
    """`(N, H, W)` in the model's frame; `Preprocessing.judged_box` says where that lies in the image."""
    patch_distance: Float32
    """`(N, h, w)` Mahalanobis distance of each patch."""
    p_value: npt.NDArray[np.float64]
    """`(N,)` share of good images expected to score at least as high, in (0, 1]."""
    anomalous: npt.NDArray[np.bool_]
    """`(N,)` whether the score is above the threshold."""
    threshold: float
    """Score above which an image is anomalous."""
    device: str
    """Device that it ran on: a key of `providers.DEVICES`."""


@dataclass(frozen=True)
class Source:
    """An encoded image that can be decoded again."""

    encoded: Path | bytes
    """A file, or the bytes of one."""
    stamp: tuple[int, int] | None
    """Time of the file's last change in nanoseconds and its size in bytes; `None` for bytes."""

    @classmethod
    def of(cls, image: ImageLike) -> Source | None:
        """Note the source that an image can be decoded from again; `None` for pixels, which have to be kept."""
        if isinstance(image, (str, os.PathLike)):
            return cls(Path(image), _stamp(Path(image)))
        return cls(bytes(image), None) if isinstance(image, (bytes, bytearray, memoryview)) else None

    def read(self, levels: Levels | None) -> Image.Image:
        """Decode the image again.

        Args:
            levels: Range of the values, as in `Preprocessing.levels`.

        Raises:
            ImageError: The file is gone, or has changed since.
        """
        if isinstance(self.encoded, Path) and self.encoded.exists() and _stamp(self.encoded) != self.stamp:
            raise ImageError(f"{self.encoded} has changed since it was inspected; inspect it again")
        return image_files.decode(self.encoded, levels=levels).image


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


@dataclass(frozen=True, eq=False)
class View:
    """Source of the anomaly map and the overlay of one image, which are made when they are asked for."""

    frame_map: Float32
    """`(H, W)` anomaly map in the model's frame."""
    metadata: Metadata
    """Metadata of the model."""
    pixels: Decoded | Source
    """The decoded image, or a source to decode it from again."""
    patch_distance: Float32
    """`(h, w)` distance of each patch."""
    check: FrameCheck
    """Position and exposure of the image."""


@dataclass(frozen=True, eq=False, repr=False)
class Inspection:
    """Verdict on one image; positions and sizes are in the image's own pixels."""

    path: Path | None
    """File that was inspected; `None` for pixels and bytes."""
    score: float
    """Maximum of the anomaly map; a raw distance, 0 or more up to rounding."""
    p_value: float
    """Share of good images expected to score at least as high, in (0, 1]."""
    threshold: float
    """Score above which an image is anomalous."""
    anomalous: bool
    """Whether the score is above the threshold. It says nothing of an image that is not comparable; see `verdict`."""
    regions: tuple[Region, ...]
    """Connected regions above the threshold, the highest first."""
    width: int
    """Width of the image in pixels."""
    height: int
    """Height of the image in pixels."""
    milliseconds: float
    """Time in the model, without decoding, drawing and waiting for a turn. Where several images are in the model at a
    time, each has fewer cores and takes longer than alone."""
    shift: tuple[int, int]
    """(x, y) by which the image seems moved against the mean good image, in steps of a patch."""
    warnings: tuple[str, ...]
    """Reasons why the image is not comparable with the good ones: `unlike`, `shift`, `turned` and `exposure`. They are
    about camera, lamp and product, not about the part. Mostly empty."""
    notes: tuple[str, ...]
    """Changes that were made to the image before it was inspected, in words; mostly empty."""
    view: View
    """Data for `anomaly_map` and `overlay`."""

    @property
    def verdict(self) -> str:
        """`good`, `anomalous` or `not comparable`: the one word that decides.

        An image with any of `warnings` is not comparable, whatever its score is.
        """
        if self.warnings:
            return NOT_COMPARABLE
        return ANOMALOUS if self.anomalous else GOOD

    @property
    def anomaly_map(self) -> Float32:
        """`(height, width)` distances in the image's own pixels, NaN where the model did not look.

        The map is computed at each access, since large images have large maps. `save_map` writes it in little memory.
        """
        return self._map_rows((0, self.height))

    def save_map(self, path: str | os.PathLike[str]) -> None:
        """Write `anomaly_map` as a TIFF file of one channel of float32, some rows at a time.

        So a large image takes little more memory than a small one.

        Raises:
            PadimEdgeError: The file cannot be written.
        """
        step = max(1, _BLOCK // self.width)
        rows = ((first, min(first + step, self.height)) for first in range(0, self.height, step))
        float_tiff.write(Path(path), (self.height, self.width), map(self._map_rows, rows))

    def _map_rows(self, rows: tuple[int, int]) -> Float32:
        metadata = self.view.metadata
        return to_image(
            self.view.frame_map,
            metadata.preprocessing,
            self.width,
            self.height,
            inspected=metadata.inspected,
            rows=rows,
        )

    def overlay(self) -> Image.Image:
        """Draw the anomaly map, the regions and the verdict over the image, in the image's own size.

        A file is read again, so that inspections of many files take little memory. Pixels were kept.

        Raises:
            ImageError: The file is gone, or has changed since it was inspected.
        """
        pixels, preprocessing = self.view.pixels, self.view.metadata.preprocessing
        image = pixels.read(preprocessing.levels) if isinstance(pixels, Source) else pixels.image
        return overlay(
            image,
            self._map_rows,
            self.threshold,
            verdict=self.verdict,
            score=self.score,
            boxes=[region.box for region in self.regions],
        )

    def to_json(self) -> dict[str, Any]:
        """Return the object that `infer --json` prints."""
        return {
            "path": None if self.path is None else str(self.path),
            "score": self.score,
            "p_value": self.p_value,
            "threshold": self.threshold,
            "anomalous": self.anomalous,
            "regions": [asdict(region) for region in self.regions],
            "width": self.width,
            "height": self.height,
            "milliseconds": round(self.milliseconds, 3),
            "shift": self.shift,
            "warnings": self.warnings,
            "notes": self.notes,
            "verdict": self.verdict,
        }

    def kept_as(self, source: Source | None) -> Inspection:
        """Return the same inspection without the decoded image, where there is a source to decode it from again."""
        return self if source is None else replace(self, view=replace(self.view, pixels=source))

    def __repr__(self) -> str:
        count = len(self.regions)
        return (
            f"<Inspection {self.path or 'of pixels'}: {self.verdict}, score {self.score:.2f}, threshold "
            f"{self.threshold:.2f}, p {self.p_value:.2g}, {count} region{'' if count == 1 else 's'}, "
            f"{self.width}x{self.height} pixels>"
        )

    def _repr_png_(self) -> bytes | None:
        """Show the overlay in a notebook."""
        try:
            shown = self.overlay()
        except ImageError:  # the file is gone; the text remains
            return None
        shown.thumbnail((_SHOWN, _SHOWN))
        file = io.BytesIO()
        shown.save(file, "PNG")
        return file.getvalue()


@dataclass(frozen=True)
class Unreadable:
    """An image that could not be read."""

    path: Path | None
    """The file; `None` for pixels and bytes."""
    error: str
    """Reason, in one sentence."""

    @property
    def verdict(self) -> str:
        """`unreadable`."""
        return UNREADABLE

    def to_json(self) -> dict[str, Any]:
        """Return the object that `infer --json` prints."""
        path = None if self.path is None else str(self.path)
        return {"path": path, "error": self.error, "verdict": self.verdict}
