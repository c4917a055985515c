"""Advice after an evaluation: what to try next against misses and false alarms, the most promising first.

The rules were chosen on bottles, screws, cracks in commutators and biscuits; docs/thresholds.md has the figures.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from padim_edge.evaluation.metrics import ImageMetrics, Rate
from padim_edge.evaluation.operating import BEST_F1, OperatingPoint, Origin
from padim_edge_artifact import Metadata
from padim_edge_learn.set_threshold import number
from padim_edge_learn.suspects import suspects

__all__ = ["Advice", "Found", "advice"]

_MANY = 0.02
"""Miss rate that counts as high when the lower end of its 95 % interval is above it."""
_SAVED = 1 / 3
"""Share of the misses that another threshold has to save to be named."""
_CLEAR = 0.95
"""Image AUROC from which the scores tell good from anomalous well enough, so that the threshold decides."""
_FEW = 100
"""Number of good images below which more of them are named."""
_SMALL = 10
"""Side of a defect in pixels of the model's frame below which a larger frame is named."""


@dataclass(frozen=True)
class Advice:
    """One thing to try."""

    sentence: str
    """Finding and remedy, in plain sentences."""
    command: str = ""
    """Command that does it, with capitals for what only the user knows; empty where there is none."""


@dataclass(frozen=True)
class Found:
    """Figures of an evaluation that the advice rests on."""

    metadata: Metadata
    """Metadata of the model."""
    image: ImageMetrics
    """Metrics over images."""
    points: tuple[OperatingPoint, ...]
    """Thresholds to choose from, the stored one first."""
    missed: tuple[float, ...]
    """Share of the image that each missed defect covers, 0 to 1, where its mask is known."""
    origin: Origin
    """Names for the commands."""


def advice(found: Found) -> tuple[Advice, ...]:
    """Say what to try next, in order; nothing where misses and false alarms are few."""
    miss, false_alarm = found.image.miss, found.image.false_alarm
    steps: list[Advice] = []
    if miss is not None and miss.low > _MANY:
        steps += _against_misses(found, miss)
    if false_alarm is not None and false_alarm.low > found.metadata.false_alarm_rate:
        steps += _against_false_alarms(found, false_alarm)
    return tuple(steps)


def _against_misses(found: Found, miss: Rate) -> Iterator[Advice]:
    auroc = found.image.auroc
    yield from _another_threshold(found, miss)
    yield from _good_images(found)
    if auroc is not None and auroc < _CLEAR:  # where the scores separate well, the method is not the fault
        yield from _another_method(found)


def _another_threshold(found: Found, miss: Rate) -> Iterator[Advice]:
    """Name the threshold of the table with the fewest errors, if it saves enough misses for its false alarms."""
    stored, *others = found.points
    rates = [each for each in others if each.name != BEST_F1]
    point = _best(rates, stored) or _best(others, stored)
    if point is None or point.miss is None or point.false_alarm is None or stored.false_alarm is None:
        return
    asked = "The threshold with the best F1" if point.asked is None else f"A false-alarm rate of {point.name}"
    auroc = found.image.auroc
    start = ""
    if auroc is not None and auroc >= _CLEAR:
        start = f"The scores tell good from anomalous well (image AUROC {auroc:.3f}), so the threshold is too high. "
    yield Advice(
        f"{start}{asked} misses {_of(point.miss)} instead of {miss.count}, with {_of(point.false_alarm)} false alarms "
        f"instead of {stored.false_alarm.count}.",
        point.command,
    )


def _best(points: Sequence[OperatingPoint], stored: OperatingPoint) -> OperatingPoint | None:
    """Find the point with the smallest sum of both error rates; `None` where none saves enough misses."""

    def errors(point: OperatingPoint) -> float:
        assert point.miss is not None
        assert point.false_alarm is not None
        return point.miss.value + point.false_alarm.value

    if stored.miss is None or stored.false_alarm is None or not points:
        return None
    best = min(points, key=errors)
    assert best.miss is not None
    saves = stored.miss.count - best.miss.count >= _SAVED * stored.miss.count
    return best if saves and errors(best) < errors(stored) else None


def _export(found: Found) -> str:
    """Write the beginning of the command that makes the model again."""
    data = shlex.quote(found.origin.data[0]) if found.origin.data else "DATA"
    return f"padim-edge export --class {shlex.quote(found.metadata.class_name)} --data {data}"


def _good_images(found: Found) -> Iterator[Advice]:
    metadata, scores = found.metadata, found.metadata.calibration.scores
    if odd := [scores[index] for index in suspects(scores).flagged]:
        what = "1 of the good images is" if len(odd) == 1 else f"{len(odd)} of the good images are"
        span = number(odd[0]) if len(odd) == 1 else f"{number(min(odd))} to {number(max(odd))}"
        yield Advice(
            f"{what} unlike the others: the score is {span}, the median {number(float(np.median(scores)))}. Such "
            "scores raise the threshold. Look at these images, and leave out what is not good.",
            f"{_export(found)} --suspects FOLDER",
        )
    good = metadata.images if metadata.independent is None else metadata.independent
    if good < _FEW:
        yield Advice(
            f"The model was fitted on {good} {'' if metadata.independent is None else 'independent '}good images. Take "
            f"{_FEW} or more: good parts are known better then, and the threshold can be lower.",
            _export(found),
        )


def _another_method(found: Found) -> Iterator[Advice]:
    metadata, export = found.metadata, _export(found)
    height, width = metadata.size
    side = float(np.sqrt(np.median(found.missed) * height * width)) if found.missed else None
    if side is not None and side < _SMALL:
        yield Advice(
            f"The missed defects are small: about {side:.0f} pixels wide among the {width} x {height} that the model "
            "sees. A larger frame shows more of them, and takes more memory and time.",
            f"{export} --size {2 * height}x{2 * width}" if height != width else f"{export} --size {2 * height}",
        )
    if metadata.combination is not None:  # Gaussians and memory were weighed against each other
        return
    start = "The scores of good and anomalous images overlap, so no threshold tells them apart. "
    if metadata.method.bank is not None:
        yield Advice(
            f"{start}If the parts always lie alike, the preset accurate, which knows every place, may separate them "
            "better.",
            f"{export} --preset accurate",
        )
        return
    if metadata.method.preset != "accurate":
        yield Advice(
            f"{start}The preset accurate may separate them better.",
            f"{export} --preset accurate",
        )
    yield Advice(
        f"{start}If the parts lie at any angle or place, the preset free, which compares places with each other, may "
        "separate them better.",
        f"{export} --preset free",
    )


def _against_false_alarms(found: Found, false_alarm: Rate) -> Iterator[Advice]:
    rate = f"{100 * found.metadata.false_alarm_rate:.2g} %"
    yield Advice(
        f"{_of(false_alarm)} good images raise an alarm, more than the {rate} that the threshold stands for. These "
        "images differ from those that it was set with. If lamp, camera or the place of the part have changed, set "
        "them back; infer warns of a shift or of another exposure.",
        f"padim-edge infer {found.origin.called} GOOD_FOLDER",
    )
    yield Advice(
        "If the images are as the line now takes them, set the threshold anew with fresh good images.",
        f"padim-edge recalibrate {found.origin.called} GOOD_FOLDER",
    )


def _of(rate: Rate) -> str:
    return f"{rate.count} of {rate.total}"
