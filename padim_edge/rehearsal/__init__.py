"""Rehearsal: how visible a defect must be for a model to find it, measured with defects drawn on good images."""

from __future__ import annotations

from padim_edge.rehearsal.chart import Chart, chart
from padim_edge.rehearsal.curve import Curve, Needed, curves
from padim_edge.rehearsal.folds import Fitted, rehearse_left_out
from padim_edge.rehearsal.foretold import Foretold, foretold
from padim_edge.rehearsal.outcome import COUNT, Plan, conclude
from padim_edge.rehearsal.rehearse import rehearse, rehearse_detector
from padim_edge.rehearsal.result import Rehearsal
from padim_edge.rehearsal.trials import Good, Judged, Score, Trial, judge, plain
from padim_edge.rehearsal.weak import WeakMap, weak_map

__all__ = [
    "COUNT",
    "Chart",
    "Curve",
    "Fitted",
    "Foretold",
    "Good",
    "Judged",
    "Needed",
    "Plan",
    "Rehearsal",
    "Score",
    "Trial",
    "WeakMap",
    "chart",
    "conclude",
    "curves",
    "foretold",
    "judge",
    "plain",
    "rehearse",
    "rehearse_detector",
    "rehearse_left_out",
    "weak_map",
]
