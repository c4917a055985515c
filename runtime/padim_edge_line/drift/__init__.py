"""Drift: lasting changes of light, camera and parts, found in the numbers of good images.

The first good images of a model are its baseline. From then on, charts of cumulative sums tell a lasting change of
brightness, contrast, position, scores and regional distances from noise.
"""

from __future__ import annotations

from padim_edge_line.drift.monitor import Change, Monitor
from padim_edge_line.drift.observation import Observation, Observer
from padim_edge_line.drift.watching import Drift

__all__ = ["Change", "Drift", "Monitor", "Observation", "Observer"]
