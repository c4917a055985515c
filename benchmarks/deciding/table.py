"""The table of targets: every row by its name."""

from __future__ import annotations

from benchmarks.deciding import learning, others, repeated, thresholds
from benchmarks.deciding.materials import Row

__all__ = ["TABLE"]

TABLE = {
    "repeats": Row("ten images once, thrice, and with noisy copies", repeated.repeats),
    "twice": Row("40 bottles twice: the same bytes, other noise, JPEG", repeated.twice),
    "groups": Row("all good bottles and screws: no false repeats, figures as before", repeated.groups),
    "closed-form": Row("leave-group-out against fits on the other images", thresholds.closed_form),
    "twenty": Row("random draws of 20 images", thresholds.twenty),
    "first30": Row("the first 30 images by name, 30 spread over the set, and all", thresholds.first_thirty),
    "halves": Row("random halves", thresholds.halves),
    "comparable": Row("images that are not comparable", others.comparable),
    "deep": Row("10 and 12 bits in files of 16", others.deep_images),
    "update": Row("an update with defective images among good ones", learning.update),
    "suspects": Row("broken bottles called good", learning.suspects),
    "biscuits": Row("biscuits without the suspects", learning.biscuits),
}
"""Rows of `python -m benchmarks.decisions`, by name."""
