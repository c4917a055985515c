"""Relations between the fields of metadata: what no single field can be held against."""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import TYPE_CHECKING

from padim_edge_artifact.errors import ArtifactError
from padim_edge_artifact.evidence import CELLS

if TYPE_CHECKING:
    from padim_edge_artifact.metadata import Metadata

__all__ = ["MOST_FINGERPRINTS", "check_relations"]

MOST_FINGERPRINTS = 512
"""Largest number of fingerprints that a model keeps."""

_BYTES = 2 * CELLS
"""Number of bytes of a fingerprint."""


def check_relations(metadata: Metadata) -> None:
    """Hold the fields of metadata against each other.

    Raises:
        ArtifactError: Two of them contradict each other.
    """
    (height, width), (rows, columns) = metadata.size, metadata.grid
    method, reference = metadata.method, metadata.reference
    heads = [each.bank for each in (method, method.beside) if each is not None]
    wrong = {
        f"the grid of {rows}x{columns} patches is finer than the frame of {height}x{width} pixels": rows > height
        or columns > width,
        f"{len(metadata.backbone.channels)} numbers of channels stand for {len(method.layers)} layers": len(
            metadata.backbone.channels
        )
        != len(method.layers),
        "a kept channel is none of the backbone's": metadata.reduction.channels is not None
        and metadata.reduction.channels[-1] >= sum(metadata.backbone.channels),
        "more images are independent than there are": (metadata.independent or 0) > metadata.images,
        "number of prototypes and method contradict each other": (metadata.prototypes is None) == any(heads),
        "both kinds of distance have no weights": method.beside is not None and metadata.combination is None,
        "the range of the good images' brightness or contrast is upside down": any(
            low > high for low, high in (reference.brightness, reference.contrast)
        ),
        f"there are {len(reference.turned)} limits of turned images, expected 3": len(reference.turned) not in (0, 3),
        "the mean thumbnail has another size than the grid": _plane(reference.mean) != rows * columns,
        "the deviation of the thumbnails has another size than the grid": bool(reference.deviation)
        and _plane(reference.deviation) != rows * columns,
        "the region of interest does not fill the frame, or is empty": metadata.roi is not None
        and (sum(metadata.roi) != height * width or not any(metadata.roi[1::2])),
        "the fingerprints cannot be read, or are more than the images": _fingerprints(metadata.fingerprints)
        > min(metadata.images, MOST_FINGERPRINTS),
    }
    for sentence, holds in wrong.items():
        if holds:
            raise ArtifactError(f"{sentence}; export the model again")


def _plane(text: str) -> int:
    """Return the number of bytes in a base64 text; -1 where it is none."""
    try:
        return len(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        return -1


def _fingerprints(text: str) -> int:
    """Return the number of packed fingerprints (see `padim_edge_model.repeats`); too large where they are damaged."""
    if not text:
        return 0
    damaged = MOST_FINGERPRINTS + 1
    reader = zlib.decompressobj()
    try:
        content = reader.decompress(base64.b64decode(text, validate=True), _BYTES * damaged)
    except (ValueError, zlib.error):
        return damaged
    return len(content) // _BYTES if reader.eof and len(content) % _BYTES == 0 else damaged
