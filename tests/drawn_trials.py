"""Made-up trials of judges whose eyes are known."""

from __future__ import annotations

import numpy as np

from padim_edge.rehearsal.trials import Trial

__all__ = ["KINDS", "THRESHOLD", "trials"]

KINDS = ("scratch", "stain", "hole", "smear")
THRESHOLD = 10.0


def trials(
    seed: int = 0,
    *,
    images: int = 60,
    each: int = 6,
    level: float = 0.5,
    contrast_slope: float = 2.0,
    extent_slope: float = 1.0,
    same_image: float = 0.0,
) -> list[Trial]:
    """Draw trials with logit P(found) = level + slopes * doublings + what the image adds.

    Args:
        seed: Random seed.
        images: Number of images.
        each: Number of trials on each.
        level: Logit at contrast 3 and extent 8.
        contrast_slope: Rise of the logit per doubling of contrast.
        extent_slope: Rise of it per doubling of extent.
        same_image: Standard deviation of what each image adds to the logits of its trials.
    """
    rng = np.random.default_rng(seed)
    found = []
    for image in range(images):
        shift = same_image * rng.standard_normal()
        for index in range(each):
            extent = float(2.5 * (60 / 2.5) ** rng.random())
            contrast = float(0.3 * 40 ** rng.random())
            logit = level + contrast_slope * np.log2(contrast / 3) + extent_slope * np.log2(extent / 8) + shift
            seen = rng.random() < 1 / (1 + np.exp(-logit))
            place = (float(rng.random()), float(rng.random()))
            kind = KINDS[(image + index) % len(KINDS)]
            score = THRESHOLD + (1.0 if seen else -1.0)
            found.append(Trial(kind, extent, contrast, 10 * contrast, place, score, image, 5.0))
    return found
