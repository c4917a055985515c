"""PaDiM's rivals, written anew and tuned for the same engine, so that a comparison is of methods and not of frameworks.

`fit` gives a `Fitted`: images in, scores and maps out. `load` brings one back from the folder that its `save` wrote,
without torch, so that a worker process holds what a device would hold. All run on onnxruntime with the same number of
threads as our own models, on uint8 frames that the caller has brought to size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.methods.parts import Fitted, Float32, Frame, OneGraph, read
from padim_edge_artifact import PadimEdgeError

if TYPE_CHECKING:
    from benchmarks.methods.features import Network

__all__ = ["METHODS", "Fitted", "Float32", "Frame", "fit", "load"]

METHODS = ("spade", "patchcore-1", "patchcore-10", "vae")
"""PatchCore keeps 1 % or 10 % of the patches. `vae` is untrained here; `benchmarks.methods.vae.fit` can train it."""


def fit(
    method: str,
    frames: Iterable[Frame],
    network: Network,
    size: tuple[int, int],
    *,
    threads: int | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> Fitted:
    """Fit a method with its paper's settings.

    Args:
        method: One of `METHODS`.
        frames: `(H, W, 3)` uint8 each, good images.
        network: See `benchmarks.methods.features.load`; `vae` has its own and does not use it.
        size: (H, W) of the frames.
        threads: Of onnxruntime.
        progress: Called with the number of images done since the last call.

    Raises:
        PadimEdgeError: No such method, no image, or a size that the method cannot take.
    """
    from benchmarks.methods import patchcore, spade, vae

    if method == "spade":
        return spade.fit(frames, network, size, threads=threads, progress=progress)
    if method in ("patchcore-1", "patchcore-10"):
        share = float(method.removeprefix("patchcore-")) / 100
        return patchcore.fit(frames, network, size, share=share, threads=threads, progress=progress)
    if method == "vae":
        return vae.fit(frames, size, threads=threads, progress=progress)
    raise PadimEdgeError(f"there is no method {method!r}; choose one of {', '.join(METHODS)}")


def load(folder: Path, *, threads: int | None = None) -> Fitted:
    """What `save` wrote, ready to judge; imports no torch.

    Raises:
        PadimEdgeError: The folder holds no fitted method.
    """
    parts = read(folder)
    if parts.method == "spade":
        from benchmarks.methods.spade import Spade

        return Spade(parts, threads)
    return OneGraph(parts, threads)
