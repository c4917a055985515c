"""Write weights of the built-in backbone without any training, to measure what the training gains.

    uv run python -m tools.builtin.untrained FILE.safetensors

Convolutions are drawn from He's normal distribution. Then each is scaled to unit variance on noise images, one after
another: the ridge of the presets is absolute and expects features of about that size. They are stored in float16, as in
the file that ships.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from padim_edge_export.builtin import BuiltinBackbone

SEED = 0


def noise_images(count: int, size: int) -> torch.Tensor:
    """Return normalised images with the 1/f amplitude spectrum of natural scenes, `(count, 3, size, size)`."""
    generator = np.random.default_rng(SEED)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.rfftfreq(size), indexing="ij"))
    spectrum = np.fft.rfft2(generator.standard_normal((count, 3, size, size))) / np.maximum(frequency, 1 / size)
    images = np.fft.irfft2(spectrum, s=(size, size))
    images -= images.mean(axis=(1, 2, 3), keepdims=True)
    return torch.tensor(images / images.std(axis=(1, 2, 3), keepdims=True), dtype=torch.float32)


def initialise(network: nn.Module, images: torch.Tensor) -> None:
    """Initialise a network by He's rule, then scale each convolution to unit variance."""
    generator = torch.Generator().manual_seed(SEED)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    for convolution in convolutions:
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu", generator=generator)
        assert convolution.bias is not None
        nn.init.zeros_(convolution.bias)

    def rescale(module: nn.Conv2d, _: object, output: torch.Tensor) -> torch.Tensor:
        module.weight.data /= output.std()
        return output / output.std()

    hooks = [convolution.register_forward_hook(rescale) for convolution in convolutions]
    network(images)
    for hook in hooks:
        hook.remove()


def main(path: Path) -> None:
    """Write the file."""
    network = BuiltinBackbone().eval()
    with torch.inference_mode():
        initialise(network, noise_images(16, 224))
    save_file({key: value.half().contiguous() for key, value in network.state_dict().items()}, path)
    print(f"{path.name}: {sum(p.numel() for p in network.parameters())} parameters, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
