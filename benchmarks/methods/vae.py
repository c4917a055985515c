"""The variational autoencoder that PaDiM's paper compares itself with (arXiv 2011.08785, section IV and Table VII).

Known of it: a ResNet-18 encoder, a latent of 8 x 8 for images of 256 x 256, trained on 10 000 augmented images
(turned by up to 2 degrees, resized to 292, cut to 282 and at random to 256) with Adam at 1e-4, batches of 32, 100
epochs; 0.09 GB and 0.21 s. Not known to us, and chosen here: 128 channels in the latent; a decoder that mirrors the
encoder block by block, which comes to 0.09 GB, too; the weight of the reconstruction's error. The map is the mean
absolute error of the reconstruction over the channels, smoothed with sigma 4; the score is its largest value.

No accuracy is claimed. Unless `fit` was given a number of steps (its notes say which), the network has random weights
and is good for time and memory only.

Needs torch; judging does not, since what is fitted is one ONNX graph (`parts.OneGraph`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.transforms import v2

from benchmarks.methods.features import map_matrices
from benchmarks.methods.parts import Frame, OneGraph, Parts
from benchmarks.networks import Normalise
from padim_edge_artifact import PadimEdgeError, names
from padim_edge_export.torch_export import export_graph

__all__ = ["LATENT", "fit"]

LATENT = 128
"""Number of channels of the latent, whose grid is 1/32 of the image."""

_RATE, _BATCH = 1e-4, 32
_TURN, _RESIZED, _CUT = 2.0, 292 / 256, 282 / 256
"""Degrees either way, and sides relative to the image's."""

_SCALE = 0.1
"""Standard deviation of a pixel (0 to 1) in the decoder's normal distribution, which weighs its error against the
divergence of the latent; the paper gives none."""


class _Up(nn.Module):
    """A ResNet basic block, reversed: it may double the grid (nearest) where the encoder's halves it."""

    def __init__(self, inputs: int, outputs: int, factor: int) -> None:
        super().__init__()
        lift = nn.Upsample(scale_factor=factor) if factor > 1 else nn.Identity()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, inputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
            lift,
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        same = inputs == outputs
        narrow = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.shortcut = nn.Sequential(nn.Identity() if same else narrow, lift)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(N, inputs, h, w)` to `(N, outputs, factor h, factor w)`."""
        return torch.relu(self.body(x) + self.shortcut(x))


class _Vae(nn.Module):
    """Encoder and decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.normalise = Normalise()
        self.encoder = nn.Sequential(*list(resnet18(weights=None).children())[:-2])  # (N, 512, H / 32, W / 32)
        self.mean = nn.Conv2d(512, LATENT, 1)
        self.log_variance = nn.Conv2d(512, LATENT, 1)
        blocks: list[nn.Module] = [nn.Conv2d(LATENT, 512, 1)]
        for inputs, outputs, factor in ((512, 256, 2), (256, 128, 2), (128, 64, 2), (64, 64, 1)):
            blocks += [_Up(inputs, inputs, 1), _Up(inputs, outputs, factor)]
        # The mirror of the stem, pooling and a convolution of stride 2: the last one gives four pixels a cell.
        blocks += [nn.Upsample(scale_factor=2), nn.Conv2d(64, 12, 3, padding=1), nn.PixelShuffle(2), nn.Sigmoid()]
        self.decoder = nn.Sequential(*blocks)

    def loss(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the negative evidence lower bound of images `(N, H, W, 3)` uint8, in nats per image."""
        features = self.encoder(self.normalise(image))
        mean, log_variance = self.mean(features), self.log_variance(features).clamp(-20, 10)
        drawn = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        error = (self.decoder(drawn) - image.permute(0, 3, 1, 2) / 255).square().sum((1, 2, 3)) / (2 * _SCALE**2)
        divergence = 0.5 * (log_variance.exp() + mean.square() - 1 - log_variance).sum((1, 2, 3))
        return torch.mean(error + divergence)


class _Judge(nn.Module):
    """Network from images to scores and maps. The latent is its mean, so the variance's branch is cut away."""

    def __init__(self, network: _Vae, size: tuple[int, int]) -> None:
        super().__init__()
        self.network = network
        rows, columns = map_matrices(size, size)
        self.register_buffer("rows", torch.tensor(rows))
        self.register_buffer("columns", torch.tensor(columns.T))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Judge `(N, H, W, 3)` uint8: scores `(N,)`, maps `(N, H, W)`."""
        net = self.network
        found = net.decoder(net.mean(net.encoder(net.normalise(image))))
        error = (found - image.float().permute(0, 3, 1, 2) / 255).abs().mean(1)
        smooth = torch.matmul(torch.matmul(self.get_buffer("rows"), error), self.get_buffer("columns"))
        return smooth.amax((1, 2)), smooth


def fit(
    frames: Iterable[Frame],
    size: tuple[int, int],
    *,
    steps: int = 0,
    seed: int = 0,
    threads: int | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> OneGraph:
    """Train for some steps, on the processor.

    Args:
        frames: `(H, W, 3)` uint8 each; all are held in memory. Not touched where there are no steps.
        size: (H, W) of the frames, multiples of 32.
        steps: Batches of 32 to train on; with 0, the network stays as it was drawn. The paper's training has 31 250.
        seed: Random seed of the first weights and of the augmentation.
        threads: Threads of onnxruntime in the result.
        progress: Called with the number of steps done since the last call.

    Raises:
        PadimEdgeError: The size is another one, or there are steps without images.
    """
    if size[0] % 32 or size[1] % 32:
        raise PadimEdgeError(f"frames are {size[0]}x{size[1]}, expected multiples of 32 pixels; choose another size")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _Vae()
        if steps:
            _train(network, frames, size, steps, progress)
    note = f"trained with {steps} steps of {_BATCH} images; the paper takes 31250" if steps else "untrained: time only"
    model = export_graph(_Judge(network.eval(), size), size, [names.SCORE, names.ANOMALY_MAP])
    return OneGraph(Parts("vae", {"vae": model.SerializeToString()}, notes=(note,)), threads)


def _train(
    network: _Vae, frames: Iterable[Frame], size: tuple[int, int], steps: int, progress: Callable[[int], object]
) -> None:
    images = [torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1) for frame in frames]
    if not images:
        raise PadimEdgeError("there is no image to train on; expected at least 1 good image")
    larger, cut = ([round(side * factor) for side in size] for factor in (_RESIZED, _CUT))
    augment = v2.Compose(
        [
            v2.RandomRotation(_TURN, interpolation=v2.InterpolationMode.BILINEAR),
            v2.Resize(larger, antialias=True),
            v2.CenterCrop(cut),  # what the turn left empty at the border
            v2.RandomCrop(list(size)),
        ]
    )
    optimiser = torch.optim.Adam(network.parameters(), _RATE)
    network.train()
    for _ in range(steps):
        chosen = torch.randint(len(images), (_BATCH,)).tolist()
        batch = torch.stack([augment(images[i]) for i in chosen]).permute(0, 2, 3, 1)
        optimiser.zero_grad()
        loss = network.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        progress(1)
