"""Setting a new threshold from good images that the model has not seen. Nothing else in the file changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import ImageError, Metadata
from padim_edge_artifact.calibration import Calibration
from padim_edge_artifact.files import require_folder, reserved
from padim_edge_learn.intake import (
    FITTED,
    Intake,
    Looks,
    NothingTakenError,
    SetAside,
    counted,
    in_words,
    look,
    nothing_taken,
    reasons_of,
    sort_out,
)
from padim_edge_learn.set_threshold import number, stored
from padim_edge_learn.thresholds import with_threshold
from padim_edge_model.calibration import calibrate, check_rate, threshold
from padim_edge_model.repeats import unpacked
from padim_edge_runtime.detector import Detector
from padim_edge_runtime.pipeline import threads_for

__all__ = ["FEWEST", "RULE", "RULE_FITTED", "RULE_UNKNOWN", "HeldOutChoice", "Recalibrated", "recalibrate"]

FEWEST = 2
"""Smallest number of independent held-out images that a threshold can be set from."""

RULE = "scores of good images that it was not fitted on"
"""Source of the threshold, in words."""

RULE_FITTED = "scores of good images, some of which it was fitted on"
"""Source of the threshold where images of the fit were taken, in words."""

RULE_UNKNOWN = "scores of good images; whether it was fitted on them is unknown"
"""Source of the threshold of a model that keeps no fingerprints, in words."""

_HIDDEN = 0.05
"""Share of images of the fit, among those taken, that may go unnoticed because the model remembers only some."""

_DEVIATIONS = 5.0
"""Standard deviations above the typical score, both of logarithms, from which an image is no good one. Of good images
of bottle and screw, at most .1 % are further off; of the bottle's defects, 5 % are nearer."""

_QUARTILE = 0.6745
"""Upper quartile of the normal distribution in standard deviations."""


@dataclass(frozen=True, kw_only=True)
class HeldOutChoice:
    """Options of `recalibrate`.

    Raises:
        PadimEdgeError: A value is outside its range.
    """

    false_alarm_rate: float = 0.01
    """Share of good images that may raise an alarm, in (0, 1)."""
    take: Iterable[str] = ()
    """Reasons for which no image is set aside: words of `intake.REASONS`, or `all`."""
    output: Path | None = None
    """Copy of the model that gets the threshold; `None` writes it into the model."""

    def __post_init__(self) -> None:
        check_rate(self.false_alarm_rate)
        reasons_of(self.take)


