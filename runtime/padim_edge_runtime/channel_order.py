"""The order of an image's channels on its way into a graph. Frames are RGB everywhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from padim_edge_artifact.names import IMAGE_BGR

__all__ = ["feed", "ordered"]

Frames = npt.NDArray[np.uint8]


def ordered(frames: Frames, color: str) -> Frames:
    """Return RGB frames `(..., 3)` with their channels in another order, or BGR frames in RGB.

    Args:
        frames: The frames. They are returned as they are where the order is theirs.
        color: Order of the result, `rgb` or `bgr`.
    """
    if color == "rgb":
        return frames
    found = np.empty(frames.shape, np.uint8)
    for channel in range(3):  # numpy is slow where it turns the last axis round
        found[..., channel] = frames[..., 2 - channel]
    return found


def feed(session: Any, frames: Frames) -> dict[str, Frames]:
    """Return what an onnxruntime session of a model or of an embedding graph is run with.

    Args:
        session: The session. The name of its input tells the order of the channels that it takes.
        frames: `(N, H, W, 3)` RGB.
    """
    (image,) = session.get_inputs()
    return {image.name: np.ascontiguousarray(ordered(frames, "bgr" if image.name == IMAGE_BGR else "rgb"))}
