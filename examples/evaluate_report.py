"""Evaluate a model and write a report: python examples/evaluate_report.py MODEL [FOLDER [DATA]]."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import padim_edge


def main() -> None:
    """Judge the labelled images of DATA, or of the built-in sample, and write FOLDER/report.html."""
    model, *rest = sys.argv[1:]
    folder = Path(rest[0] if rest else tempfile.mkdtemp(prefix="padim-edge-"))
    folder.mkdir(parents=True, exist_ok=True)

    evaluation = padim_edge.evaluate(model, rest[1] if len(rest) > 1 else None)
    evaluation.report(folder / "report.html")

    print(evaluation)
    missed = evaluation.metrics["miss_rate"]
    if missed is not None and missed > 0.05:
        print(f"{100 * missed:.0f} % of the defects are missed; docs/thresholds.md says what to do")
    print(f"the report is in {folder / 'report.html'}")


if __name__ == "__main__":
    main()
