"""What was found, and how bad it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["FAILED", "FINE", "NOTE", "Finding", "Report", "guarded"]

FINE, NOTE, FAILED = "fine", "note", "failed"
"""As it should be; worth knowing; to be cured."""


@dataclass(frozen=True)
class Finding:
    """One line."""

    name: str
    value: str
    """What was found."""
    verdict: str = FINE
    """`FINE`, `NOTE` or `FAILED`."""
    cure: str | None = None
    """What to do, where there is something."""


@dataclass(frozen=True)
class Report:
    """All lines, and what they amount to."""

    findings: tuple[Finding, ...]
    devices: tuple[str, ...]
    """On which models run here, tried out, best first."""

    @property
    def healthy(self) -> bool:
        """Whether models run here, and nothing is to be cured."""
        return bool(self.devices) and all(each.verdict != FAILED for each in self.findings)

    @property
    def verdict(self) -> str:
        """One sentence without its full stop."""
        failed = [each.name for each in self.findings if each.verdict == FAILED]
        where = f"models run on {', '.join(self.devices)}" if self.devices else "no model runs here"
        return f"{where}; to be cured: {', '.join(failed)}" if failed else where

    def to_json(self) -> dict[str, Any]:
        """The object that `doctor --json` prints."""
        return {
            "healthy": self.healthy,
            "verdict": self.verdict,
            "devices": list(self.devices),
            "findings": [asdict(each) for each in self.findings],
        }


def guarded(name: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """What `look` finds; where it fails, that is a finding, too."""
    found: list[Finding] = []
    try:
        found.extend(look())  # keeps what came before the failure
    except Exception as error:  # noqa: BLE001  a doctor who dies of the patient's illness helps nobody
        reason = f"{type(error).__name__}: {error}"[:200]
        found.append(Finding(name, f"could not be looked at ({reason})", NOTE))
    return found
