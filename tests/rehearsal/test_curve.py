"""Curves of detection: they recover judges whose eyes are known, and say no more than the trials do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from drawn_trials import KINDS, THRESHOLD, trials
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from padim_edge.rehearsal.curve import ALL, LOWEST, Curve, curves

GRID = np.geomspace(0.1, 20, 40)


def truly_needed(share: float, extent: float, level: float = 0.5) -> float:
    """Contrast that the judge of `trials` needs by its own equation."""
    return float(3 * 2 ** ((np.log(share / (1 - share)) - level - np.log2(extent / 8)) / 2))


def test_the_curve_recovers_a_judge_of_many_trials() -> None:
    """Standard errors at 6000 trials are about 0.06; four of them are allowed, and the ridge takes a little."""
    curve = curves(trials(images=1000), THRESHOLD)[ALL]
    assert curve.slopes == pytest.approx([2.0, 1.0], abs=0.25)
    assert curve.levels == pytest.approx([0.5] * len(KINDS), abs=0.4)


def test_intervals_cover_the_truth() -> None:
    """95 % intervals of 40 sets of trials miss 2 in the mean; 8 or more misses come by chance in 0.1 % of cases."""
    truth = 1 / (1 + np.exp(-0.5))
    inside = {"share": 0, "needed": 0}
    for seed in range(40):
        curve = curves(trials(seed), THRESHOLD, seed)[ALL]
        low, high = curve.interval(3.0, 8.0)
        inside["share"] += bool(low <= truth <= high)
        needed = curve.needed(0.5, 8.0)
        assert needed.low is not None
        inside["needed"] += needed.low <= truly_needed(0.5, 8.0) <= (np.inf if needed.high is None else needed.high)
    assert min(inside.values()) >= 33, inside


def test_defects_of_one_image_are_not_counted_as_independent() -> None:
    """The interval over images is wider than one over trials, if images differ."""
    dependent = trials(3, images=30, each=12, same_image=3.0)
    apart = [replace(each, image=number) for number, each in enumerate(dependent)]
    widths = [np.subtract(*reversed(curves(some, THRESHOLD)[ALL].interval(3.0, 8.0))) for some in (dependent, apart)]
    assert widths[0] > 1.3 * widths[1]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 30), st.floats(1, 200), st.booleans()), min_size=1, max_size=25),
    st.floats(1, 100),
)
def test_more_contrast_never_lowers_the_curve(found: list[tuple[float, float, bool]], extent: float) -> None:
    made = [
        replace(trials(images=1, each=1)[0], contrast=contrast, extent=size, score=THRESHOLD + (1 if seen else -1))
        for contrast, size, seen in found
    ]
    for curve in curves(made, THRESHOLD).values():
        values = curve(GRID, extent)
        assert np.isfinite(values).all()
        assert (np.diff(values) >= 0).all()
        assert all((np.diff(end) >= -1e-12).all() for end in curve.interval(GRID, extent))


@settings(max_examples=25, deadline=None)
@given(st.floats(0.05, 0.9), st.floats(2, 60), st.integers(0, 50))
def test_the_needed_contrast_lies_on_the_curve(share: float, extent: float, seed: int) -> None:
    curve = CURVES[seed % len(CURVES)]
    needed = curve.needed(share, extent)
    if needed.contrast is None:
        assert curve(curve.highest, extent) < share + 1e-9
    elif needed.contrast > LOWEST:
        assert curve(needed.contrast, extent) == pytest.approx(share, abs=1e-6)
    else:
        assert curve(LOWEST, extent) >= share - 1e-9
    low = 0.0 if needed.low is None and needed.contrast is not None else needed.low
    assert low is None or needed.contrast is None or low <= needed.contrast * 1.5 + 1e-9


CURVES = [curves(trials(seed), THRESHOLD)[ALL] for seed in range(3)]


def test_more_is_needed_to_find_more() -> None:
    for curve in CURVES:
        found = [curve.needed(share, 8.0).contrast or np.inf for share in (0.2, 0.5, 0.8, 0.95)]
        assert found == sorted(found)


def test_the_blind_never_reach_and_the_perfect_need_nothing() -> None:
    blind = curves([replace(each, score=0.0) for each in trials()], THRESHOLD)[ALL]
    assert float(blind(10.0, 32.0)) < 0.05
    assert blind.needed(0.5, 8.0).contrast is None
    assert blind.needed(0.5, 8.0).low is None
    perfect = curves([replace(each, score=20.0) for each in trials()], THRESHOLD)[ALL]
    assert float(perfect(0.3, 4.0)) > 0.95
    assert perfect.needed(0.95, 8.0).contrast == LOWEST


def test_a_judge_that_does_not_look_at_contrast_has_a_flat_curve() -> None:
    seen = [replace(each, score=20.0 if number % 2 else 0.0) for number, each in enumerate(trials())]
    curve = curves(seen, THRESHOLD)[ALL]
    assert float(curve(10.0, 8.0)) == pytest.approx(float(curve(0.5, 8.0)), abs=0.25)


def test_each_kind_has_its_curve_and_few_trials_follow_the_others() -> None:
    """A kind that is never found lies below the others; one trial of a kind moves it little."""
    made = [replace(each, score=0.0) if each.kind == "smear" else each for each in trials()]
    found = curves([*made, replace(made[0], kind="rare", contrast=3.0, extent=8.0, score=0.0)], THRESHOLD)
    assert set(found) == {ALL, "rare", *KINDS}
    assert float(found["smear"](6.0, 8.0)) < 0.25 < 0.7 < float(found["hole"](6.0, 8.0))
    lowest = min(float(found[kind](3.0, 8.0)) for kind in ("scratch", "stain", "hole"))
    assert float(found["smear"](3.0, 8.0)) < 0.5 * float(found["rare"](3.0, 8.0)) < 0.5 * lowest
    assert found["rare"].trials == 1


def test_the_curve_of_all_kinds_is_the_mean_of_theirs() -> None:
    """Weighted by trials: kinds that are seen at any contrast and others that never are make no flat curve."""
    made = [replace(each, score=20.0) if each.kind == "hole" else each for each in trials()]
    found = curves(made[:-100], THRESHOLD)
    mean = sum(found[kind].trials * found[kind](GRID, 8.0) for kind in KINDS) / sum(
        found[kind].trials for kind in KINDS
    )
    assert found[ALL](GRID, 8.0) == pytest.approx(mean)
    assert found["scratch"].slopes[0] == pytest.approx(2.0, abs=0.6)


def test_the_same_seed_gives_the_same_curve_with_any_number_of_threads() -> None:
    made = trials(images=100)

    def coefficients(threads: int) -> list[np.ndarray]:
        with threadpool_limits(threads):
            found = curves(made, THRESHOLD, 5)
        return [
            part for each in found.values() for part in (each.slopes, each.levels, each.drawn_slopes, each.drawn_levels)
        ]

    assert all((one == two).all() for one, two in zip(coefficients(1), coefficients(2), strict=True))
    assert not (curves(made, THRESHOLD, 6)[ALL].drawn_levels == curves(made, THRESHOLD, 5)[ALL].drawn_levels).all()


def test_the_order_of_the_trials_matters_to_the_last_digits_only() -> None:
    made = trials()
    one, two = curves(made, THRESHOLD)[ALL], curves(made[::-1], THRESHOLD)[ALL]
    assert isinstance(one, Curve)
    assert one.levels == pytest.approx(two.levels, abs=1e-8)
    assert one.drawn_slopes == pytest.approx(two.drawn_slopes, abs=1e-6)


def test_pieces_that_moved_stand_out_by_place_and_not_by_contrast() -> None:
    """Turned pieces that are never seen lower no contrast's curve; their own curve is flat."""
    made = trials()
    turned = [replace(each, kind="turned", score=0.0) for each in trials(1, images=20)]
    alone, both = curves(made, THRESHOLD), curves([*made, *turned], THRESHOLD)
    assert both[ALL](GRID, 8.0) == pytest.approx(alone[ALL](GRID, 8.0), abs=0.03)
    assert np.ptp(both["turned"](GRID, 8.0)) == 0
    only = curves(turned, THRESHOLD)[ALL]
    assert np.ptp(only(GRID, 8.0)) == 0
    assert only.needed(0.5, 8.0).contrast is None
