"""Gaussians of every patch and a memory of the same images, as one value."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from padim_edge_artifact.errors import ArtifactError
from padim_edge_artifact.memory import Memory
from padim_edge_artifact.statistics import Statistics

__all__ = ["Both"]


@dataclass(frozen=True, eq=False)
class Both:
    """Statistics and memory of the same images, for a model with both kinds of distance.

    Raises:
        ArtifactError: They are of different numbers of images.
    """

    gaussians: Statistics
    """Gaussians of the patches."""
    memory: Memory
    """Memory of the same images."""

    def __post_init__(self) -> None:
        if self.gaussians.count != self.memory.count:
            raise ArtifactError(
                f"the Gaussians are of {self.gaussians.count} images and the memory of {self.memory.count}, expected "
                "the same images; fit again"
            )

    @property
    def count(self) -> int:
        """n, number of images."""
        return self.gaussians.count

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w), rows and columns of the Gaussians' patches."""
        return self.gaussians.grid

    @property
    def dims(self) -> int:
        """D, number of embedding dimensions of the Gaussians."""
        return self.gaussians.dims

    def digest(self) -> str:
        """Compute a SHA-256 that tells statistics apart, 64 hexadecimal digits."""
        return hashlib.sha256((self.gaussians.digest() + self.memory.digest()).encode()).hexdigest()
