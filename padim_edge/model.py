"""A model file that was just written, as a value."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from padim_edge_artifact import Metadata, PadimEdgeError
from padim_edge_artifact.files import require_folder
from padim_edge_artifact.kept import Kept

__all__ = ["Model", "check_output"]

_FEW = 20
"""Number of good images below which a threshold cannot be trusted."""


@dataclass(frozen=True, eq=False)
class Model:
    """Outcome of an export."""

    path: Path
    """The `.onnx` file."""
    bytes: int
    """Size of the model and its data file together."""
    metadata: Metadata
    """Description inside the file."""
    kept: Kept = field(repr=False)
    """Statistics that the model was made from, for updates."""
    scores: tuple[float, ...] = field(repr=False)
    """Leave-one-out scores of the good images, in their order."""
    unreadable: tuple[str, ...]
    """One sentence for each good image that could not be read and was left out."""
    seconds: float
    """Duration of fit and export."""

    def __repr__(self) -> str:
        return f"<Model {self}>"

    def __str__(self) -> str:
        about, method = self.metadata, self.metadata.method
        return (
            f"{self.path}: {method.backbone}, preset {method.preset}, {method.precision}, {about.images} good images, "
            f"threshold {about.threshold:.2f}, {self.bytes / 1e6:.1f} MB, {self.seconds:.1f} s"
        )

    @property
    def threshold(self) -> float:
        """Score above which an image is anomalous."""
        return self.metadata.threshold

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences that a user of the threshold should know, without a full stop; mostly empty."""
        images, dims = self.metadata.images, self.metadata.method.dims
        found = []
        if images < _FEW:
            found.append(
                f"{images} good images are too few to trust the threshold; expected {_FEW} or more, better {2 * dims}"
            )
        elif images < 2 * dims:
            found.append(f"{images} good images: usable; {2 * dims} or more usually find more defects")
        if self.metadata.precision.rank is not None:
            found.append(
                "--rank makes thresholds come out low, because the kept directions were chosen with each image in the "
                "fit; set the threshold with padim-edge recalibrate and images that were not fitted on"
            )
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """Return the object that `export --json` prints."""
        return {
            "model": str(self.path),
            "bytes": self.bytes,
            "images": self.metadata.images,
            "threshold": self.metadata.threshold,
            "seconds": round(self.seconds, 3),
        }


def check_output(output: Path) -> None:
    """Refuse a file name before minutes of work, not after them.

    Raises:
        PadimEdgeError: The name does not end in `.onnx`, its folder does not exist, or it is a folder itself.
    """
    if output.suffix != ".onnx":
        raise PadimEdgeError(f"--output is {output}, expected a name that ends in .onnx")
    require_folder(output)
    if output.is_dir():
        raise PadimEdgeError(f"--output {output} is a folder, expected the name of a file")
