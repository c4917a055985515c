"""The method of a fit, complete: what its options leave open, the good images tell."""

from __future__ import annotations

from collections.abc import Callable

from padim_edge.aspect import with_aspect
from padim_edge.datasets import Dataset
from padim_edge.levels import with_levels
from padim_edge_artifact.method import Method

__all__ = ["settled"]


def settled(dataset: Dataset, method: Method, tell: Callable[[str], object] = lambda _: None) -> Method:
    """Return the method with its range of pixel values and its frame; a settled one is returned as it is.

    Args:
        dataset: Data set with good images.
        method: Method of the fit.
        tell: Called with a sentence for each choice, and where a choice of the user does not fit the images.

    Raises:
        PadimEdgeError: The images do not tell.
    """
    return with_aspect(dataset, with_levels(dataset, method, tell), tell)
