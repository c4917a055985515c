"""Runs of `benchmarks.presets`, the most important ones first."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.deciding.materials import SETS
from padim_edge.presets import preset
from padim_edge_artifact.method import Method

__all__ = ["ACCURACY", "FOOTPRINT", "HALVES", "SEEDS", "Model", "Run", "all_runs", "matching"]

ACCURACY, HALVES, FOOTPRINT = "accuracy", "halves", "footprint"
"""Parts of the benchmark: figures on labelled images, rates over half splits, size and memory."""

SEEDS = (0, 1, 2)
"""Random seeds of the method and of the choice of images."""

FEW = (20, 50, 100)
"""Numbers of training images beside all of them."""

SIDES = (224, 448, 1024)
"""Sides in pixels at which size and memory are measured."""

FOOTPRINT_IMAGES = 24
"""Number of images behind those; neither size nor memory depends on it, as long as the memory is full."""


@dataclass(frozen=True)
class Model:
    """One preset with its options."""

    preset: str
    """Name of the preset."""
    precision: str = "fp32"
    """Number types."""
    turned: bool = False
    """Whether a memory also learns from each image flipped and turned."""

    @property
    def name(self) -> str:
        """Short name, such as `free-int8` or `free-turned`."""
        more = [self.precision] if self.precision != "fp32" else []
        return "-".join((self.preset, *more, *(["turned"] if self.turned else [])))

    def method(self, backbone: str, seed: int, size: str | int | None = None) -> Method:
        """Return the method; a size replaces the preset's own way of choosing one."""
        return preset(
            self.preset,
            backbone=backbone,
            seed=seed,
            size=size,
            precision=self.precision,
            turned=self.turned or None,
        )


@dataclass(frozen=True)
class Run:
    """One model on one choice of images."""

    part: str
    """`ACCURACY`, `HALVES` or `FOOTPRINT`."""
    class_name: str
    """Name of the data set: a key of `SETS`."""
    images: int | None
    """Number of training images; `None` for all."""
    model: Model
    """The model."""
    seed: int
    """Random seed of the method and of the choice of images."""
    side: int | None = None
    """Side of the frame in pixels; `None` where the preset chooses."""

    @property
    def name(self) -> str:
        """Name that no other run has, such as `accuracy screw 20 free-turned seed 0`."""
        images = "all" if self.images is None else str(self.images)
        at = [] if self.side is None else [f"at {self.side}"]
        return " ".join((self.part, self.class_name, images, self.model.name, *at, f"seed {self.seed}"))


_FREE, _EDGE, _TURNED, _INT8 = Model("free"), Model("edge"), Model("free", turned=True), Model("free", "int8")
_AUTO = Model("auto")
_CLASSES = ("screw", "bottle", "kolektor", "cookie")
_MASKED = ("screw", "bottle", "kolektor")


def all_runs() -> list[Run]:
    """Return every run in its order."""
    assert set(_CLASSES) == set(SETS)
    return [
        *_accuracy(_CLASSES, (None,), (_FREE, _EDGE)),
        *_accuracy(("screw",), FEW, (_FREE, _EDGE, _TURNED)),
        *_accuracy(_CLASSES, (None,), (_INT8,)),
        *_accuracy(_CLASSES, (None,), (_AUTO,)),
        *(Run(HALVES, class_name, None, _FREE, seed) for seed in SEEDS for class_name in _MASKED),
        *(Run(FOOTPRINT, "screw", FOOTPRINT_IMAGES, _FREE, 0, side) for side in SIDES),
        *_accuracy(_CLASSES, (None,), (Model("accurate"), Model("paper"))),
        *_accuracy(("bottle", "kolektor"), FEW, (_FREE, _EDGE, _TURNED)),
    ]


def _accuracy(classes: Sequence[str], counts: Sequence[int | None], models: Sequence[Model]) -> Iterator[Run]:
    """Yield the runs of a block, seed by seed, so that an interrupted block has every model with some seeds."""
    for seed in SEEDS:
        for class_name in classes:
            for images in counts:
                yield from (Run(ACCURACY, class_name, images, model, seed) for model in models)


def matching(runs: Iterable[Run], patterns: Sequence[str]) -> list[Run]:
    """Return the runs whose name matches one of the patterns, such as `*screw*free*`; all without patterns."""
    if not patterns:
        return list(runs)
    return [run for run in runs if any(fnmatch.fnmatchcase(run.name, pattern) for pattern in patterns)]
