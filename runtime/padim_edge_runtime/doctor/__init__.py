"""Examination of this machine: what it has, what is missing, and what to do about it. It never ends in an error."""

from __future__ import annotations

from padim_edge_runtime.doctor.findings import Finding, Report
from padim_edge_runtime.doctor.look import examine

__all__ = ["Finding", "Report", "examine"]
