"""Answers of anomalib to images, computed here as anomalib computes them, and the certificate that compares both.

The reference shares nothing with the model but the numbers of the file: the network runs in PyTorch, the distance takes
the full inverse covariances in float32, the map is PyTorch's upsampling and padding. An ONNX model of anomalib is run
itself instead.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from padim_edge.importing.source import Padim

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["TOLERANCE", "Certificate", "Judged", "Reference", "largest"]

TOLERANCE = 1e-3
"""Largest relative difference of two scores of the same frame with which an import is written."""


class Reference:
    """A PaDiM of anomalib, run as anomalib runs it.

    Args:
        source: Its numbers.
    """

    def __init__(self, source: Padim) -> None:
        self.source = source
        self._network: nn.Module | None = None

    def of_frame(self, frame: npt.NDArray[np.uint8]) -> float:
        """Return the raw score of a frame `(H, W, 3)` that is resized already."""
        import torch

        return self._score(torch.from_numpy(np.array(frame)).permute(2, 0, 1)[None].float() / 255)

    def of_image(self, pixels: npt.NDArray[np.uint8]) -> float:
        """Return the raw score of an image `(height, width, 3)` of any size, resized as anomalib resizes it."""
        import torch
        from torchvision.transforms.v2 import functional as transforms

        frame = self.source.frame
        image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float() / 255
        mode = transforms.InterpolationMode(frame.interpolation)
        resized = transforms.resize(image, list(frame.resize), mode, antialias=frame.antialias)
        return self._score(resized if frame.crop is None else transforms.center_crop(resized, list(frame.crop)))

    def _score(self, image: torch.Tensor) -> float:
        """Return the raw score of an image `(1, 3, H, W)` in [0, 1]."""
        import torch

        if self.source.run is not None:
            return self.source.run(image.numpy())
        normalise = self.source.frame.normalise
        mean, std = (torch.tensor(each).view(3, 1, 1) for each in (normalise.mean, normalise.std))
        with torch.inference_mode():
            return float(self._map((image - mean) / std).max())

    def _map(self, image: torch.Tensor) -> torch.Tensor:
        import torch
        from torch.nn import functional

        source = self.source
        features = list(self._features(image))
        grid = features[0].shape[-2:]
        lifted = [features[0], *(functional.interpolate(each, size=grid, mode="nearest") for each in features[1:])]
        embedding = torch.index_select(torch.cat(lifted, 1), 1, torch.from_numpy(source.chosen))
        away = (embedding.flatten(2) - torch.from_numpy(source.mean)).permute(2, 0, 1)
        squared = (torch.matmul(away, torch.from_numpy(source.precision)) * away).sum(2)
        distance = squared.permute(1, 0).reshape(1, 1, *grid).clamp(0).sqrt()
        large = functional.interpolate(distance, size=source.size, mode="bilinear", align_corners=False)
        down, across = (len(source.kernel) // 2, source.kernel.shape[1] // 2)
        padded = functional.pad(large, (across, across, down, down), mode="reflect")
        return functional.conv2d(padded, torch.from_numpy(source.kernel)[None, None])

    def _features(self, image: torch.Tensor) -> list[torch.Tensor]:
        import torch
        from torchvision.models import get_model

        if self._network is None:
            with torch.random.fork_rng(devices=[]):
                network = get_model(self.source.backbone, weights=None).eval()
            network.load_state_dict(self.source.state, strict=False)
            self._network = network
        found, network = [], self._network
        for name, module in network.named_children():
            image = module(image)
            if name in self.source.layers:
                found.append(image)
            if len(found) == len(self.source.layers):
                break
        return found


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One image, judged by both."""

    name: str
    """Name of the image inside the folder."""
    score: float
    """Our score."""
    same_frame: float
    """anomalib's score of the frame that we judged."""
    own_resize: float
    """anomalib's score with its own resize of the image."""
    anomalous: bool
    """Our label at the threshold of the certificate."""
    anomalous_there: bool
    """anomalib's label of the frame that we judged."""
    anomalous_own_resize: bool
    """anomalib's label with its own resize."""


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """Agreement of an imported model with its source."""

    source: str
    """Name of the imported file."""
    source_digest: str
    """SHA-256 of it."""
    reference: str
    """How anomalib's scores were computed, in words."""
    model_digest: str
    """`digests.model` of the model."""
    threshold: float
    """Score above which an image is labelled anomalous in this comparison."""
    threshold_of: str
    """Source of that threshold, in words."""
    images: tuple[Judged, ...]
    """The images, in their order."""
    notes: tuple[str, ...] = ()
    """Parts that were not carried over, or cannot be known, one sentence each without a full stop."""

    @property
    def difference(self) -> float:
        """Largest relative difference of the scores of the same frame."""
        return largest([(each.score, each.same_frame) for each in self.images])

    @property
    def difference_of_resize(self) -> float:
        """Largest relative difference where anomalib resizes the image itself."""
        return largest([(each.score, each.own_resize) for each in self.images])

    @property
    def other_labels(self) -> int:
        """Number of images with another label for the same frame."""
        return sum(each.anomalous != each.anomalous_there for each in self.images)

    @property
    def other_labels_of_resize(self) -> int:
        """Number of images with another label where anomalib resizes the image itself."""
        return sum(each.anomalous != each.anomalous_own_resize for each in self.images)

    @property
    def passed(self) -> bool:
        """Whether both agree on the same frames."""
        return self.difference <= TOLERANCE and not self.other_labels

    def __str__(self) -> str:
        count = len(self.images)
        images = f"{count} image{'' if count == 1 else 's'}"
        return (
            f"parity {'passed' if self.passed else 'FAILED'}: {images}, same frame: largest difference "
            f"{self.difference:.1e}, {count - self.other_labels} of {count} labels equal; anomalib's own resize: "
            f"{self.difference_of_resize:.1e}, {count - self.other_labels_of_resize} of {count} labels equal"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the object that the certificate's file holds."""
        return {
            **asdict(self),
            "tolerance": TOLERANCE,
            "passed": self.passed,
            "largest_difference": self.difference,
            "other_labels": self.other_labels,
            "largest_difference_own_resize": self.difference_of_resize,
            "other_labels_own_resize": self.other_labels_of_resize,
        }


def largest(pairs: list[tuple[float, float]]) -> float:
    """Return the largest difference of two scores, relative to the second one; 0 without any."""
    return max((abs(one - other) / max(abs(other), 1e-9) for one, other in pairs), default=0.0)
