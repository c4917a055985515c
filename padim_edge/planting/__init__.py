"""Defects planted in good images: seeded, measured, of any size and strength.

They tell how visible a defect must be for a model to find it. They do not tell how many unknown defects it will miss.
"""

from __future__ import annotations

from padim_edge.planting.measuring import measure
from padim_edge.planting.parts import part_of
from padim_edge.planting.plant import KINDS, MOVED, plant
from padim_edge.planting.series import plants
from padim_edge.planting.values import Measured, Part, Plant

__all__ = ["KINDS", "MOVED", "Measured", "Part", "Plant", "measure", "part_of", "plant", "plants"]
