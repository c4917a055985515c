"""The memory as a value: whole or refused, and known by its digest."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from drawn_statistics import memory

from padim_edge_artifact import ArtifactError, Memory
from padim_edge_artifact.memory import FOLDS

SOME = memory()


def changed(**arrays: Any) -> Memory:
    return dataclasses.replace(SOME, **arrays)


def test_the_empty_memory_has_all_folds_and_nothing_in_them() -> None:
    empty = Memory.empty((2, 3), 5)
    assert (empty.count, empty.grid, empty.dims) == (0, (2, 3), 5)
    assert len(empty.vectors) == len(empty.patches) == FOLDS
    assert not empty.patches.any()
    assert not empty.mean.any()
    assert not empty.scatter.any()
    assert not any(len(each) for each in empty.vectors)


@pytest.mark.parametrize(
    "arrays",
    [
        {"count": 6},
        {"count": -1},
        {"fold_of": SOME.fold_of[:-1]},
        {"fold_of": SOME.fold_of + 1},
        {"fold_of": SOME.fold_of - 1},
        {"patches": SOME.patches[:-1]},
        {"patches": np.zeros(FOLDS, np.int64)},
        {"patches": SOME.patches + 1},
        {"weights": SOME.weights[:-1]},
        {"weights": (SOME.weights[0][1:], *SOME.weights[1:])},
        {"weights": tuple(each[:, None] for each in SOME.weights)},
        {"weights": (SOME.weights[0] - 1, *SOME.weights[1:])},
        {"weights": (SOME.weights[0] * 2, *SOME.weights[1:])},
        {"mean": SOME.mean[:, :-1]},
        {"scatter": SOME.scatter[:, :-1]},
        {"scatter": SOME.scatter[:-1]},
        {"vectors": SOME.vectors[:-1]},
        {"vectors": (*SOME.vectors[:-1], SOME.vectors[-1][:, :-1])},
        {"vectors": (*SOME.vectors[:-1], SOME.vectors[-1][0])},
        {
            "mean": SOME.mean[1:],
            "scatter": SOME.scatter[1:],
            "patches": SOME.patches[1:],
            "vectors": SOME.vectors[1:],
            "weights": SOME.weights[1:],
            "fold_of": SOME.fold_of * 0,
        },
    ],
    ids=", ".join,
)
def test_arrays_that_do_not_fit_together_are_refused(arrays: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match=r"do not fit together; fit again"):
        changed(**arrays)


def test_the_digest_tells_memories_apart() -> None:
    first = SOME.vectors[0]
    others = (
        memory(),
        changed(mean=SOME.mean + 1e-12),
        changed(scatter=SOME.scatter * (1 + 1e-12)),
        changed(weights=(SOME.weights[0][::-1], *SOME.weights[1:])),
        changed(vectors=(first[::-1], *SOME.vectors[1:])),
        changed(vectors=(np.nextafter(first, 9, dtype=np.float32), *SOME.vectors[1:])),
        changed(grid=(3, 2)),
    )
    assert len({SOME.digest(), *(each.digest() for each in others)}) == len(others) + 1
    assert changed(mean=SOME.mean.copy(), vectors=tuple(each.copy() for each in SOME.vectors)).digest() == SOME.digest()
