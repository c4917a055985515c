"""Changes in plain words: what has changed, since when, and what to look at."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from padim_edge_line.drift.channels import CHANNELS, LIGHT, PLACE, REGION, SPREAD
from padim_edge_line.drift.observation import SIDE
from padim_edge_line.row import utc

__all__ = ["sentence"]

_BRIGHTNESS, _CONTRAST, _X, _Y, _LEVEL, _SCORE = range(SPREAD)
_REGIONS = SPREAD + 1
_ROWS = ("top", "upper", "lower", "bottom")
_COLUMNS = ("far left", "left", "right", "far right")

Float64 = npt.NDArray[np.float64]


def sentence(kind: str, sums: Float64, before: Float64, present: Float64, grid: tuple[int, int], since: int) -> str:
    """Say what has changed.

    Args:
        kind: One of `channels.KINDS`.
        sums: `(2, C)` sums of the charts.
        before: `(C,)` typical values.
        present: `(C,)` present values.
        grid: (h, w) of the patches.
        since: Time of the first image that shows it.
    """
    when = f"since about {utc(since)}"
    if kind == LIGHT:
        return f"{_light(sums, before, present)} {when}; check lamp, lens and exposure"
    if kind == PLACE:
        return f"the camera or the part's place has moved by about {_moved(before, present, grid)} {when}; check both"
    if kind == REGION:
        return f"{_region(sums, before, present)} {when}; look at this place on the part and in front of it"
    return f"{_scores(sums, before, present)} {when}; look at parts, lens and focus, or let the model learn from marks"


def _light(sums: Float64, before: Float64, present: Float64) -> str:
    bright, contrast = (_share(present[i], before[i]) for i in (_BRIGHTNESS, _CONTRAST))
    levels = f"mean grey level {present[_BRIGHTNESS]:.1f}, {before[_BRIGHTNESS]:.1f} before"
    flat = f"contrast {present[_CONTRAST]:.1f}, {before[_CONTRAST]:.1f} before"
    highest = sums.max(axis=0)
    # A darker image has less contrast in the same measure. More or less than that is another change.
    harder = highest[_CONTRAST] > highest[_BRIGHTNESS] / 3 and abs(contrast - bright) > abs(bright) / 2
    if not harder:
        return f"the light has become {_darker(bright)} by {100 * abs(bright):.1f} % ({levels})"
    word = "flatter" if contrast < bright else "harder"
    if highest[_BRIGHTNESS] > highest[_CONTRAST] / 3:
        return f"the light has become {_darker(bright)} and {word} ({levels}; {flat})"
    return f"the light has become {word} ({flat})"


def _darker(share: float) -> str:
    return "darker" if share < 0 else "brighter"


def _moved(before: Float64, present: Float64, grid: tuple[int, int]) -> str:
    x, y = present[_X] - before[_X], present[_Y] - before[_Y]
    across = f"{100 * abs(x) / grid[1]:.1f} % of the width to the {'right' if x > 0 else 'left'}"
    down = f"{100 * abs(y) / grid[0]:.1f} % of the height {'down' if y > 0 else 'up'}"
    least = 0.3 * max(abs(x), abs(y))
    return " and ".join(words for by, words in ((x, across), (y, down)) if abs(by) >= max(least, 1e-9)) or "a patch"


def _region(sums: Float64, before: Float64, present: Float64) -> str:
    region = int(sums.max(axis=0)[_REGIONS:].argmax())
    channel = _REGIONS + region
    row, column = divmod(region, SIDE)
    change = math.expm1(present[channel] - before[channel])
    return (
        f"one region has changed, {_ROWS[row]} row, {_COLUMNS[column]} (its distances have "
        f"{_risen(change)} by {100 * abs(change):.0f} % against the others)"
    )


def _scores(sums: Float64, before: Float64, present: Float64) -> str:
    highest = sums.max(axis=0)
    if highest[SPREAD] > max(highest[_LEVEL], highest[_SCORE]):
        wider = "more" if sums[0, SPREAD] > sums[1, SPREAD] else "less"
        return f"the scores of good images spread {wider} than before"
    channel = _LEVEL if highest[_LEVEL] > highest[_SCORE] else _SCORE
    change = math.expm1(present[channel] - before[channel])
    what = "scores" if channel == _SCORE else "distances"
    return f"the {what} of good images as a whole have {_risen(change)} by {100 * abs(change):.0f} %"


def _risen(change: float) -> str:
    return "risen" if change > 0 else "fallen"


def _share(present: float, before: float) -> float:
    return float(present / max(before, 1e-9) - 1)


assert len(CHANNELS) == _REGIONS + SIDE * SIDE
