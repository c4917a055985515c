"""Kept statistics as a value: the sums of a fit, and all that is needed to add to them or to make a model of them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import Annotated, TypeAlias

from padim_edge_artifact.both import Both
from padim_edge_artifact.evidence import Evidence
from padim_edge_artifact.memory import Memory
from padim_edge_artifact.metadata import Backbone, Reduction
from padim_edge_artifact.method import Method
from padim_edge_artifact.preprocessing import MOST_SIDE
from padim_edge_artifact.reference import Seen
from padim_edge_artifact.schema import (
    MOST_DIMS,
    MOST_IMAGES,
    MOST_LAYERS,
    Count,
    Number,
    Several,
    Text,
    Whole,
    Words,
    check,
)
from padim_edge_artifact.statistics import Statistics

__all__ = ["CodesRecord", "Kept", "PartRecord", "Progress", "Recipe"]

_Name: TypeAlias = Annotated[str, Text(255)]
_Side: TypeAlias = Annotated[int, Whole(1, MOST_SIDE)]


@dataclass(frozen=True)
class CodesRecord:
    """Stored form of `padim_edge_model.graph.Codes`."""

    name: _Name
    scale: Annotated[tuple[Annotated[float, Number(0.0, 1e30)], ...], Several(1, MOST_DIMS)]
    zero_point: Annotated[tuple[Annotated[int, Whole(0, 255)], ...], Several(1, MOST_DIMS)]


@dataclass(frozen=True)
class PartRecord:
    """Stored form of `padim_edge_model.graph.Part`."""

    name: _Name
    dims: Annotated[int, Whole(1, MOST_DIMS)]
    grid: tuple[_Side, _Side]
    codes: CodesRecord | None


@dataclass(frozen=True)
class Recipe:
    """Origin of statistics: everything besides the images that decides what they and a model of them are."""

    class_name: Annotated[str, Text(1024)]
    """Name of the part, such as `bottle`."""
    created_by: Words
    """Name and version of the program that exported the embedding graph."""
    method: Method
    """Options of the fit; its precision keeps exact Gaussians."""
    backbone: Backbone
    """Provenance of the backbone's weights."""
    reduction: Reduction
    """Kept channels or dimensions."""
    parts: Annotated[tuple[PartRecord, ...], Several(1, MOST_LAYERS)]
    """Outputs of the embedding graph for the Gaussians, or for a memory alone, finest first."""
    beside: Annotated[tuple[PartRecord, ...], Several(0, MOST_LAYERS)] = ()
    """Outputs of the embedding graph for a memory beside the Gaussians; empty without one."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Progress:
    """Progress of an interrupted fit."""

    done: Count
    """Number of images looked at, in the order of the list, unreadable ones included."""
    images: Annotated[str, Text(255)]
    """Digest of the list of images."""
    unreadable: Annotated[tuple[tuple[str, str], ...], Several(0, MOST_IMAGES)] = ()
    """Name and error sentence of each image that could not be read."""


@dataclass(frozen=True, eq=False)
class Kept:
    """Statistics with all that is needed to add to them or to make a model of them."""

    recipe: Recipe
    graph: bytes = field(repr=False)
    """The embedding graph as ONNX: input -> the parts."""
    statistics: Statistics | Memory | Both
    """Gaussians of the patches; a memory where the method has a bank; both where it has a memory beside them."""
    seen: Seen
    evidence: Evidence = field(default_factory=Evidence.nothing)
    """Fingerprints and groups of the images."""
    progress: Progress | None = None
    """Progress of the fit in a checkpoint; `None` after a finished fit."""

    @property
    def same(self) -> str:
        """Digest of the embedding graph, the preprocessing and the bank: equal for statistics that can be merged."""
        recipe = self.recipe
        found = hashlib.sha256(self.graph)
        frame = dataclasses.asdict(recipe.method.preprocessing)
        options = [frame, [dataclasses.asdict(part) for part in (*recipe.parts, *recipe.beside)]]
        options += [dataclasses.asdict(head.bank) for head in recipe.method.heads if head.bank is not None]
        found.update(json.dumps(options, sort_keys=True).encode())
        return found.hexdigest()

    @property
    def heads(self) -> tuple[Kept, ...]:
        """The same images for each kind of distance alone: the Gaussians, and the memory beside them."""
        if not isinstance(self.statistics, Both):
            return (self,)
        recipe, (gaussians, memory) = self.recipe, self.recipe.method.heads
        channels = dict(zip(gaussians.layers, recipe.backbone.channels, strict=True))
        of_memory = replace(
            recipe,
            method=memory,
            parts=recipe.beside,
            beside=(),
            backbone=replace(recipe.backbone, channels=tuple(channels[layer] for layer in memory.layers)),
            reduction=Reduction(tuple(range(self.statistics.memory.dims)), None),
        )
        return (
            replace(self, recipe=replace(recipe, method=gaussians, beside=()), statistics=self.statistics.gaussians),
            replace(self, recipe=of_memory, statistics=self.statistics.memory),
        )