@dataclass(frozen=True)
class Recalibrated:
    """Outcome of `recalibrate`."""

    model: Path
    """File that was written."""
    metadata: Metadata
    """Its metadata."""
    before: Metadata
    """Metadata before."""
    taken: int
    """Number of images that set the threshold, repeats included."""
    unreadable: tuple[str, ...]
    """One sentence for each image that could not be read."""
    set_aside: tuple[SetAside, ...]
    """Images that did not set the threshold, with their reasons."""

    def __str__(self) -> str:
        independent = self.metadata.calibration.images
        images = f"{self.taken} images" + ("" if independent == self.taken else f", {independent} independent")
        others = f"; {len(self.set_aside)} set aside ({in_words(self.set_aside)})" if self.set_aside else ""
        return (
            f"{self.model}: threshold {number(self.metadata.threshold)}, before {number(self.before.threshold)}; "
            f"{images}{others}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the object that `recalibrate --json` prints."""
        return {
            "model": str(self.model),
            "images": self.metadata.calibration.images,
            "false_alarm_rate": self.metadata.false_alarm_rate,
            "extrapolated": self.metadata.extrapolated,
            "threshold_before": self.before.threshold,
            "threshold": self.metadata.threshold,
            "threshold_rule": self.metadata.threshold_rule,
            "taken": self.taken,
            "set_aside_by_reason": counted(self.set_aside),
            "set_aside": [each.to_json() for each in self.set_aside],
            "unreadable": self.unreadable,
        }


def recalibrate(
    path: Path,
    images: Sequence[Path],
    choice: HeldOutChoice | None = None,
    *,
    device: str = "auto",
    progress: Callable[[int], object] = lambda _: None,
    tell: Callable[[str], object] = lambda _: None,
) -> Recalibrated:
    """Set the threshold of a model from held-out good images; the one before is kept in the history.

    The model looks at the images first. Those that it was fitted on would score far too low. They are set aside, and
    so are repeats, images that are not comparable, and images that score far above the others. `choice.take` says
    otherwise.

    Args:
        path: Model file.
        images: Good images that it was not fitted on.
        choice: Options.
        device: Device that judges them.
        progress: Called with the number of images done since the last call.
        tell: Given a sentence before TensorRT builds an engine, as in `Detector.load`.

    Raises:
        ImageError: Fewer than `FEWEST` images can be read.
        NothingTakenError: Fewer than `FEWEST` are left of them.
        PadimEdgeError: The model or the device is refused, or the file cannot be written.
    """
    choice = choice or HeldOutChoice()
    if choice.output is not None:
        require_folder(choice.output)
    with reserved([choice.output or path]):
        detector = Detector.load(path, device, threads=threads_for(len(images)), tell=tell)
        return _recalibrated(path, detector, look(detector, images, progress), choice)


def _recalibrated(path: Path, detector: Detector, looks: Looks, choice: HeldOutChoice) -> Recalibrated:
    before = detector.metadata
    if len(looks.paths) < FEWEST:
        first = f"; of the others: {looks.unreadable[0]}" if looks.unreadable else ""
        raise ImageError(f"there are {len(looks.paths)} readable images, expected at least {FEWEST}, better 100{first}")
    reasons = reasons_of(choice.take)

    def unusual(scores: npt.NDArray[np.float64]) -> tuple[float, str]:
        limit = outlier_limit(scores, before.calibration, before.threshold)
        return limit, f"far above the other images, whose typical score is {number(float(np.median(scores)))}"

    fitted = unpacked(before.fingerprints)
    found = sort_out(looks, fitted, unusual, reasons)
    if len(np.unique(found.groups)) < FEWEST:
        raise nothing_taken(found, f"at least {FEWEST}, better 100, good ones that the model was not fitted on")
    if FITTED not in reasons:
        _refuse_hidden(found, len(fitted), before.images)
    calibration = calibrate(found.scores, found.groups)
    after = with_threshold(
        before,
        threshold(calibration, choice.false_alarm_rate),
        rule=RULE_UNKNOWN if not len(fitted) else RULE_FITTED if found.fitted.any() else RULE,
        reason="recalibrate",
        false_alarm_rate=choice.false_alarm_rate,
        calibration=calibration,
    )
    written = stored(path, after, choice.output)
    return Recalibrated(choice.output or path, written, before, len(found.taken), looks.unreadable, found.set_aside)


def outlier_limit(scores: npt.NDArray[np.float64], calibration: Calibration, threshold: float) -> float:
    """Return the score above which an image is too unlike the other ones to be called good.

    A new threshold is often wanted because good images score higher than they did. So the present threshold is no
    limit, but what lies below it is good enough. Beyond it, the limit is the typical score of the images times a
    factor. The factor rests on the larger of two spreads: that of these images below their typical score, where defects
    hardly count, and that of the model's good images.

    Args:
        scores: Scores `(n,)` of the images, without repeats.
        calibration: Scores of the model's good images.
        threshold: Threshold of the model.
    """
    lower, typical = np.quantile(scores, [0.25, 0.5]) + 1e-12
    usual, upper = np.quantile(calibration.scores, [0.5, 0.75]) + 1e-12
    spread = np.log(max(typical / lower, upper / usual)) / _QUARTILE
    return max(threshold, float(typical * np.exp(_DEVIATIONS * spread)))


def _refuse_hidden(found: Intake, remembered: int, images: int) -> None:
    """Refuse the images where many of the fit must be among them that the model does not remember.

    Args:
        found: The images.
        remembered: Number of fingerprints that the model keeps.
        images: Number of images that it was fitted on.

    Raises:
        NothingTakenError: They are more than `_HIDDEN` allows.
    """
    if not remembered or remembered >= images:
        return
    hidden = round(found.fitted_seen * (images - remembered) / remembered)
    if hidden > _HIDDEN * len(found.taken):
        raise NothingTakenError(
            f"{found.fitted_seen} images are of the fit; the model remembers only {remembered} of its {images} images, "
            f"so about {hidden} more are among these and cannot be told from new ones; expected images that it was "
            f"not fitted on, so give a folder without those of the fit, or take them all the same with --take {FITTED}",
            found.set_aside,
        )
