"""A new threshold from good images that the model has not seen. Nothing else in the file changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import ImageError, Metadata
from padim_edge_artifact.calibration import calibrate, check_rate
from padim_edge_artifact.container import replace_metadata
from padim_edge_runtime.detector import Detector
from padim_edge_runtime.prefetch import in_order

__all__ = ["FEWEST", "RULE", "recalibrate"]

FEWEST = 2
"""Held-out images without which there is nothing to go by."""

RULE = "scores of good images that it was not fitted on"
"""Where the threshold comes from, for people."""


def recalibrate(
    path: Path,
    images: Sequence[Path],
    *,
    false_alarm_rate: float,
    device: str = "auto",
    progress: Callable[[int], object] = lambda _: None,
    tell: Callable[[str], object] = lambda _: None,
) -> tuple[Metadata, tuple[str, ...]]:
    """Set the threshold of a model from held-out good images.

    Args:
        path: The model.
        images: Good images that it was not fitted on; those that it was fitted on score far too low.
        false_alarm_rate: Share of good images that may raise an alarm, in (0, 1).
        device: Where to judge them.
        progress: Called with the number of images done since the last call.
        tell: As for `Detector.load`.

    Returns:
        The new metadata, and one sentence for each image that could not be read.

    Raises:
        ImageError: Fewer than `FEWEST` images can be read.
        PadimEdgeError: The model or the device is refused, or the file cannot be written.
    """
    check_rate(false_alarm_rate)
    detector = Detector.load(path, device, tell=tell)
    scores: list[float] = []
    unreadable: list[str] = []

    def decode(image: Path) -> npt.NDArray[np.uint8] | ImageError:
        try:
            return detector.prepare(image)
        except ImageError as error:
            return error

    for frame in in_order(decode, images, ahead=4):
        if isinstance(frame, ImageError):
            unreadable.append(str(frame))
        else:
            scores.append(float(detector(frame).score[0]))
        progress(1)
    if len(scores) < FEWEST:
        first = f"; of the others: {unreadable[0]}" if unreadable else ""
        raise ImageError(f"there are {len(scores)} readable images, expected at least {FEWEST}, better 100{first}")
    calibration = calibrate(scores)
    metadata = dataclasses.replace(
        detector.metadata,
        threshold=calibration.threshold(false_alarm_rate),
        threshold_rule=RULE,
        false_alarm_rate=false_alarm_rate,
        extrapolated=false_alarm_rate < calibration.resolution,
        calibration=calibration,
    )
    return replace_metadata(path, metadata), tuple(unreadable)
