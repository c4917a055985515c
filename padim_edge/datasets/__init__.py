"""Data sets as users have them. `from_source` takes whatever a user may hand over and says what that can be."""

from __future__ import annotations

from padim_edge.datasets.drawn import from_sample
from padim_edge.datasets.given import from_images
from padim_edge.datasets.items import GOOD, Dataset, Item
from padim_edge.datasets.layouts import from_folder
from padim_edge.datasets.sources import Source, class_names, from_source

__all__ = [
    "GOOD",
    "Dataset",
    "Item",
    "Source",
    "class_names",
    "from_folder",
    "from_images",
    "from_sample",
    "from_source",
]
