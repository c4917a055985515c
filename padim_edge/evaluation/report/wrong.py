"""Images that a model judges wrongly, drawn for the report."""

from __future__ import annotations

from padim_edge.datasets import Item
from padim_edge.evaluation.report.page import Case
from padim_edge_runtime.detector import Detector

__all__ = ["wrong_verdict"]


def wrong_verdict(item: Item, score: float, detector: Detector) -> Case:
    """Read and inspect an image again, and draw its anomaly map over it.

    Raises:
        ImageError: The image or its mask cannot be read any more.
    """
    image = item.read().image
    mask = None if item.mask is None else item.mask()
    return Case(item.name, item.kind, score, image, detector.inspect(image).overlay(), mask)
