"""Judged images, and the choice of those that a report shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from padim_edge.datasets import GOOD, Item
from padim_edge.evaluation.report import Case
from padim_edge_runtime.detector import Detector

__all__ = ["BEST", "BORDERLINE", "TYPICAL", "WORST", "Scored", "Shown", "defect_share", "drawn", "shown"]

WORST, BORDERLINE, TYPICAL, BEST = "worst", "borderline", "typical", "best"
"""Reasons for showing an image."""

_ERRORS = 6
"""Number of misses and of false alarms that a report shows."""
_EXAMPLES = 2
"""Number of images that a report shows for each other reason."""


@dataclass(frozen=True)
class Scored:
    """One judged image and its score."""

    item: Item
    """Item of the data set."""
    score: float
    """Score of the image."""
    defect: float | None = None
    """Share of the image that its mask covers, 0 to 1; `None` for a good image, and where the mask is unknown."""


@dataclass(frozen=True)
class Shown:
    """Images for a report, with the reason for each of the examples."""

    misses: tuple[Scored, ...]
    """Anomalous images without an alarm, the lowest score first."""
    false_alarms: tuple[Scored, ...]
    """Good images with an alarm, the highest score first."""
    good: tuple[tuple[str, Scored], ...]
    """Other good images, the highest score first."""
    anomalous: tuple[tuple[str, Scored], ...]
    """Other anomalous images, the lowest score first."""


def defect_share(item: Item, truth: npt.NDArray[np.bool_] | None) -> float | None:
    """Compute the share of an image that is defective; `None` for a good image, and where the truth is unknown."""
    return None if truth is None or item.kind == GOOD else float(truth.mean())


def shown(scored: Sequence[Scored], threshold: float) -> Shown:
    """Choose the worst errors, and from the other images of each side the worst, borderline, typical and best ones.

    No image is chosen twice. Where there are errors, these are the worst images of their side.
    """
    good = sorted((each for each in scored if each.item.kind == GOOD), key=lambda each: -each.score)
    anomalous = sorted((each for each in scored if each.item.kind != GOOD), key=lambda each: each.score)
    false_alarms = [each for each in good if each.score > threshold][:_ERRORS]
    misses = [each for each in anomalous if not each.score > threshold][:_ERRORS]
    return Shown(
        tuple(misses),
        tuple(false_alarms),
        _examples(good, false_alarms, threshold),
        _examples(anomalous, misses, threshold),
    )


def _examples(ordered: Sequence[Scored], errors: Sequence[Scored], threshold: float) -> tuple[tuple[str, Scored], ...]:
    """Choose examples among images that stand from the worst to the best."""
    if not ordered:
        return ()
    median = float(np.median([each.score for each in ordered]))
    place = {id(each): rank for rank, each in enumerate(ordered)}
    orders: dict[str, Callable[[Scored], float]] = {
        WORST: lambda each: place[id(each)],
        BORDERLINE: lambda each: abs(each.score - threshold),
        TYPICAL: lambda each: abs(each.score - median),
        BEST: lambda each: -place[id(each)],
    }
    if errors:
        del orders[WORST]
    left = [each for each in ordered if not any(each is error for error in errors)]
    chosen: list[tuple[str, Scored]] = []
    for reason, order in orders.items():
        for each in sorted(left, key=order)[:_EXAMPLES]:
            chosen.append((reason, each))
            left = [other for other in left if other is not each]
    return tuple(sorted(chosen, key=lambda pair: place[id(pair[1])]))


def drawn(chosen: Sequence[Scored | tuple[str, Scored]], detector: Detector) -> tuple[Case, ...]:
    """Read and inspect images again, and draw their anomaly maps over them.

    Raises:
        PadimEdgeError: An image cannot be read any more.
    """
    cases = []
    for each in chosen:
        reason, scored = ("", each) if isinstance(each, Scored) else each
        item = scored.item
        image = item.decoded(detector.metadata.preprocessing.levels).image
        mask = None if item.mask is None or scored.defect is None else item.mask()
        overlay = detector.inspect(image).overlay()
        cases.append(Case(item.name, item.kind, scored.score, image, overlay, mask, reason))
    return tuple(cases)
