"""Thresholds to choose from: false alarms and misses at usual rates and at the best F1, each with its command."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from padim_edge.evaluation.metrics import Rate, rate
from padim_edge_artifact import Metadata
from padim_edge_learn.set_threshold import at_rate

__all__ = ["BEST_F1", "RATES", "STORED", "OperatingPoint", "Origin", "operating_points"]

RATES = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1)
"""False-alarm rates that the table shows."""

STORED, BEST_F1 = "now", "best F1"
"""Names of the operating points that are for no particular rate."""

_DIGITS = range(4, 18)
"""Numbers of significant digits to try; 17 write every float."""


@dataclass(frozen=True)
class Origin:
    """Words that name the model and the images on the command line again."""

    model: str = ""
    """Path of the model file; empty where it is unknown."""
    data: tuple[str, ...] = ()
    """Data set, and its options, such as `("mvtec_ad", "--class", "bottle")`; empty where no path names the images."""

    @property
    def called(self) -> str:
        """Path of the model file, quoted for a shell; `MODEL` where it is unknown."""
        return shlex.quote(self.model) if self.model else "MODEL"

    @property
    def command(self) -> str:
        """Beginning of the command that stores a threshold."""
        return f"padim-edge threshold {self.called}"


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold with its false alarms and misses on the judged images."""

    name: str
    """Name of the row: `now`, `best F1`, or the false-alarm rate asked, such as `2 %`."""
    asked: float | None
    """False-alarm rate that the threshold is for, in (0, 1); `None` for the best F1."""
    threshold: float
    """Score above which an image is anomalous."""
    false_alarm: Rate | None
    """Good images above it; `None` without good images."""
    miss: Rate | None
    """Anomalous images not above it; `None` without anomalous images."""
    extrapolated: bool
    """Whether the rate is finer than the model's calibration measures; `at_rate` gives its highest score then."""
    command: str
    """Command that stores the threshold in the model; empty for the one that is stored."""


def operating_points(
    metadata: Metadata,
    labels: npt.NDArray[np.bool_],
    scores: npt.NDArray[np.float64],
    best_f1: float | None,
    origin: Origin,
) -> tuple[OperatingPoint, ...]:
    """Count false alarms and misses at the stored threshold, at each of `RATES`, and at the best F1.

    The thresholds of the rates come from the model's own calibration, as `padim-edge threshold` would store them.

    Args:
        metadata: Metadata of the model.
        labels: `(N,)`, True where an image is anomalous.
        scores: `(N,)` scores of the images.
        best_f1: Threshold with the best F1 score; `None` where it is undefined.
        origin: Names for the commands.
    """

    def point(name: str, asked: float | None, threshold: float, *, extrapolated: bool, command: str) -> OperatingPoint:
        alarms = scores > threshold
        return OperatingPoint(
            name, asked, threshold, rate(alarms[~labels]), rate(~alarms[labels]), extrapolated, command
        )

    points = [
        point(STORED, metadata.false_alarm_rate, metadata.threshold, extrapolated=metadata.extrapolated, command="")
    ]
    for asked in RATES:
        chosen = at_rate(metadata, asked)
        points.append(
            point(
                f"{100 * asked:g} %",
                asked,
                chosen.threshold,
                extrapolated=chosen.extrapolated,
                command=f"{origin.command} --false-alarm-rate {asked:g}",
            )
        )
    if best_f1 is not None:
        again = f"--best-f1 {shlex.join(origin.data)}" if origin.data else _short(best_f1, scores)
        points.append(point(BEST_F1, None, best_f1, extrapolated=False, command=f"{origin.command} {again}"))
    return tuple(points)


def _short(threshold: float, scores: npt.NDArray[np.float64]) -> str:
    """Write a threshold with as few digits as leave every decision as it is."""
    alarms = scores > threshold
    texts = (f"{threshold:.{digits}g}" for digits in _DIGITS)
    return next(text for text in texts if ((scores > float(text)) == alarms).all())
