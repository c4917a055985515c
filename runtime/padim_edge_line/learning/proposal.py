"""A proposal: an updated model beside the present one, and what is known about both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["REPORT", "TEXT", "HeldOut", "Proposal", "Side", "proposals_of"]

REPORT, TEXT = "report.json", "report.txt"
"""Names of the report in a proposal's folder."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two models, by what it says about kept images."""

    revision: int
    """Revision of the model."""
    digest: str
    """`digests.model` of the model."""
    images: int
    """Number of images that it was fitted on."""
    threshold: float
    """Score above which an image is anomalous."""
    defects_passed: int
    """Number of confirmed alarms that it calls good."""
    missed_passed: int
    """Number of missed defects that it calls good."""
    verdicts: Mapping[str, int]
    """Number of kept images by verdict."""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Images that are good by a person's word, each judged by a model that has not learned from it or a repeat."""

    folds: int
    """Number of models; each learned from the images of all other folds. 0 where there are too few images."""
    false_alarms: int = 0
    """Number of marked false alarms that could be read."""
    false_alarms_before: int = 0
    """Number of these that the present model does not call good."""
    false_alarms_after: int = 0
    """Number of these that a model which has not learned from them does not call good."""
    good: int = 0
    """Number of confirmed good images that could be read."""
    good_before: int = 0
    """Number of these that the present model does not call good."""
    good_after: int = 0
    """Number of these that a model which has not learned from them does not call good."""

    @property
    def fall(self) -> float | None:
        """Share of the false alarms that is gone; `None` where there were none, or too few images."""
        if not self.folds or not self.false_alarms_before:
            return None
        return 1 - self.false_alarms_after / self.false_alarms_before


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """An updated model and what is known about it."""

    product: str
    """Name of the product."""
    folder: Path
    """Folder with the model, its statistics and the report."""
    model: str
    """Name of the model file in the folder."""
    before: Side
    """The present model."""
    after: Side
    """The proposed model."""
    held_out: HeldOut
    """Outcome on images that were not learned from."""
    learned_marked: int
    """Number of images learned from that are good by a person's word."""
    learned_samples: int
    """Number of images learned from that nobody has marked."""
    defects: int
    """Number of confirmed alarms that could be read."""
    missed: int
    """Number of missed defects that could be read."""
    scores: tuple[tuple[int, str, float, float], ...]
    """Number of the row, mark, and score by the present and by the proposed model, for each marked image."""
    set_aside: tuple[tuple[int, str], ...]
    """Number of the row and reason, for each image that was not learned from."""
    warnings: tuple[str, ...]
    """Sentences that a person should read before promoting."""

    @property
    def path(self) -> Path:
        """The model file."""
        return self.folder / self.model

    def to_json(self) -> dict[str, Any]:
        """Return the object that `propose --json` prints and `report.json` holds."""
        found = asdict(self)
        found["folder"] = self.folder.name
        found["held_out"]["fall"] = self.held_out.fall
        found["scores"] = [
            {"seq": seq, "mark": mark, "before": before, "after": after} for seq, mark, before, after in self.scores
        ]
        found["set_aside"] = [{"seq": seq, "reason": reason} for seq, reason in self.set_aside]
        return found

    def table(self) -> str:
        """Write old against new as a short table, with the warnings."""
        held, before, after = self.held_out, self.before, self.after
        rows: list[tuple[str, str, str]] = [
            ("revision", str(before.revision), str(after.revision)),
            ("good images it learned from", str(before.images), str(after.images)),
            ("threshold", f"{before.threshold:.2f}", f"{after.threshold:.2f}"),
        ]
        if held.folds:
            what = f"false alarms, of {held.false_alarms} marked and held out"
            rows.append((what, str(held.false_alarms_before), str(held.false_alarms_after)))
            if held.good:
                what = f"alarms, of {held.good} confirmed good and held out"
                rows.append((what, str(held.good_before), str(held.good_after)))
        if self.defects:
            what = f"passed as good, of {self.defects} confirmed alarms"
            rows.append((what, str(before.defects_passed), str(after.defects_passed)))
        if self.missed:
            what = f"passed as good, of {self.missed} missed defects"
            rows.append((what, str(before.missed_passed), str(after.missed_passed)))
        for verdict in sorted({*before.verdicts, *after.verdicts}):
            old, new = (str(side.verdicts.get(verdict, 0)) for side in (before, after))
            rows.append((f"kept images called {verdict}", old, new))
        width = max(len(what) for what, _, _ in rows)
        lines = [
            f"{self.product}: learned from {self.learned_marked} marked and {self.learned_samples} unmarked images"
        ]
        lines += ["", f"{'':{width}}  {'now':>9}  {'proposed':>9}"]
        lines += [f"{what:{width}}  {old:>9}  {new:>9}" for what, old, new in rows]
        lines += ["", *(f"note: {warning}" for warning in self.warnings)] if self.warnings else []
        return "\n".join(lines)


def proposals_of(folder: Path, product: str) -> list[tuple[Path, dict[str, Any]]]:
    """Return the folders of a product's proposals with their reports, the oldest first.

    Args:
        folder: The line's folder.
        product: Name of the product.
    """
    found = []
    for path in sorted((folder / "proposals").glob(f"*/{REPORT}")):
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
            if report["product"] == product and isinstance(report["model"], str):
                found.append((path.stat().st_mtime_ns, path.parent, report))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return [(path, report) for _, path, report in sorted(found, key=lambda each: each[0])]
