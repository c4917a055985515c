"""Setting a new threshold from good images that the model has not seen. Nothing else in the file changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from padim_edge_artifact import ImageError, Metadata
from padim_edge_artifact.container import replace_metadata
from padim_edge_model.calibration import calibrate, check_rate, threshold
from padim_edge_runtime.detector import Detector
from padim_edge_runtime.prefetch import decoded

__all__ = ["FEWEST", "RULE", "recalibrate"]

FEWEST = 2
"""Smallest number of held-out images that a threshold can be set from."""

RULE = "scores of good images that it was not fitted on"
"""Source of the threshold, in words."""


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
        path: Model file.
        images: Good images that it was not fitted on; those that it was fitted on score far too low.
        false_alarm_rate: Share of good images that may raise an alarm, in (0, 1).
        device: Device that judges them.
        progress: Called with the number of images done since the last call.
        tell: Given a sentence before TensorRT builds an engine, as in `Detector.load`.

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

    for _, frame in decoded(images, detector.prepare, ahead=4):
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
        threshold=threshold(calibration, false_alarm_rate),
        threshold_rule=RULE,
        false_alarm_rate=false_alarm_rate,
        extrapolated=false_alarm_rate < calibration.resolution,
        calibration=calibration,
    )
    return replace_metadata(path, metadata), tuple(unreadable)
