"""What this machine has, what is missing, and what to do about it. Nothing that is looked at can bring it down."""

from __future__ import annotations

from padim_edge_runtime.doctor.findings import Finding, Report
from padim_edge_runtime.doctor.look import examine

__all__ = ["Finding", "Report", "examine"]
