"""Worth of a threshold in words: the false-alarm rate that it stands for, and how far its images can tell."""

from __future__ import annotations

import math

from padim_edge_artifact import Metadata
from padim_edge_model.calibration import CONFIDENCE, false_alarm_interval

__all__ = ["good_images", "percent", "worth"]


def worth(metadata: Metadata) -> str:
    """Say in a few sentences what the calibration scores know about the threshold's false-alarm rate."""
    calibration, rate = metadata.calibration, metadata.false_alarm_rate
    images = f"{calibration.images} independent good image{'' if calibration.images == 1 else 's'}"
    if metadata.threshold <= calibration.scores[0]:
        return f"All {images} of the calibration score higher, so nearly every good image will raise an alarm."
    low, high = false_alarm_interval(calibration, metadata.threshold)
    highest = metadata.threshold == calibration.scores[-1]
    expected = max(rate, calibration.resolution) if highest else rate  # the highest score stands for no finer rate
    span = f"at most {percent(high)}" if low == 0 else f"between {percent(low)} and {percent(high)}"
    sentence = (
        f"About {percent(expected)} of good images are expected to raise an alarm; as far as {images} can tell, {span} "
        f"({100 * CONFIDENCE:.0f} % confidence)."
    )
    if metadata.extrapolated:
        so = "the threshold is their highest score" if highest else f"the {percent(rate)} is an estimate"
        sentence += (
            f" They measure rates down to {percent(calibration.resolution)}, so {so}. To measure {percent(rate)}, "
            f"use {math.ceil(1 / rate) - 1} or more."
        )
    return sentence


def good_images(metadata: Metadata) -> str:
    """Count the good images that a model was fitted on, and the independent ones where there are fewer."""
    fewer = metadata.independent not in (None, metadata.images)
    return f"{metadata.images} good images" + (f", {metadata.independent} independent" if fewer else "")


def percent(share: float) -> str:
    """Write a share in percent with two digits."""
    return f"{100 * share:.2g} %"
