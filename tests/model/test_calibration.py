"""Thresholds and p-values from the scores of good images alone."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.calibration import MOST_SCORES, Calibration
from padim_edge_model.calibration import calibrate, false_alarm_interval, p_value, threshold

SCORES = st.lists(st.floats(0.1, 100), min_size=1, max_size=60)
RATES = st.floats(1e-6, 0.999)


@given(scores=SCORES, rate=RATES, other=RATES)
def test_a_lower_rate_gives_a_higher_threshold(scores: list[float], rate: float, other: float) -> None:
    calibration = calibrate(scores)
    low, high = sorted((rate, other))
    assert threshold(calibration, low) >= threshold(calibration, high) - 1e-9


@given(scores=SCORES, asked=st.lists(st.floats(0, 1000), min_size=2, max_size=10))
def test_p_values_are_in_range_and_fall_with_the_score(scores: list[float], asked: list[float]) -> None:
    p = p_value(calibrate(scores), np.sort(asked))
    assert (p > 0).all()
    assert (p <= 1).all()
    assert (np.diff(p) <= 1e-12).all()


@given(scores=st.lists(st.floats(0.1, 100), min_size=5, max_size=60, unique_by=lambda x: round(x, 3)), rate=RATES)
def test_the_threshold_is_the_score_whose_p_value_is_the_rate(scores: list[float], rate: float) -> None:
    calibration = calibrate(scores)
    n = len(scores)
    if 1 / (n + 1) <= rate <= n / (n + 1):  # below the lowest score every p-value is 1
        assert p_value(calibration, threshold(calibration, rate)) == pytest.approx(rate, rel=1e-3, abs=1e-9)


@given(scores=SCORES, rate=RATES)
def test_a_rate_that_the_scores_cannot_resolve_takes_the_threshold_no_further(scores: list[float], rate: float) -> None:
    calibration = calibrate(scores)
    assert threshold(calibration, rate) <= max(calibration.scores)
    assert p_value(calibration, threshold(calibration, rate)) >= min(rate, 0.1 * calibration.resolution) * (1 - 1e-6)


@given(scores=SCORES, score=st.floats(0, 1000))
def test_no_p_value_claims_more_than_a_tenth_of_what_the_images_resolve(scores: list[float], score: float) -> None:
    calibration = calibrate(scores)
    assert p_value(calibration, score) >= 0.1 * calibration.resolution * (1 - 1e-9)


@cache
def drawn(n: int) -> list[tuple[Calibration, float]]:
    """4000 times the calibration of n scores, and one more score of the same skewed distribution."""
    draws = np.random.default_rng(n).gamma(4, 2, (4000, n + 1))
    return [(calibrate(row[:-1]), float(row[-1])) for row in draws]


@pytest.mark.parametrize("n", [20, 100, 400])
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1])
def test_the_next_good_image_is_an_alarm_at_the_named_rate(n: int, rate: float) -> None:
    """20 scores cannot measure 1 %, and give the smallest rate that they can."""
    alarms = [score > threshold(calibration, rate) for calibration, score in drawn(n)]
    resolved = max(rate, 1 / (n + 1))
    assert np.mean(alarms) == pytest.approx(resolved, abs=4 * np.sqrt(resolved / 4000))


def test_the_tail_is_right_where_it_is_known() -> None:
    """Exponential scores: the p-value of a score that a third of what 1000 of them resolve exceed, over 200 draws."""
    generator = np.random.default_rng(0)
    found = [float(p_value(calibrate(generator.exponential(1, 1000)), np.log(3003))) for _ in range(200)]
    assert 1 / 6006 < np.median(found) < 2 / 3003


def test_the_interval_holds_the_true_rate_as_often_as_it_says() -> None:
    """Uniform scores: the true rate of a threshold t is 1 - t. A one-sided interval errs on the safe side only."""
    generator = np.random.default_rng(0)
    for n, rate in ((20, 0.05), (20, 0.01), (100, 0.05), (400, 0.05)):
        hits = []
        for _ in range(300):
            calibration = calibrate(generator.uniform(0, 1, n))
            t = threshold(calibration, rate)
            low, high = false_alarm_interval(calibration, t)
            assert 0 <= low < high <= 1
            hits.append(low <= 1 - min(t, 1) <= high)
        assert np.mean(hits) >= 0.85


def test_the_interval_narrows_with_more_images() -> None:
    wide, narrow = (false_alarm_interval(calibrate(np.arange(1.0, n)), 0.95 * n) for n in (41, 401))
    assert wide[0] <= narrow[0]
    assert narrow[1] < wide[1]


def test_images_of_a_group_count_as_one() -> None:
    scores = np.random.default_rng(2).gamma(4, 2, 30)
    once = calibrate(scores)
    thrice = calibrate(np.repeat(scores, 3), np.repeat(np.arange(30), 3))
    assert thrice == once
    assert calibrate(scores, np.arange(30)) == once


@given(scores=SCORES, data=st.data())
def test_a_group_gives_one_of_its_neighbourhood_and_never_a_new_extreme(
    scores: list[float], data: st.DataObject
) -> None:
    groups = np.array(data.draw(st.lists(st.integers(0, 5), min_size=len(scores), max_size=len(scores))))
    found = calibrate(scores, groups)
    assert found.images == len(set(groups.tolist()))
    assert min(scores) - 1e-6 <= found.scores[0] <= found.scores[-1] <= max(scores) + 1e-6


def test_many_scores_are_summed_up_without_moving_the_threshold() -> None:
    scores = np.random.default_rng(1).gamma(4, 2, 20_000)
    calibration = calibrate(scores)
    assert len(calibration.scores) == MOST_SCORES
    assert calibration.images == 20_000
    shares = np.arange(20_000, 0, -1) / 20_001  # of good images above each score
    for rate in (0.5, 0.05, 0.01, 0.001):
        assert threshold(calibration, rate) == pytest.approx(np.interp(-rate, -shares, np.sort(scores)), rel=5e-3)


@pytest.mark.parametrize("scores", [[3.0], [3.0, 3.0], [2.0, 3.0], [5.0] * 50])
def test_few_or_equal_scores_do_not_break_it(scores: list[float]) -> None:
    calibration = calibrate(scores)
    for rate in (1e-4, 0.01, 0.5):
        assert threshold(calibration, rate) >= min(scores)
    assert 0 < p_value(calibration, 1e6) < calibration.resolution


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_rates_outside_0_to_1_are_refused(rate: float) -> None:
    with pytest.raises(PadimEdgeError, match="expected a share between 0 and 1"):
        threshold(calibrate([1.0, 2.0]), rate)


@pytest.mark.parametrize("scores", [[], [1.0, float("nan")], [float("inf")]])
def test_scores_that_are_missing_or_not_finite_are_refused(scores: list[float]) -> None:
    with pytest.raises(PadimEdgeError, match="missing or not finite"):
        calibrate(scores)
