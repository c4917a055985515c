"""Inspections as text: a line for each image, a table, and one sentence about all of them."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from statistics import median
from typing import TextIO, TypeVar

from padim_edge_artifact import PadimEdgeError
from padim_edge_runtime.inspection import ANOMALOUS, GOOD, NOT_COMPARABLE, Inspection, Unreadable
from padim_edge_runtime.profile import Profile
from padim_edge_runtime.terminal_text import visible

__all__ = ["COLUMNS", "FAILING", "Table", "Tally", "cell", "failing", "line", "remarks"]

COLUMNS = (
    "path",
    "verdict",
    "score",
    "p_value",
    "threshold",
    "anomalous",
    "regions",
    "shift",
    "warnings",
    "width",
    "height",
    "milliseconds",
    "error",
)
"""Columns of the table. `regions` is the number of regions, `shift` is x and y, and blanks separate `warnings`."""

FAILING = {NOT_COMPARABLE: 4, ANOMALOUS: 3}
"""Exit code for each verdict that a program may be told to fail on, the gravest first. 1 is an unreadable image or an
error, 2 a wrong usage."""

T = TypeVar("T")

_WIDTH = max(map(len, (GOOD, ANOMALOUS, NOT_COMPARABLE)))

_WARNINGS = {
    "unlike": "unlike the good images nearly everywhere; check the product, the view and the lens",
    "shift": "moved by {x}, {y} pixels (right, down) against the good images; check the camera and the part's place",
    "turned": "turned against the good images, or lit from another side; check the camera and the lamp",
    "exposure": "brighter, darker or flatter than any good image; check the light",
}


_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters of a text that a spreadsheet takes for a formula."""


def cell(value: T) -> T | str:
    """Return what a table may hold: texts that a spreadsheet would compute get an apostrophe in front.

    Args:
        value: A text or anything else. Numbers stay numbers.
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def line(inspection: Inspection) -> str:
    """Say the verdict, the score and the p-value of one image in one line."""
    verdict = f"{inspection.verdict if inspection.verdict == GOOD else inspection.verdict.upper():<{_WIDTH}}"
    p_value = f"{inspection.p_value:.3f}" if inspection.p_value >= 0.001 else "<.001"
    return f"{verdict}  score {inspection.score:8.2f}  p {p_value}  {visible(str(inspection.path))}"


def remarks(inspection: Inspection) -> tuple[str, ...]:
    """Say in sentences what was changed in an image, and why it may not be comparable with the good ones."""
    x, y = inspection.shift
    told = (*inspection.notes, *(_WARNINGS[warning].format(x=x, y=y) for warning in inspection.warnings))
    return tuple(f"{inspection.path}: {sentence}" for sentence in told)


def failing(verdicts: Iterable[str]) -> frozenset[str]:
    """Read the verdicts that a program shall fail on.

    Args:
        verdicts: Words of `FAILING`, each text with one or several between commas; a hyphen may stand for the blank.

    Raises:
        PadimEdgeError: A word is none of them.
    """
    words = [word.strip().replace("-", " ") for text in verdicts for word in text.split(",")]
    for word in words:
        if word not in FAILING:
            raise PadimEdgeError(f"--fail-on has {word!r}, expected anomalous, not-comparable, or both with a comma")
    return frozenset(words)


class Table:
    """A table of inspections in CSV, written row by row."""

    def __init__(self, file: TextIO) -> None:
        self._writer = csv.DictWriter(file, COLUMNS)
        self._writer.writeheader()

    def add(self, result: Inspection | Unreadable) -> None:
        """Write one row."""
        row = result.to_json()
        if isinstance(result, Inspection):
            row["regions"] = len(result.regions)
            row["shift"], row["warnings"] = "{} {}".format(*result.shift), " ".join(result.warnings)
        # A shift is two numbers.
        row = {column: row.get(column, "") for column in COLUMNS}
        self._writer.writerow({column: each if column == "shift" else cell(each) for column, each in row.items()})


class Tally:
    """Counts over many inspections; holds no image and no map."""

    def __init__(self) -> None:
        self.images = 0
        self.unreadable = 0
        self.lost = 0  # maps that could not be drawn or written
        self._verdicts: Counter[str] = Counter()
        self._threshold: float | None = None
        self._milliseconds: list[float] = []

    def add(self, result: Inspection | Unreadable) -> None:
        """Count one image."""
        self.images += 1
        if isinstance(result, Unreadable):
            self.unreadable += 1
            return
        self._verdicts[result.verdict] += 1
        self._threshold = result.threshold
        self._milliseconds.append(result.milliseconds)

    def exit_code(self, fail_on: frozenset[str]) -> int:
        """Return the exit code: 1 where an image was unreadable or a map was lost, or that of the gravest verdict.

        Args:
            fail_on: Verdicts that count, keys of `FAILING`.
        """
        if self.unreadable or self.lost:
            return 1
        return next((code for verdict, code in FAILING.items() if verdict in fail_on and self._verdicts[verdict]), 0)

    def sentence(self, times: Profile) -> str:
        """Sum up the run in one sentence.

        Args:
            times: Times of the same run.
        """
        count = self._verdicts
        above = "" if self._threshold is None else f" above {self._threshold:.2f}"
        in_model = f", {median(self._milliseconds):.1f} ms each in the model" if self._milliseconds else ""
        unread = f"{self.unreadable} unreadable" + (f", {self.lost} maps not written" if self.lost else "")
        return (
            f"{self.images} images: {count[ANOMALOUS]} anomalous{above}, {count[NOT_COMPARABLE]} not comparable, "
            f"{count[GOOD]} good, {unread}; on {times.device}, {times.rate:.1f} images/s{in_model}"
        )
