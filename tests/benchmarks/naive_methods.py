"""Rivals after their papers' equations, in float64 loops: slow, and hard to get wrong."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from benchmarks.methods.features import Network


def stages(network: Network, frames: np.ndarray, layers: tuple[str, ...]) -> list[np.ndarray]:
    """Compute `(N, C, h, w)` of each layer for `(N, H, W, 3)` uint8."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normalised = ((frames / 255 - mean) / std).transpose(0, 3, 1, 2)
    module = network.stages(layers).double()
    with torch.inference_mode():
        return [each.numpy() for each in module(torch.from_numpy(normalised)).values()]


def smooth(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bring `(h, w)` to `(H, W)`: bilinear, then a Gaussian of sigma 4 at 224 pixels."""
    upsampled = torch.nn.functional.interpolate(
        torch.from_numpy(values)[None, None], size=size, mode="bilinear", align_corners=False
    )
    return ndimage.gaussian_filter(upsampled[0, 0].numpy(), 4 * min(size) / 224)


def spade(good: list[np.ndarray], image: list[np.ndarray], nearest: int) -> tuple[float, np.ndarray]:
    """Compute the score and the `(h, w)` distances of one image.

    Args:
        good: Three stages `(N, C, h, w)` of the good images; the last one is pooled.
        image: The same `(C, h, w)`.
        nearest: K.
    """
    pooled = np.array([each.mean((1, 2)) for each in good[-1]])
    distance = np.sqrt(((pooled - image[-1].mean((1, 2))) ** 2).sum(1))
    chosen = np.argsort(distance)[:nearest]

    def pyramid(features: list[np.ndarray]) -> np.ndarray:
        side = features[0].shape[1]
        lifted = [each.repeat(side // each.shape[1], 1).repeat(side // each.shape[1], 2) for each in features]
        return np.concatenate(lifted).reshape(sum(len(each) for each in features), -1).T

    gallery = np.concatenate([pyramid([stage[i] for stage in good]) for i in chosen])
    values = [np.sqrt(((gallery - vector) ** 2).sum(1).min()) for vector in pyramid(image)]
    return float(distance[chosen].mean()), np.array(values).reshape(image[0].shape[1:])


def patches(layer2: np.ndarray, layer3: np.ndarray) -> np.ndarray:
    """Join `(C2, h, w)` and `(C3, h', w')` to `(h w, C2 + C3)`: 3 x 3 means, layer3 interpolated to layer2's grid."""
    pooled = [torch.nn.functional.avg_pool2d(torch.from_numpy(each)[None], 3, 1, 1) for each in (layer2, layer3)]
    size = tuple(layer2.shape[1:])
    pooled[1] = torch.nn.functional.interpolate(pooled[1], size=size, mode="bilinear", align_corners=False)
    return torch.cat(pooled, 1)[0].flatten(1).numpy().T


def patchcore(bank: np.ndarray, vectors: np.ndarray, b: int) -> tuple[float, np.ndarray]:
    """Compute equations 6 and 7: score, and distances `(P,)` of the patches `(P, D)` to the bank `(M, D)`."""
    distance = np.array([[np.sqrt(((m - x) ** 2).sum()) for m in bank] for x in vectors])
    values = distance.min(1)
    farthest = int(values.argmax())
    mate = int(distance[farthest].argmin())
    around = np.argsort(((bank - bank[mate]) ** 2).sum(1), kind="stable")[:b]
    odds = np.exp(distance[farthest, mate]) / np.exp(distance[farthest, around]).sum()
    return float((1 - odds) * distance[farthest, mate]), values


def k_centre(points: np.ndarray, count: int, start: int) -> list[int]:
    """Take the point whose nearest centre is farthest away, again and again."""
    points = points.astype(np.float64)
    taken = [start]
    while len(taken) < count:
        nearest = np.min([((points - points[centre]) ** 2).sum(1) for centre in taken], axis=0)
        nearest[taken] = -1
        taken.append(int(nearest.argmax()))
    return taken
