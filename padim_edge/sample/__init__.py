"""A built-in data set, drawn by the package itself: glass bottles and woven cloth, good and with known defects.

With it, everybody can fit, export and run a model without a download. Tests and benchmarks use it because every
defective pixel is known. All of it is geometry and arithmetic; no photograph was used.
"""

from __future__ import annotations

from padim_edge.sample.draw import CLASSES, DEFECTS, draw_defect, draw_good, draw_twin
from padim_edge.sample.folder import SampleImage, images, write

__all__ = ["CLASSES", "DEFECTS", "SampleImage", "draw_defect", "draw_good", "draw_twin", "images", "write"]
