"""The evaluation report: one HTML file with everything in it, which opens anywhere, offline."""

from __future__ import annotations

from padim_edge.evaluation.report.page import Case, ClassReport, Curve, KindRow, write_report

__all__ = ["Case", "ClassReport", "Curve", "KindRow", "write_report"]
