"""Storing another threshold in a model's metadata, with a way back."""

from __future__ import annotations

import dataclasses
import datetime as dt

from padim_edge_artifact import Metadata
from padim_edge_artifact.calibration import BEST_F1, BY_HAND, Calibration, check_threshold
from padim_edge_artifact.metadata import MOST_PAST, PastThreshold

__all__ = ["history_with", "rule_of_scores", "with_threshold"]

_SCORES = "scores of good images"
"""Words for calibration scores whose source is not known any more."""


def with_threshold(
    metadata: Metadata,
    threshold: float,
    *,
    rule: str,
    reason: str,
    false_alarm_rate: float,
    calibration: Calibration | None = None,
) -> Metadata:
    """Return the metadata with another threshold; the one before is kept in the history with date and reason.

    Args:
        metadata: Metadata of the model.
        threshold: Score above which an image is anomalous.
        rule: Source of the new threshold, in words.
        reason: Reason of the change, in words, such as `recalibrate`.
        false_alarm_rate: Share of good images that the new threshold lets raise alarms, in (0, 1).
        calibration: Scores that it was set with; `None` keeps those of the model.

    Raises:
        PadimEdgeError: The threshold is no finite distance.
    """
    scores = metadata.calibration if calibration is None else calibration
    return dataclasses.replace(
        metadata,
        threshold=check_threshold(threshold),
        threshold_rule=rule,
        false_alarm_rate=false_alarm_rate,
        extrapolated=false_alarm_rate < scores.resolution,
        calibration=scores,
        history=history_with(metadata, reason),
    )


def history_with(metadata: Metadata, reason: str) -> tuple[PastThreshold, ...]:
    """Return the history of the metadata and, as its last entry, their threshold, which is about to be replaced.

    Args:
        metadata: Metadata of the model.
        reason: Reason of the change, in words.
    """
    past = PastThreshold(
        metadata.threshold,
        metadata.threshold_rule,
        metadata.false_alarm_rate,
        dt.datetime.now(tz=dt.timezone.utc).date().isoformat(),
        reason,
        metadata.calibration,
    )
    return (*metadata.history, past)[-MOST_PAST:]


def rule_of_scores(metadata: Metadata) -> str:
    """Find the words for the calibration scores, which a threshold given as a number has pushed aside."""
    rules = [metadata.threshold_rule, *(past.rule for past in reversed(metadata.history))]
    calibrations = [metadata.calibration, *(past.evidence for past in reversed(metadata.history))]
    for rule, calibration in zip(rules, calibrations, strict=True):
        if calibration == metadata.calibration and rule != BY_HAND and not rule.startswith(BEST_F1):
            return rule
    return _SCORES
