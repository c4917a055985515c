"""Statistics with drawn numbers, complete with a recipe: what tests of statistics files share. Needs numpy only."""

from __future__ import annotations

import dataclasses

import numpy as np

from padim_edge_artifact import Memory, Preprocessing, Statistics
from padim_edge_artifact.evidence import Evidence
from padim_edge_artifact.kept import CodesRecord, Kept, PartRecord, Progress, Recipe
from padim_edge_artifact.memory import FOLDS
from padim_edge_artifact.metadata import Backbone, Reduction
from padim_edge_artifact.method import Bank, Method, Precision
from padim_edge_artifact.protobuf import message
from padim_edge_artifact.reference import Likeness, Seen

__all__ = ["GRAPH", "METHOD", "RECIPE", "REMEMBERED", "SOME", "memory", "symmetric", "with_method"]

_RANDOM = np.random.default_rng(0)


def symmetric(patches: int, dims: int) -> np.ndarray:
    """Drawn symmetric matrices `(patches, dims, dims)`, as sums of squares are."""
    half = _RANDOM.standard_normal((patches, dims, dims))
    return half @ half.transpose(0, 2, 1)


def memory(fold_of: tuple[int, ...] = (0, 0, 1, 2, 4, 6, 7), dims: int = 3, grid: tuple[int, int] = (2, 3)) -> Memory:
    """A memory with drawn numbers, in which some patches stand for others."""
    folds = np.array(fold_of, np.int64)
    patches = np.bincount(folds, minlength=FOLDS) * grid[0] * grid[1]
    mean, scatter = _RANDOM.standard_normal((FOLDS, dims)), symmetric(FOLDS, dims)
    mean[patches == 0] = scatter[patches == 0] = 0
    weights = tuple(np.array([2] * (count // 3) + [1] * (count - 2 * (count // 3)), np.int64) for count in patches)
    vectors = tuple(_RANDOM.standard_normal((len(each), dims)).astype(np.float32) for each in weights)
    return Memory(len(folds), grid, folds, patches, mean, scatter, vectors, weights)


METHOD = Method(
    "edge",
    Preprocessing((16, 24)),
    "builtin",
    ("a", "b"),
    "random",
    dims=3,
    seed=0,
    shares=None,
    pooling=3,
    pool_patches=False,
    ridge=0.003,
    sigma=4.0,
    precision=Precision("int8"),
)
RECIPE = Recipe(
    class_name="bottle",
    created_by="padim-edge 0",
    method=METHOD,
    backbone=Backbone((2, 3), "drawn", "0" * 64, "Apache-2.0"),
    reduction=Reduction((0, 2, 4), None),
    parts=(
        PartRecord("part0", 1, (2, 3), CodesRecord("part0_codes", (0.25,), (7,))),
        PartRecord("part1", 2, (1, 1), None),
    ),
)
GRAPH = message(
    7, b"".join(message(field, message(1, name)) for field, name in ((11, b"image"), (12, b"part0"), (12, b"part1")))
)
"""A graph with the inputs and outputs of the recipe, and nothing in between."""
SOME = Kept(
    RECIPE,
    GRAPH,
    Statistics(7, _RANDOM.standard_normal((6, 3)), symmetric(6, 3), (2, 3)),
    Seen(
        7,
        _RANDOM.random((2, 3)),
        (10.0, 20.5),
        (1.0, 2.0),
        1,
        _RANDOM.random((2, 3)),
        Likeness(5, (0.25, 0.5, 0.125), 6, 7.5, 4.25),
    ),
    Evidence(_RANDOM.integers(0, 65280, (7, 64)).astype(np.uint16), np.array([0, 0, 5, 5, -7, 0, 0])),
    Progress(9, "of these", (("b.png", "b.png is torn"),)),
)
"""Gaussian statistics of seven images."""


def with_method(**changes: object) -> Recipe:
    """RECIPE with other fields of its method."""
    return dataclasses.replace(RECIPE, method=dataclasses.replace(METHOD, **changes))  # type: ignore[arg-type]


REMEMBERED = dataclasses.replace(SOME, recipe=with_method(bank=Bank(prototypes=20)), statistics=memory())
"""A memory of seven images."""
