"""A model file that was just written, as a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from padim_edge.datasets import Item
from padim_edge.weighing import Compared
from padim_edge_artifact import Metadata, PadimEdgeError
from padim_edge_artifact.files import require_folder, written
from padim_edge_artifact.kept import Kept
from padim_edge_artifact.publishing import publish
from padim_edge_learn.held_out import HeldOut
from padim_edge_learn.suspects import suspects
from padim_edge_model.calibration import calibrate, threshold
from padim_edge_runtime.worth import good_images

__all__ = ["Good", "Model", "Suspect", "check_output", "moved"]

_FEW_SHOWN = 5
"""Number of suspects that a sentence names."""

_FEW = 20
"""Number of good images below which a threshold cannot be trusted."""


_MANY = 200
"""Number of good images from which more of them rarely help a memory."""


@dataclass(frozen=True)
class Suspect:
    """A good image that looks unlike the others."""

    item: Item
    """Item of the data set."""
    score: float
    """Score of the image in a fit without it."""
    oddness: float
    """Robust standard deviations of the score's logarithm from the median; see `padim_edge_learn.suspects`."""
    group: int
    """Group of the image; repeats share one."""


@dataclass(frozen=True, eq=False)
class Good:
    """Good images behind a model, and how they look in fits without them."""

    items: tuple[Item, ...]
    """Images that were judged, in their order."""
    held: HeldOut
    """Their scores, groups and drift."""

    @property
    def suspects(self) -> tuple[Suspect, ...]:
        """Images that look unlike the others, the oddest first; mostly empty."""
        found = suspects(self.held.alone)
        return tuple(
            Suspect(
                self.item(index),
                float(self.held.alone[index]),
                float(found.oddness[index]),
                int(self.held.groups[index]),
            )
            for index in found.flagged
        )

    def threshold_without(self, left_out: Sequence[Suspect], false_alarm_rate: float) -> float | None:
        """Return about the threshold that the model would have without these images; `None` if none would be left."""
        names = {each.item.name for each in left_out}
        kept = np.array([self.item(index).name not in names for index in range(len(self.held.scores))])
        if not kept.any():
            return None
        return threshold(calibrate(self.held.scores[kept], self.held.groups[kept]), false_alarm_rate)

    def item(self, index: int) -> Item:
        """Return the image of the score with this index."""
        return self.items[int(self.held.numbers[index])]


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
    good: Good = field(repr=False)
    """Good images and their scores outside the fit."""
    unreadable: tuple[str, ...]
    """One sentence for each good image that could not be read and was left out."""
    seconds: float
    """Duration of fit and export."""
    compared: Compared | None = field(default=None, repr=False)
    """Good images and planted defects as Gaussians and memory see them; `None` for one kind of distance."""

    def __repr__(self) -> str:
        return f"<Model {self}>"

    def __str__(self) -> str:
        about, method = self.metadata, self.metadata.method
        prototypes = "" if about.prototypes is None else f"{about.prototypes} prototypes, "
        return (
            f"{self.path}: {method.backbone}, preset {method.preset}, {method.precision}, {prototypes}"
            f"{good_images(about)}, threshold {about.threshold:.2f}, {self.bytes / 1e6:.1f} MB, {self.seconds:.1f} s"
        )

    @property
    def threshold(self) -> float:
        """Score above which an image is anomalous."""
        return self.metadata.threshold

    @property
    def scores(self) -> tuple[float, ...]:
        """Scores of the good images outside the fit, in their order; the threshold rests on them."""
        return tuple(self.good.held.scores.tolist())

    @property
    def suspects(self) -> tuple[Suspect, ...]:
        """Good images that look unlike the others, the oddest first; mostly empty."""
        return self.good.suspects

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences that a user of the threshold should know, without a full stop; mostly empty."""
        about = self.metadata
        many = _MANY if about.method.bank is not None else 2 * about.method.dims
        images = about.images if about.independent is None else about.independent
        found = []
        if images < about.images:
            found.append(f"{about.images} good images, {images} independent: {self._repeats()}")
        if images < _FEW:
            found.append(
                f"{images} good images are too few to trust the threshold; expected {_FEW} or more, better {many}"
            )
        elif images < many:
            found.append(f"{images} good images: usable; {many} or more usually find more defects")
        if self.metadata.precision.rank is not None:
            found.append(
                "--rank makes thresholds come out low, because the kept directions were chosen with each image in the "
                "fit; set the threshold with padim-edge recalibrate and images that were not fitted on"
            )
        found += self._drift()
        found += self._suspects()
        return tuple(found)

    def _repeats(self) -> str:
        """Say which images are no further evidence, by the first example."""
        first: dict[int, Item] = {}
        for index, group in enumerate(self.good.held.groups.tolist()):
            item = self.good.item(index)
            leader = first.setdefault(group, item)
            if leader is not item:
                same = "is in the group of" if item.group is not None else "repeats"
                return f"{item.name} {same} {leader.name}, for example, and tells the threshold nothing new"
        return "the others repeat them and tell the threshold nothing new"

    def _drift(self) -> list[str]:
        """Say that the images drift, and which others would help."""
        drift = self.good.held.drift
        if drift is None:
            return []
        first, last = (self.good.items[number].name for number in (drift.first, drift.last))
        sentence = (
            f"the good images drift: scores rise {drift.factor:.1f} times without an image's neighbours, so the "
            f"threshold was raised; the least like the others are {first} to {last}, so add images from more such "
            "times or places"
        )
        return [sentence]

    def _suspects(self) -> list[str]:
        """Name the good images that look unlike the others."""
        suspects = self.suspects
        if not suspects:
            return []
        named = ", ".join(f"{each.item.name} ({each.score:.1f})" for each in suspects[:_FEW_SHOWN])
        more = f" and {len(suspects) - _FEW_SHOWN} more" if len(suspects) > _FEW_SHOWN else ""
        without = self.good.threshold_without(suspects, self.metadata.false_alarm_rate)
        usual = float(np.median(self.good.held.alone))
        changed = "" if without is None else f" Without them, the threshold would be about {without:.2f}."
        sentence = (
            f"{len(suspects)} good image{' looks' if len(suspects) == 1 else 's look'} unlike the others (scores, "
            f"usually {usual:.1f}): {named}{more}.{changed} Look at them with --suspects DIR, and leave the wrong ones "
            "out with --exclude-suspects or --exclude FILE"
        )
        return [sentence]

    def to_json(self) -> dict[str, Any]:
        """Return the object that `export --json` prints."""
        memory = {} if self.metadata.prototypes is None else {"prototypes": self.metadata.prototypes}
        return {
            "model": str(self.path),
            "bytes": self.bytes,
            **memory,
            "images": self.metadata.images,
            "independent": self.metadata.independent,
            "drift": self.metadata.drift,
            "suspects": [
                {"path": each.item.name, "score": each.score, "oddness": each.oddness} for each in self.suspects
            ],
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


def moved(model: Model, path: Path) -> Model:
    """Give a model and its data file their final names, and return it.

    Args:
        model: A model in a temporary folder.
        path: The final name, with the same file name, on the same file system.

    Raises:
        PadimEdgeError: A file cannot be written.
    """
    data = model.metadata.digests.data_file
    with written(path):
        publish(model.path, None if data is None else model.path.with_name(data), path)
    return replace(model, path=path)
