"""Findings about a machine, and how bad they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["FAILED", "FINE", "NOTE", "Finding", "Report", "guarded"]

FINE, NOTE, FAILED = "fine", "note", "failed"
"""Verdicts: in order; worth knowing; to be cured."""

_MARKS = {FINE: "ok  ", NOTE: "note", FAILED: "CURE"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    """Name of the thing."""
    value: str
    """State of the thing, in words."""
    verdict: str = FINE
    """`FINE`, `NOTE` or `FAILED`."""
    cure: str | None = None
    """Remedy, in words or as a command line; `None` where there is nothing to do."""


@dataclass(frozen=True)
class Report:
    """All findings, and their sum."""

    findings: tuple[Finding, ...]
    """Findings in the order in which they are shown."""
    devices: tuple[str, ...]
    """Devices that a model of one node was run on, best first."""

    @property
    def healthy(self) -> bool:
        """Whether models run here and nothing is to be cured."""
        return bool(self.devices) and all(each.verdict != FAILED for each in self.findings)

    @property
    def verdict(self) -> str:
        """Sum of the findings in one sentence."""
        failed = [each.name for each in self.findings if each.verdict == FAILED]
        where = f"models run on {', '.join(self.devices)}" if self.devices else "no model runs here"
        return f"{where}; to be cured: {', '.join(failed)}" if failed else where

    def lines(self) -> list[str]:
        """Write the report for people, line by line."""
        width = max(len(each.name) for each in self.findings)
        lines = []
        for each in self.findings:
            lines.append(f"{_MARKS[each.verdict]}  {each.name:<{width}}  {each.value}")
            if each.cure:
                lines.append(f"{'':<{width + 8}}-> {each.cure}")
        return [*lines, self.verdict]

    def to_json(self) -> dict[str, Any]:
        """Return the object that `doctor --json` prints."""
        return {
            "healthy": self.healthy,
            "verdict": self.verdict,
            "devices": list(self.devices),
            "findings": [asdict(each) for each in self.findings],
        }


def guarded(name: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Collect the findings of `look`; a failure of it is a finding, too.

    Args:
        name: Name of the finding for a failure.
        look: Gives findings.
    """
    found: list[Finding] = []
    try:
        found.extend(look())  # keeps what came before the failure
    except Exception as error:  # noqa: BLE001  whatever a broken machine raises
        reason = f"{type(error).__name__}: {error}"[:200]
        found.append(Finding(name, f"could not be looked at ({reason})", NOTE))
    return found
