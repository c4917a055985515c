"""Outcome of a rehearsal: what a model sees of defects that were drawn on good images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_edge.evaluation.advice import Advice
from padim_edge.evaluation.metrics import Rate, rate
from padim_edge.evaluation.operating import OperatingPoint, Origin, operating_points
from padim_edge.rehearsal.chart import Chart, chart
from padim_edge.rehearsal.foretold import Foretold, foretold
from padim_edge.rehearsal.trials import Crop, Good, Trial, plain
from padim_edge.rehearsal.verdict import Findings, level, remedies, verdict, visibility_line
from padim_edge.rehearsal.weak import WeakMap, weak_map
from padim_edge_artifact import Metadata

__all__ = ["HELD_OUT", "UNREAD", "Rehearsal", "chosen_examples"]

HELD_OUT = "good images that the model was not fitted on"
"""Origin of the good images, in words, where they are new to the model."""

UNREAD = "left out: "
"""Beginning of a remark on an image that could not be read."""


@dataclass(frozen=True, eq=False, repr=False)
class Rehearsal:
    """Outcome of a rehearsal: how visible drawn defects are to a model.

    `print` shows the verdict and tables. `to_json` gives all figures, `report` writes a page.
    """

    metadata: Metadata
    """Metadata of the model."""
    good: tuple[Good, ...]
    """Good images without defects."""
    trials: tuple[Trial, ...]
    """Every drawn defect, those on images that raise an alarm without it included."""
    seed: int
    """Random seed of the defects."""
    how: str = HELD_OUT
    """Origin of the good images, in words."""
    real: tuple[Trial, ...] = ()
    """Real defects that were given with masks."""
    mean: npt.NDArray[np.float64] | None = None
    """`(H, W, 3)` mean of the good images, 0 to 255; `None` where the report has no map of weak places."""
    examples: tuple[Crop, ...] = ()
    """Some drawn defects with their surroundings."""
    notes: tuple[str, ...] = ()
    """Remarks on images that were set aside or left out, one sentence each without a full stop; mostly empty."""
    scale: float = 1.0
    """Factor by which scores of models that were fitted on fewer images were divided."""
    origin: Origin = field(default=Origin())
    """Names of model and images for commands."""

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Those of the remarks that name an image that could not be read."""
        return tuple(each for each in self.notes if each.startswith(UNREAD))

    @property
    def threshold(self) -> float:
        """Threshold of the model."""
        return self.metadata.threshold

    @cached_property
    def counted(self) -> tuple[Trial, ...]:
        """Drawn defects on images that raise no alarm without them. Only these tell whether the defect is seen."""
        return tuple(each for each in self.trials if each.before is None or not each.before > self.threshold)

    @cached_property
    def chart(self) -> Chart:
        """Visibility chart and curves at the model's threshold."""
        return chart(self.counted or self.trials, self.threshold, self.seed)

    @cached_property
    def weak(self) -> WeakMap:
        """Places where fewer defects are found than elsewhere."""
        return weak_map(self.counted or self.trials, self.threshold, self.chart.curves)

    @cached_property
    def false_alarms(self) -> Rate | None:
        """Share of the good images above the threshold."""
        return rate(np.array([each.score > self.threshold for each in self.good], np.bool_))

    @cached_property
    def points(self) -> tuple[OperatingPoint, ...]:
        """Thresholds to choose from, the stored one first. Their misses are those of plainly visible drawn defects."""
        visible = [each for each in self.counted if plain(each)]
        labels = np.array([False] * len(self.good) + [True] * len(visible))
        scores = np.array([each.score for each in self.good] + [each.score for each in visible], np.float64)
        return operating_points(self.metadata, labels, scores, None, self.origin)

    @cached_property
    def foretold(self) -> Foretold | None:
        """The chart against the real defects; `None` without them."""
        if not self.real:
            return None
        # Models of parts of the images raise other false alarms than the one that ships, which judged the real defects.
        alarms = self.false_alarms if self.how == HELD_OUT else None
        return foretold(self.real, self.counted or self.trials, self.threshold, alarms, seed=self.seed)

    @property
    def findings(self) -> Findings:
        """Figures that the words rest on."""
        return Findings(self.metadata, self.chart, self.weak, self.points, self.false_alarms, self.origin)

    @property
    def level(self) -> str:
        """Level of visibility: `blind`, `weak` or `sees`."""
        return level(self.chart)

    @property
    def verdict(self) -> tuple[str, ...]:
        """Verdict in sentences, the most important first."""
        return verdict(self.findings)

    @property
    def line(self) -> str:
        """Verdict in one sentence, for the end of an export."""
        return visibility_line(self.findings)

    @property
    def remedies(self) -> tuple[Advice, ...]:
        """Steps to try where the model sees little, the most promising first; mostly empty."""
        return remedies(self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return the object that `rehearse --json` prints."""
        from padim_edge.rehearsal.written import to_json

        return to_json(self)

    def report(self, path: str | os.PathLike[str]) -> None:
        """Write the report page: one HTML file that opens without a network.

        Raises:
            PadimEdgeError: The file cannot be written.
        """
        from padim_edge.evaluation.report.rehearsal import write_rehearsal

        write_rehearsal(Path(path), self)

    def __str__(self) -> str:
        from padim_edge.rehearsal.written import summary

        return summary(self)

    def __repr__(self) -> str:
        return f"<Rehearsal of {self.metadata.class_name}: {self.line}>"


def chosen_examples(crops: Sequence[Crop], threshold: float, found: Chart, most: int = 8) -> tuple[Crop, ...]:
    """Choose defects to show: the plainest that are missed, and the faintest that are found, half of each.

    No kind is shown three times among either.
    """

    def chance(each: Crop) -> float:
        return float(found.curve(each.trial.contrast, each.trial.extent))

    missed = sorted((each for each in crops if not each.trial.score > threshold), key=lambda each: -chance(each))
    seen = sorted((each for each in crops if each.trial.score > threshold), key=chance)
    return (*_varied(missed, most // 2), *_varied(seen, most // 2))


def _varied(ordered: Sequence[Crop], most: int) -> list[Crop]:
    chosen: list[Crop] = []
    for each in ordered:
        if len(chosen) < most and sum(other.trial.kind == each.trial.kind for other in chosen) < 2:
            chosen.append(each)
    return chosen
