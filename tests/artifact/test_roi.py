"""Run lengths of a region of interest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from padim_edge_artifact import ArtifactError
from padim_edge_artifact.roi import from_runs, to_runs


@given(height=st.integers(1, 12), width=st.integers(1, 12), seed=st.integers(0, 50), share=st.floats(0, 1))
def test_a_mask_comes_back_from_its_runs(height: int, width: int, seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    np.testing.assert_array_equal(from_runs(to_runs(mask), (height, width)), mask)


def test_runs_begin_outside() -> None:
    assert to_runs(np.array([[True, True], [False, True]])) == (0, 2, 1, 1)
    assert to_runs(np.zeros((2, 2), bool)) == (4,)


@pytest.mark.parametrize("runs", [(), (3,), (5,), (-1, 5), (2, 2, 1)])
def test_runs_that_do_not_fill_the_frame_are_refused(runs: tuple[int, ...]) -> None:
    with pytest.raises(ArtifactError, match="does not fill 2x2 pixels"):
        from_runs(runs, (2, 2))
