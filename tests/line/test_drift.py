"""Drift: no alarm without a change, and a sentence that says what has changed, once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import golden
import numpy as np
import pytest
from observations import GRID, changed, darker, drawn, fed, learned

from padim_edge_line.drift import Monitor, Observation, Observer
from padim_edge_line.drift.baseline import IMAGES
from padim_edge_runtime import Detector


def _regions(seen: Observation, add: dict[int, float]) -> Observation:
    return replace(seen, regions=tuple(value + add.get(i, 0.0) for i, value in enumerate(seen.regions)))


ALTERATIONS: dict[str, tuple[Callable[[Observation, int], Observation], str, str]] = {
    "exposure ramp": (darker, "light", "the light has become darker by"),
    "brighter": (
        lambda seen, _: replace(seen, brightness=seen.brightness + 6, contrast=1.04 * seen.contrast),
        "light",
        "brighter",
    ),
    "flatter": (lambda seen, _: replace(seen, contrast=0.96 * seen.contrast), "light", "has become flatter"),
    "moved": (
        lambda seen, _: replace(seen, shift=(seen.shift[0] + 2, seen.shift[1] - 1)),
        "place",
        " % of the width to the right and ",
    ),
    "region": (lambda seen, _: _regions(seen, {6: 0.12}), "region", "upper row, right (its distances have risen by"),
    "part": (
        lambda seen, _: _regions(replace(seen, score=1.2 * seen.score), dict.fromkeys(range(16), 0.18)),
        "scores",
        "as a whole have risen by",
    ),
    "spread": (
        lambda seen, n: replace(seen, score=seen.score * (1.3 if n % 2 else 0.75)),
        "scores",
        "spread more than before",
    ),
}


@pytest.mark.parametrize("steady", [0.0, 0.9])
def test_ten_thousand_good_images_without_a_change_raise_one_alarm_at_most(steady: float) -> None:
    """A lamp that flickers slowly is no change where it did so from the beginning."""
    assert len(fed(learned(steady=steady), drawn(10_000, 5, steady=steady))) <= 1


def test_an_exposure_ramp_is_found_before_the_sixtieth_image() -> None:
    number, change = fed(learned(), changed(darker))[0]
    assert number < 60
    assert change.kind == "light"
    assert 10_000 - 60 <= change.since <= 10_000 + number


@pytest.mark.parametrize("name", ALTERATIONS)
def test_it_says_what_has_changed_and_says_it_once(name: str) -> None:
    alter, kind, words = ALTERATIONS[name]
    monitor = learned()
    found = fed(monitor, changed(alter, 400))
    assert [change.kind for _, change in found] == [kind]
    assert found[0][0] < 150
    assert "since about" in found[0][1].sentence
    assert words in found[0][1].sentence
    assert monitor.lasting == (found[0][1],)


def test_a_clock_that_is_set_back_does_not_matter() -> None:
    found = fed(learned(), (replace(darker(seen, i), time=-i) for i, seen in enumerate(drawn(100, 2))))
    assert [change.kind for _, change in found] == ["light"]


def test_it_tells_when_the_change_is_over_and_finds_the_next_one() -> None:
    monitor = learned()
    assert fed(monitor, changed(darker))
    over = fed(monitor, drawn(300, 7, start=20_000))
    assert [(change.kind, change.over) for _, change in over] == [("light", True)]
    assert not monitor.lasting
    again = fed(monitor, changed(lambda seen, _: _regions(seen, {0: 0.12})))
    assert [change.kind for _, change in again] == ["region"]


def test_images_that_are_not_good_do_not_count() -> None:
    monitor = Monitor("digest", GRID)
    fed(monitor, (replace(seen, good=False) for seen in drawn(300)))
    assert monitor.learned == 0
    monitor = learned()
    assert not fed(monitor, (replace(darker(seen, 200), good=False) for seen in drawn(200)))


def test_a_restart_changes_nothing() -> None:
    monitor = Monitor("digest", GRID)
    images = list(drawn(600, 1))
    fed(monitor, iter(images[:200]))
    monitor = Monitor.restored(json.loads(json.dumps(monitor.state())))
    assert (monitor.model, monitor.learned) == ("digest", 200)
    fed(monitor, iter(images[200:]))
    whole = learned()
    state = json.loads(json.dumps(whole.state()))
    assert monitor.state() == state
    found = fed(Monitor.restored(state), changed(darker))
    assert abs(found[0][0] - fed(whole, changed(darker))[0][0]) < 10  # only the charts' sums begin anew
    lasting = Monitor.restored(json.loads(json.dumps(whole.state())))
    assert lasting.lasting == whole.lasting
    assert not fed(lasting, changed(darker, 300, 9))
    assert [change.over for _, change in fed(lasting, drawn(300, 4))] == [True]


def test_a_state_that_is_none_is_refused() -> None:
    state = learned().state()
    for wrong in ({}, {**state, "baseline": {"values": "AAAA"}}, {**state, "first": [[1, 2.0]]}, {**state, "grid": 3}):
        with pytest.raises(ValueError, match=r"\w"):
            Monitor.restored(wrong)


def test_equal_images_leave_room_for_differences_that_mean_nothing() -> None:
    first = next(drawn(1))
    monitor = Monitor("digest", GRID)
    fed(monitor, (replace(first, time=i) for i in range(600)))
    assert not fed(monitor, (replace(first, brightness=first.brightness + 0.3, time=i) for i in range(500)))
    assert fed(monitor, (replace(first, brightness=first.brightness + 3, time=i) for i in range(100)))


def test_an_image_with_a_missed_defect_leaves_the_unfinished_baseline() -> None:
    monitor = Monitor("digest", GRID)
    fed(monitor, drawn(IMAGES - 1))
    monitor.forget(7)
    assert monitor.learned == IMAGES - 2
    monitor.restart()
    assert monitor.learned == 0


@pytest.mark.parametrize("model", [golden.WHOLE, golden.CROPPED])
def test_an_observation_has_the_numbers_of_the_inspection(model: object) -> None:
    detector = Detector.load(str(model), "cpu")
    pixels = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    inspection = detector.inspect(pixels)
    seen = Observer(detector.metadata)(inspection, 5)
    assert (seen.time, seen.score, seen.good) == (5, inspection.score, inspection.verdict == "good")
    distance = detector(detector.prepare(pixels)[None]).patch_distance[0]
    h, w = distance.shape
    assert seen.regions[0] == pytest.approx(float(np.log(distance[: h // 4, : w // 4].mean())), rel=1e-5)
    assert len(seen.regions) == 16
    assert 0 < seen.brightness < 255
    assert "check" not in inspection.to_json()
