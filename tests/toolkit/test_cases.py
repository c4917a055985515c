"""The images of a report: errors first, and from each side some that are typical, borderline and best."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from padim_edge.datasets import GOOD, Item
from padim_edge.evaluation.cases import BEST, BORDERLINE, TYPICAL, WORST, Scored, shown
from padim_edge_runtime.image_files import Decoded


def unread() -> Decoded:
    raise AssertionError("choosing reads no image")


def scored(kind: str, scores: list[float]) -> list[Scored]:
    return [Scored(Item(f"{kind}/{i}.png", kind, unread, None), score) for i, score in enumerate(scores)]


@given(st.lists(st.integers(0, 20), max_size=30), st.lists(st.integers(0, 20), max_size=30), st.integers(0, 20))
def test_no_image_is_shown_twice_and_each_side_is_in_order(good: list[int], bad: list[int], threshold: int) -> None:
    images = scored(GOOD, list(map(float, good))) + scored("hole", list(map(float, bad)))
    found = shown(images, threshold)
    names = [each.item.name for each in (*found.misses, *found.false_alarms)]
    names += [each.item.name for _, each in (*found.good, *found.anomalous)]
    assert len(names) == len(set(names))
    assert len(names) <= 28
    assert [each.score for _, each in found.anomalous] == sorted(each.score for _, each in found.anomalous)
    assert [each.score for _, each in found.good] == sorted((each.score for _, each in found.good), reverse=True)
    assert all(each.item.kind == "hole" and each.score <= threshold for each in found.misses)
    assert all(each.item.kind == GOOD and each.score > threshold for each in found.false_alarms)
    if bad:  # whatever goes right or wrong, both ends are there
        worst = min(bad)
        assert worst in [each.score for each in (*found.misses, *(each for _, each in found.anomalous))]
    if len(bad) > 14:
        assert max(bad) in [each.score for _, each in found.anomalous]


def test_the_reasons_are_right() -> None:
    found = shown(scored(GOOD, [1, 2, 3, 4, 5, 6, 7, 8, 9]) + scored("hole", [21, 31, 32, 33, 34, 35, 49, 50]), 20)
    assert [(reason, each.score) for reason, each in found.good] == [
        (WORST, 9), (WORST, 8), (BORDERLINE, 7), (BORDERLINE, 6), (TYPICAL, 5), (TYPICAL, 4), (BEST, 2), (BEST, 1),
    ]  # fmt: skip
    assert [reason for reason, _ in found.anomalous] == [
        WORST, WORST, BORDERLINE, BORDERLINE, TYPICAL, TYPICAL, BEST, BEST,
    ]  # fmt: skip
    wrong = shown(scored("hole", [5, 19.9, 20.5, 30, 40, 50]), 20)
    assert [each.score for each in wrong.misses] == [5, 19.9]
    assert WORST not in [reason for reason, _ in wrong.anomalous], "the misses are"
    assert wrong.anomalous[0] == (BORDERLINE, wrong.anomalous[0][1])
