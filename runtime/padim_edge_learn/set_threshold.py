"""Choosing another threshold for a model: by hand, by a false-alarm rate, or the one that it had before."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from padim_edge_artifact import ArtifactError, Metadata, PadimEdgeError
from padim_edge_artifact.calibration import BY_HAND
from padim_edge_artifact.container import read_metadata
from padim_edge_artifact.files import reserved
from padim_edge_artifact.rewriting import replace_metadata
from padim_edge_learn.thresholds import rule_of_scores, with_threshold
from padim_edge_model.calibration import p_value, threshold
from padim_edge_runtime.worth import percent, worth

__all__ = [
    "RESTORED",
    "at_rate",
    "by_hand",
    "number",
    "previous",
    "shown",
    "store",
    "stored",
    "to_json",
]

RESTORED = "the one before was restored"
"""Reason that the history keeps when a threshold gives way to an older one."""

_CHOSEN = "another one was chosen"  # the reason that the history keeps otherwise


def at_rate(metadata: Metadata, false_alarm_rate: float) -> Metadata:
    """Return the metadata with the threshold that the model's own calibration scores give for a false-alarm rate.

    Raises:
        PadimEdgeError: The rate is not in (0, 1).
    """
    return with_threshold(
        metadata,
        threshold(metadata.calibration, false_alarm_rate),
        rule=rule_of_scores(metadata),
        reason=_CHOSEN,
        false_alarm_rate=false_alarm_rate,
    )


def by_hand(metadata: Metadata, value: float, rule: str = BY_HAND) -> Metadata:
    """Return the metadata with a threshold given as a number.

    The false-alarm rate that is stored with it is the one that the model's calibration scores give it.

    Args:
        metadata: Metadata of the model.
        value: Score above which an image is anomalous, above 0.
        rule: Source of the number, in words.

    Raises:
        PadimEdgeError: The number is not finite or not above 0.
    """
    if not (math.isfinite(value) and value > 0):
        raise PadimEdgeError(
            f"the threshold is {value:g}, expected a number above 0, as scores are; see the scores with infer"
        )
    rate = min(float(p_value(metadata.calibration, value)), 1 - metadata.calibration.resolution)
    return with_threshold(metadata, value, rule=rule, reason=_CHOSEN, false_alarm_rate=rate)


def previous(metadata: Metadata) -> Metadata:
    """Return the metadata with the threshold that the model had before; a second time, with the one before that.

    The threshold that gives way is kept in the history, too, so nothing is lost.

    Raises:
        PadimEdgeError: There is none.
    """
    history = metadata.history
    back = 0
    while back < len(history) and history[-1 - back].reason == RESTORED:
        back += 1  # each of these was put there by a step back, which this step goes behind
    if len(history) < 2 * back + 1:
        raise PadimEdgeError(
            "the model remembers no earlier threshold; give one as a number, or as --false-alarm-rate"
            if back
            else "the model has had no other threshold; give one as a number, or as --false-alarm-rate"
        )
    past = history[-1 - 2 * back]
    return with_threshold(
        metadata,
        past.score,
        rule=past.rule,
        reason=RESTORED,
        false_alarm_rate=past.rate,
        calibration=past.evidence,
    )


def store(model: Path, chosen: Metadata, output: Path | None = None) -> Metadata:
    """Write metadata with another threshold into a model, or into a copy; return what then stands there.

    Nothing is written where threshold and source are those that the model has, unless there is an `output`.

    Raises:
        ArtifactError: The model is damaged, or not the one any more that the metadata were read from.
        PadimEdgeError: A file cannot be written, or another process is writing it.
    """
    with reserved([output or model]):
        return stored(model, chosen, output)


def stored(model: Path, chosen: Metadata, output: Path | None = None) -> Metadata:
    """Do what `store` says, for a caller that has reserved the file."""
    present = read_metadata(model)
    if present.digests.model != chosen.digests.model:
        raise ArtifactError(f"{model} was changed by another program in the meantime; run the command again")
    same = all(
        getattr(chosen, name) == getattr(present, name)
        for name in ("threshold", "threshold_rule", "false_alarm_rate", "calibration")
    )
    if same and output is None:
        return present
    return replace_metadata(model, present if same else chosen, output)


def shown(metadata: Metadata) -> list[str]:
    """Describe the threshold, its origin and the ones before it, one line each."""
    lines = [
        f"threshold {number(metadata.threshold)}",
        f"origin: {_origin(metadata.threshold_rule, metadata.false_alarm_rate)}",
        worth(metadata),
    ]
    lines += [
        f"until {past.until}: {number(past.score)}, {_origin(past.rule, past.rate)} ({past.reason})"
        for past in reversed(metadata.history)
    ]
    return lines


def number(score: float) -> str:
    """Write a score or threshold for people; small ones keep their digits."""
    return f"{score:.2f}" if abs(score) >= 1 else f"{score:.3g}"


def to_json(metadata: Metadata) -> dict[str, Any]:
    """Return what `threshold --json` says about the threshold of a model."""
    return {
        "threshold": metadata.threshold,
        "rule": metadata.threshold_rule,
        "false_alarm_rate": metadata.false_alarm_rate,
        "extrapolated": metadata.extrapolated,
        "calibration_images": metadata.calibration.images,
        "evidence": worth(metadata),
        "history": [
            {
                "threshold": past.score,
                "rule": past.rule,
                "false_alarm_rate": past.rate,
                "until": past.until,
                "reason": past.reason,
            }
            for past in metadata.history
        ],
    }


def _origin(rule: str, rate: float) -> str:
    return f"{rule}, for a false-alarm rate of {percent(rate)}"
