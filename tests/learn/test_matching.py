"""Images of a calibration are found among those of the fit, and strangers are refused."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_memory import parts
from hypothesis import given, settings
from hypothesis import strategies as st

from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.evidence import Evidence
from padim_edge_learn.matching import Matcher
from padim_edge_model.repeats import Recorder

FITTED = parts(20)


def evidence(frames: np.ndarray, named: list[str | None] | None = None) -> Evidence:
    recorder = Recorder(Evidence.nothing())
    for frame, name in zip(frames, named or [None] * len(frames), strict=True):
        recorder.add(frame, name)
    return recorder.evidence


def numbered(frames: np.ndarray) -> list[tuple[int, np.ndarray]]:
    return list(enumerate(frames))


@settings(max_examples=30, deadline=None)
@given(places=st.lists(st.integers(0, 19), max_size=30))
def test_any_of_the_images_in_any_order_are_found_at_their_places(places: list[int]) -> None:
    matcher = Matcher(evidence(FITTED))
    found = matcher.find(numbered(FITTED[places])) if places else []
    assert found == places
    assert [matcher.group(place) for place in found] == places
    assert not matcher.strangers
    matcher.refuse_strangers(len(places))


def test_a_noisy_copy_is_found_at_its_original_and_shares_its_group() -> None:
    draw = np.random.default_rng(0)
    noisy = (FITTED + draw.normal(0, 0.5, FITTED.shape)).round().clip(0, 255).astype(np.uint8)
    assert Matcher(evidence(FITTED)).find(numbered(noisy)) == list(range(20))
    matcher = Matcher(evidence(np.concatenate([FITTED, noisy])))
    assert matcher.groups.tolist() == 2 * list(range(20))


def test_named_groups_are_groups() -> None:
    matcher = Matcher(evidence(FITTED, [f"part {number % 5}" if number < 10 else None for number in range(20)]))
    assert [matcher.group(place) for place in range(20)] == [*range(5), *range(5), *range(5, 15)]


def test_strangers_are_counted_and_the_first_one_is_named() -> None:
    matcher = Matcher(evidence(FITTED))
    mixed = np.concatenate([FITTED[:3], parts(2, seed=99), FITTED[3:5]])
    matcher.find(numbered(mixed[:4]))
    matcher.find([(4 + number, frame) for number, frame in numbered(mixed[4:])])
    assert matcher.strangers == [3, 4]
    with pytest.raises(PadimEdgeError, match=r"2 of the 7 good images were not fitted on \(the first is number 4\)"):
        matcher.refuse_strangers(7)


def test_without_fingerprints_images_are_those_with_their_numbers() -> None:
    matcher = Matcher(Evidence.nothing())
    assert matcher.find([(7, FITTED[0]), (3, FITTED[0])]) == [7, 3]
    assert matcher.group(7) == 7
    matcher.refuse_strangers(2)
