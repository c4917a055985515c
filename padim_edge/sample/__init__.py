"""A built-in data set, drawn by the package itself: glass bottles and woven cloth, good and with known defects.

It lets everybody try fit, export and run without a download, and it gives tests and benchmarks images whose every
defective pixel is known. All of it is geometry and arithmetic; no photograph was used.
"""

from __future__ import annotations

from padim_edge.sample.draw import CLASSES, DEFECTS, draw_defect, draw_good, draw_twin
from padim_edge.sample.folder import SampleImage, images, write

__all__ = ["CLASSES", "DEFECTS", "SampleImage", "draw_defect", "draw_good", "draw_twin", "images", "write"]
