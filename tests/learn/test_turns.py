"""Flipped and turned copies: all positions of a frame that keep its size, each once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from padim_edge_learn.turns import turned


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def positions(frame: np.ndarray) -> list[bytes]:
    """All positions of a frame, itself first."""
    return [frame.tobytes(), *(np.ascontiguousarray(variant).tobytes() for (variant,) in turned([frame]))]


@settings(max_examples=30, deadline=None)
@given(height=st.integers(2, 9), width=st.integers(2, 9), seed=st.integers(0, 99))
def test_a_square_has_seven_other_positions_and_other_frames_have_three(height: int, width: int, seed: int) -> None:
    found = positions(noise(height, width, seed))
    assert len(found) == len(set(found)) == (8 if height == width else 4)
    assert all(variant.shape == (height, width, 3) for (variant,) in turned([noise(height, width)]))


@settings(max_examples=30, deadline=None)
@given(height=st.integers(2, 9), width=st.integers(2, 9), seed=st.integers(0, 99))
def test_a_position_has_the_same_positions(height: int, width: int, seed: int) -> None:
    """They are a group: no part is learned from in one more or one less."""
    frame = noise(height, width, seed)
    all_of_them = set(positions(frame))
    for (variant,) in turned([frame]):
        assert set(positions(np.ascontiguousarray(variant))) == all_of_them


def test_the_positions_are_flips_and_quarter_turns() -> None:
    square, wide = noise(6, 6), noise(4, 6)
    upside_down = {each[::-1].tobytes() for each in (square, square.transpose(1, 0, 2))}
    assert {square[:, ::-1].tobytes(), square.transpose(1, 0, 2).tobytes()} | upside_down < set(positions(square))
    assert set(positions(wide)) == {
        wide.tobytes(),
        wide[::-1].tobytes(),
        wide[:, ::-1].tobytes(),
        wide[::-1, ::-1].tobytes(),
    }


@pytest.mark.parametrize("size", [(6, 6), (4, 6)])
def test_the_frames_of_a_batch_are_turned_alike(size: tuple[int, int]) -> None:
    frames = [noise(*size, seed=seed) for seed in range(3)]
    for number, variants in enumerate(turned(frames)):
        assert len(variants) == 3
        for frame, variant in zip(frames, variants, strict=True):
            assert np.array_equal(variant, list(turned([frame]))[number][0])
    assert [np.array_equal(frame, noise(*size, seed=seed)) for seed, frame in enumerate(frames)] == [True] * 3
