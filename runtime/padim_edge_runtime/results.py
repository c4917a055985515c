"""Inspections as text: a line for each image, a table, and one sentence about all of them."""

from __future__ import annotations

import csv
from statistics import median
from typing import TextIO

from padim_edge_runtime.inspection import Inspection, Unreadable
from padim_edge_runtime.profile import Profile

__all__ = ["COLUMNS", "Table", "Tally", "line", "remarks"]

COLUMNS = ("path", "score", "p_value", "threshold", "anomalous", "regions", "width", "height", "milliseconds", "error")
"""Columns of the table; `regions` is the number of regions."""

_WARNINGS = {
    "shift": "moved against the good images; check the camera and the part's place",
    "exposure": "brighter, darker or flatter than any good image; check the light",
}


def line(inspection: Inspection) -> str:
    """Say the verdict, the score and the p-value of one image in one line."""
    verdict = "ANOMALOUS" if inspection.anomalous else "good     "
    p_value = f"{inspection.p_value:.3f}" if inspection.p_value >= 0.001 else "<.001"
    return f"{verdict}  score {inspection.score:8.2f}  p {p_value}  {inspection.path}"


def remarks(inspection: Inspection) -> tuple[str, ...]:
    """Say in sentences what was changed in an image, and why it may not be comparable with the good ones."""
    told = (*inspection.notes, *(_WARNINGS[warning] for warning in inspection.warnings))
    return tuple(f"{inspection.path}: {sentence}" for sentence in told)


class Table:
    """A table of inspections in CSV, written row by row."""

    def __init__(self, file: TextIO) -> None:
        self._writer = csv.DictWriter(file, COLUMNS)
        self._writer.writeheader()

    def add(self, result: Inspection | Unreadable) -> None:
        """Write one row."""
        row = result.to_json()
        row["regions"] = len(row["regions"]) if "regions" in row else ""
        self._writer.writerow({column: row.get(column, "") for column in COLUMNS})


class Tally:
    """Counts over many inspections; holds no image and no map."""

    def __init__(self) -> None:
        self.images = 0
        self.unreadable = 0
        self._anomalous = 0
        self._threshold: float | None = None
        self._milliseconds: list[float] = []

    def add(self, result: Inspection | Unreadable) -> None:
        """Count one image."""
        self.images += 1
        if isinstance(result, Unreadable):
            self.unreadable += 1
            return
        self._anomalous += result.anomalous
        self._threshold = result.threshold
        self._milliseconds.append(result.milliseconds)

    def sentence(self, times: Profile) -> str:
        """Sum up the run in one sentence.

        Args:
            times: Times of the same run.
        """
        good = self.images - self.unreadable - self._anomalous
        above = "" if self._threshold is None else f" above {self._threshold:.2f}"
        in_model = f", {median(self._milliseconds):.1f} ms each in the model" if self._milliseconds else ""
        return (
            f"{self.images} images: {self._anomalous} anomalous{above}, {good} good, {self.unreadable} unreadable; on "
            f"{times.device}, {times.rate:.1f} images/s{in_model}"
        )
