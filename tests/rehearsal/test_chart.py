"""The chart counts every trial once, and weak places are where more is missed than faintness explains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from drawn_trials import KINDS, THRESHOLD, trials

from padim_edge.evaluation.metrics import rate
from padim_edge.rehearsal.chart import CONTRASTS, chart
from padim_edge.rehearsal.foretold import ENOUGH, foretold
from padim_edge.rehearsal.trials import PLAIN_CONTRAST, PLAIN_EXTENT, Trial, plain
from padim_edge.rehearsal.weak import weak_map


def test_every_trial_is_counted_in_one_cell_and_one_kind() -> None:
    made = trials()
    found = chart(made, THRESHOLD)
    assert sum(each.found.total for each in found.cells if each.found) == len(made)
    assert sum(each.found.count for each in found.cells if each.found) == found.found.count
    assert sum(each.found.total for each in found.kinds) == len(made)
    assert {each.kind for each in found.kinds} == set(KINDS)
    assert len(found.cells) % (len(CONTRASTS) + 1) == 0


def test_plainly_visible_defects_fill_whole_cells() -> None:
    """Otherwise the chart's frame around them would lie."""
    made = trials(images=200)
    found = chart(made, THRESHOLD)
    inside = [
        each.found
        for each in found.cells
        if each.contrast[0] >= PLAIN_CONTRAST and each.extent[0] >= PLAIN_EXTENT and each.found
    ]
    assert found.plain is not None
    assert sum(each.total for each in inside) == found.plain.total == sum(map(plain, made))
    assert sum(each.count for each in inside) == found.plain.count


def test_a_score_at_the_threshold_is_not_found() -> None:
    made = [replace(each, score=THRESHOLD) for each in trials(images=2)]
    assert chart(made, THRESHOLD).found.count == 0
    assert chart(made, np.nextafter(THRESHOLD, 0)).found.count == len(made)


def test_the_interval_of_the_plain_share_widens_where_images_differ() -> None:
    alike, apart = trials(1), trials(1, same_image=6.0)
    for made in (alike, apart):
        found = chart(made, THRESHOLD)
        assert found.plain is not None
        assert found.spread is not None
        assert found.spread[0] <= found.plain.low <= found.plain.value <= found.plain.high <= found.spread[1]


def test_one_trial_makes_a_chart() -> None:
    (one,) = trials(images=1, each=1)
    found = chart([replace(one, contrast=0.0, extent=1.0)], THRESHOLD)
    assert found.plain is None
    assert found.spread is None
    assert found.needed == ()
    assert sum(each.found is not None for each in found.cells) == 1


def test_no_place_is_weak_where_all_places_are_alike() -> None:
    """At most one of eight sets of trials may cry wolf."""
    wrong = 0
    for seed in range(8):
        made = trials(seed, images=40)
        wrong += bool(weak_map(made, THRESHOLD, chart(made, THRESHOLD).curves).weak)
    assert wrong <= 1


def dead_corner(made: list[Trial]) -> list[Trial]:
    """Miss everything in the lower right."""
    return [replace(each, score=0.0) if min(each.place) > 0.6 else each for each in made]


def test_a_dead_corner_is_found() -> None:
    made = dead_corner(trials(2))
    found = weak_map(made, THRESHOLD, chart(made, THRESHOLD).curves)
    assert found.weak
    assert all(min(each.place) > 0.55 for each in found.weak)
    worst = found.weak[0]
    assert worst.found < worst.expected
    assert 0 <= worst.share < 0.25


def test_faint_and_small_defects_make_no_place_weak() -> None:
    """In the left half, all defects are so faint that the chart expects them to be missed."""
    rng = np.random.default_rng(1)
    made = []
    for each in trials(4, level=3.0, contrast_slope=4.0):
        faint = each.place[1] < 0.5
        contrast = 0.3 if faint else 8.0
        seen = rng.random() < (0.02 if faint else 0.98)
        made.append(replace(each, contrast=contrast, score=THRESHOLD + (1 if seen else -1)))
    assert not weak_map(made, THRESHOLD, chart(made, THRESHOLD).curves).weak


def test_places_far_from_all_trials_are_unknown() -> None:
    made = [replace(each, place=(0.2, 0.2)) for each in trials()]
    found = weak_map(made, THRESHOLD, chart(made, THRESHOLD).curves)
    assert np.isnan(found.share[-1, -1])
    assert np.isfinite(found.share[4, 4])


def test_a_true_chart_foretells_its_own_judge() -> None:
    """Other trials of the same judge fall short of the chart by sampling only: about 0.1 in groups of 15 to 40."""
    found = foretold(trials(2, images=60), trials(1, images=200), THRESHOLD, None)
    assert found.difference is not None
    assert found.difference < 0.12
    assert found.expected == pytest.approx(found.found.value, abs=0.06)
    assert sum(each.found.total for each in found.groups) == found.defects == 360
    assert found.counted == sum(each.found.total >= ENOUGH for each in found.groups)


def test_a_wrong_chart_does_not() -> None:
    found = foretold(trials(2, images=60, level=-3.0), trials(1, images=200, level=4.0), THRESHOLD, None)
    assert found.difference is not None
    assert found.difference > 0.3


def test_good_images_that_raise_alarms_raise_what_is_expected() -> None:
    drawn, real = trials(1), trials(2)
    half = rate(np.array([True, False]))
    plainly, extra = foretold(real, drawn, THRESHOLD, None), foretold(real, drawn, THRESHOLD, half)
    assert extra.expected == pytest.approx(0.5 + 0.5 * plainly.expected)


def test_long_thin_defects_are_foretold_by_their_area() -> None:
    """Drawn defects are round, and the judge looks at the area; real ones are ten times as long for the same area."""
    rounded = [replace(each, area=each.extent**2) for each in trials(1, images=200)]
    long = [replace(each, area=each.extent**2, extent=10 * each.extent) for each in trials(2)]
    found = foretold(long, rounded, THRESHOLD, None)
    assert found.expected == pytest.approx(found.found.value, abs=0.06)
    by_extent = foretold([replace(each, area=0.0) for each in long], rounded, THRESHOLD, None)
    assert by_extent.expected > found.found.value + 0.2
