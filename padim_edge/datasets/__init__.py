"""Data sets as users have them; `from_folder` says which layouts are known, and in which order they are tried."""

from __future__ import annotations

from padim_edge.datasets.items import GOOD, Dataset, Item
from padim_edge.datasets.layouts import class_names, from_folder, from_sample

__all__ = ["GOOD", "Dataset", "Item", "class_names", "from_folder", "from_sample"]
