"""Numbers as the report writes them."""

from __future__ import annotations

__all__ = ["percent", "score", "span"]


def score(value: float) -> str:
    """Write a score as on the overlays; small scores keep their digits."""
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"


def percent(share: float) -> str:
    """Write a share as a percentage, with one decimal where it matters; never rounded to 0 or 100."""
    value = 100 * share
    if 0 < value < 0.05:
        return "<0.1 %"
    if 99.95 <= value < 100:
        return ">99.9 %"
    return f"{value:.1f}".removesuffix(".0") + " %"


def span(interval: tuple[float, float]) -> str:
    """Write an interval of shares as percentages, with the sign behind the second one only."""
    low, high = map(percent, interval)
    return f"{low.removesuffix(' %')}\N{EN DASH}{high}"
