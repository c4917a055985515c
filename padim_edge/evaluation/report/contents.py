"""Contents of the report, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

if TYPE_CHECKING:
    from padim_edge.evaluation.advice import Advice
    from padim_edge.evaluation.operating import OperatingPoint

__all__ = ["Case", "ClassReport", "Curve", "KindRow"]


@dataclass(frozen=True)
class KindRow:
    """Number of images of one kind above the threshold."""

    kind: str
    """`padim_edge.datasets.GOOD` or the kind of defect."""
    images: int
    """Number of images, 1 or more."""
    alarms: int
    """Number of images above the threshold: false alarms for the good images, hits for all others."""
    interval: tuple[float, float]
    """95 % confidence interval of the share, 0 to 1."""

    @property
    def rate(self) -> float:
        """Share of the images above the threshold, 0 to 1."""
        return self.alarms / self.images


@dataclass(frozen=True, eq=False)
class Curve:
    """Points of a curve over the false-positive rate; a few hundred are enough."""

    x: npt.NDArray[np.float64]
    """`(K,)`, 0 to 1, rising: false-positive rate."""
    y: npt.NDArray[np.float64]
    """`(K,)`, 0 to 1, rising."""


@dataclass(frozen=True, eq=False)
class Case:
    """One judged image."""

    name: str
    """File name or path."""
    kind: str
    """Kind of the image, as in `KindRow`."""
    score: float
    """Score of the image."""
    image: Image.Image
    """Image of any size; the report shrinks it."""
    overlay: Image.Image
    """The same image with the anomaly map over it, as `Inspection.overlay` draws it."""
    mask: npt.NDArray[np.bool_] | None
    """`(H, W)` of the image, True where the defect is; `None` where there is no defect or it is unknown."""
    reason: str = ""
    """Reason for showing it, such as `typical`; empty where the gallery's title says it."""


@dataclass(frozen=True, eq=False)
class ClassReport:
    """Contents of the report for one class."""

    class_name: str
    """Name of the class."""
    metrics: Mapping[str, float | None]
    """Metrics by the names of `evaluate --json`, in the order of the report; `None` where one is undefined."""
    kinds: tuple[KindRow, ...]
    """The good images and each kind of defect, in the order of the report."""
    calibration: npt.NDArray[np.floating]
    """`(n,)` scores of the good images that set the threshold, outside the fit; may be empty."""
    scores: Mapping[str, npt.NDArray[np.floating]]
    """`(N,)` scores of the test images, by kind."""
    threshold: float
    """Threshold of the model."""
    false_alarm_rate: float
    """Share of good images that the threshold was set for, in (0, 1)."""
    extrapolated: bool
    """Whether that rate is below what the calibration scores resolve."""
    image_roc: Curve | None
    """ROC curve over images; `None` where it is undefined."""
    pixel_roc: Curve | None
    """ROC curve over pixels; `None` where it is undefined."""
    pro_curve: Curve | None
    """Curve of the per-region overlap; `None` where it is undefined."""
    misses: tuple[Case, ...] = ()
    """Anomalous images without an alarm, the worst first; about six are enough."""
    false_alarms: tuple[Case, ...] = ()
    """Good images with an alarm, the worst first; about six are enough."""
    anomalous: tuple[Case, ...] = ()
    """Other anomalous images, the worst first."""
    good: tuple[Case, ...] = ()
    """Other good images, the worst first."""
    points: tuple[OperatingPoint, ...] = ()
    """Thresholds to choose from, the stored one first."""
    notes: tuple[str, ...] = ()
    """Sentences below the thresholds."""
    advice: tuple[Advice, ...] = ()
    """Steps to try next, in order."""
    model: Mapping[str, str] = field(default_factory=dict)
    """Facts about the model by their names, such as file, backbone and preset."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Reason for each undefined metric, by the metric's name."""
