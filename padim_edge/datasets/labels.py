"""Names of good and of defective images, in one place for folders, tables and layouts."""

from __future__ import annotations

import re

__all__ = ["GOOD_NAMES", "is_defective", "is_good", "is_of_time_or_place"]

GOOD_NAMES = "good, ok, normal, pass, nominal or defect-free"
"""Usual names of good images, for messages. Capitals do not matter."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_GOOD = _words(
    "good goods ok okay normal normals pass passed nominal healthy intact defectfree faultfree nodefect "
    "nodefects nondefective notdefective noanomaly io"
)
_DEFECTIVE = _words(
    "ng nok notok notgood nogood nio ko bad abnormal anomaly anomalies anomalous defect defects defective "
    "defectives fail failed fault faults faulty reject rejects rejected scrap broken damaged outlier outliers"
)
_THINGS = r"(?:images?|imgs?|pictures?|pics?|photos?|parts?|samples?|products?|pieces?)"
_TIMES = _words(
    "monday tuesday wednesday thursday friday saturday sunday mon tue tues wed thu thurs fri sat sun january "
    "february march april may june july august september october november december jan feb mar apr jun jul aug "
    "sep sept oct nov dec today yesterday morning noon afternoon evening night day early late"
)
"""Words that say when images were taken."""
_COUNTED = _words(
    "day week month shift batch lot run session series set line station cam camera view box tray pallet "
    "recording sequence seq clip folder"
)
"""Words that say so with a number or letter behind them."""


def is_good(name: str) -> bool:
    """Tell whether a label, or the name of a folder, means good images: `good`, `OK`, `Normal`, `defect-free`, `ok_2`.

    A mere number means nothing here; see `tables` for the label 0.
    """
    return _word(name) in _GOOD


def is_defective(name: str) -> bool:
    """Tell whether a label, or the name of a folder, means defective images without naming the defect: `NG`, `bad`."""
    return _word(name) in _DEFECTIVE


def is_of_time_or_place(name: str) -> bool:
    """Tell whether the name of a folder says when or where images were taken: `monday`, `2026-11-28`, `camera 2`."""
    words = re.findall(r"[^\W\d_]+|\d+", name.casefold())
    marked = any(word.isdigit() or len(word) == 1 for word in words)
    known = [word in _TIMES or (word in _COUNTED and marked) or word.isdigit() for word in words]
    return any(known) and all(each or len(word) == 1 for each, word in zip(known, words, strict=True))


def _word(name: str) -> str:
    """Bring a name to lower case, without separators, and without a number or a word for images at its end."""
    text = re.sub(r"[^\w]|_", " ", name.casefold()).strip()
    text = re.sub(rf"(?<=\w)[ ]*\d+$|(?<=\w)[ ]+{_THINGS}$", "", text)
    return text.replace(" ", "")
