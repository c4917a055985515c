"""PaDiM's rivals, written anew for the same engine, so that methods are compared and not frameworks.

`fit` returns a `Fitted`: images in, scores and anomaly maps out. `load` reads one from the folder that `save` wrote,
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
"""Names of the methods. PatchCore keeps 1 % or 10 % of the patches. `vae` is untrained here; `vae.fit` can train it."""


def fit(
    method: str,
    frames: Iterable[Frame],
    network: Network,
    size: tuple[int, int],
    *,
    threads: int | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> Fitted:
    """Fit a method with its paper's settings, apart from PatchCore's score, which is smoothed as ours is.

    Args:
        method: One of `METHODS`.
        frames: Good images, `(H, W, 3)` uint8 each.
        network: Network of `benchmarks.methods.features.load`; `vae` has its own and does not use it.
        size: (H, W) of the frames.
        threads: Threads of onnxruntime.
        progress: Called with the number of images done since the last call.

    Raises:
        PadimEdgeError: There is no such method or no image, or the method cannot take this size.
    """
    from benchmarks.methods import patchcore, spade, vae

    if method == "spade":
        return spade.fit(frames, network, size, threads=threads, progress=progress)
    if method in ("patchcore-1", "patchcore-10"):
        settings = patchcore.Settings(float(method.removeprefix("patchcore-")) / 100, smoothed=True)
        return patchcore.fit(frames, network, size, settings, threads=threads, progress=progress)
    if method == "vae":
        return vae.fit(frames, size, threads=threads, progress=progress)
    raise PadimEdgeError(f"there is no method {method!r}; choose one of {', '.join(METHODS)}")


def load(folder: Path, *, threads: int | None = None) -> Fitted:
    """Read what `save` wrote, ready to judge, without importing torch.

    Raises:
        PadimEdgeError: The folder holds no fitted method.
    """
    parts = read(folder)
    if parts.method == "spade":
        from benchmarks.methods.spade import Spade

        return Spade(parts, threads)
    return OneGraph(parts, threads)
