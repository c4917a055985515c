"""The report of an evaluation: one HTML file with everything in it, which opens anywhere without a network."""

from __future__ import annotations

from padim_edge.evaluation.report.contents import Case, ClassReport, Curve, KindRow
from padim_edge.evaluation.report.page import TITLE, headline, write_report

__all__ = ["TITLE", "Case", "ClassReport", "Curve", "KindRow", "headline", "write_report"]
