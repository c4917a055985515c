"""The verdict in words: it says what the figures say, warns of blindness, and promises nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from drawn_trials import THRESHOLD, trials
from golden import WHOLE

from padim_edge.evaluation.operating import Origin
from padim_edge.rehearsal.curve import Needed
from padim_edge.rehearsal.result import Rehearsal
from padim_edge.rehearsal.trials import Good, Trial, plain
from padim_edge.rehearsal.verdict import BLIND, CAUTION, SEES, WEAK, place_in_words, sentence_needed
from padim_edge.rehearsal.written import needed_text, span_text
from padim_edge_artifact import read_metadata

METADATA = replace(read_metadata(WHOLE), threshold=THRESHOLD, class_name="weave")
GOOD = tuple(Good(number, f"{number}.png", 5.0) for number in range(60))


def rehearsal(made: list[Trial]) -> Rehearsal:
    return Rehearsal(METADATA, GOOD, tuple(made), 0, origin=Origin("a model.onnx"))


def with_plain_found(share: float) -> Rehearsal:
    """A rehearsal of 100 plainly visible defects, of which this share is found, and as many faint ones."""
    (one,) = trials(images=1, each=1)
    seen = round(100 * share)
    made = [
        replace(one, contrast=5.0, extent=20.0, image=i % 50, score=THRESHOLD + (1 if i < seen else -1))
        for i in range(100)
    ]
    return rehearsal([*made, *(replace(each, contrast=1.0, score=0.0) for each in made)])


@pytest.mark.parametrize(
    ("share", "level"), [(0.0, BLIND), (0.49, BLIND), (0.5, WEAK), (0.79, WEAK), (0.8, SEES), (1.0, SEES)]
)
def test_plainly_visible_defects_decide_and_faint_ones_do_not(share: float, level: str) -> None:
    found = with_plain_found(share)
    assert found.level == level
    count = f"{round(100 * share)} of 100 plainly visible"
    assert count in found.verdict[0]
    assert count in found.line
    assert ("NEARLY BLIND" in found.verdict[0]) == found.line.startswith("WARNING") == (level == BLIND)
    assert bool(found.remedies) == (level != SEES)


def test_without_plainly_visible_defects_nothing_is_called_plain() -> None:
    found = rehearsal([replace(each, contrast=0.5) for each in trials()])
    assert found.chart.plain is None
    assert "None of the drawn defects is plainly visible" in found.verdict[0]
    assert "none of them plainly visible" in found.line


@pytest.mark.parametrize("seed", range(4))
def test_no_sentence_promises_a_miss_rate(seed: int) -> None:
    found = rehearsal(trials(seed, level=float(seed * 2 - 3)))
    assert found.verdict[-1] == CAUTION
    assert "miss rate" not in str(found)
    for sentence in (*found.verdict, *(each.sentence for each in found.remedies)):
        assert sentence.endswith(".")
        assert sentence[0].isupper()


def test_sentences_have_the_contrast_that_the_curve_needs() -> None:
    found = rehearsal(trials(images=200))
    needed = found.chart.curve.needed(0.9, 8.0)
    assert needed.contrast is not None
    words = f"A defect of 8 px must stand out by {needed.contrast:.1f} ("
    assert any(each.startswith(words) and "9 of 10 places" in each for each in found.verdict)


def test_a_size_that_is_never_enough_is_said_to_be_so() -> None:
    blind = rehearsal([replace(each, score=0.0) for each in trials()])
    assert any(each.startswith("No size up to 32 px is found in 9 of 10 places") for each in blind.verdict)
    large_only = rehearsal(
        [replace(each, score=THRESHOLD + (1 if each.extent > 20 and each.contrast > 2 else -1)) for each in trials()]
    )
    assert any(each.startswith("At 8 px, fewer than 9 of 10 defects are found") for each in large_only.verdict)
    assert any(each.startswith("A defect of 32 px must stand out by") for each in large_only.verdict)


def test_the_kinds_at_both_ends_are_named() -> None:
    made = [replace(each, score={"hole": 20.0, "smear": 0.0}.get(each.kind, each.score)) for each in trials(images=100)]
    (sentence,) = [each for each in rehearsal(made).verdict if each.startswith("Found most often")]
    assert "a hole (150 of 150" in sentence
    assert "least often: a smear (0 of 150)" in sentence


def test_few_plain_defects_make_the_verdict_uncertain() -> None:
    made = trials(images=4)
    count = sum(map(plain, made))
    assert 0 < count < 20
    assert any(f"rests on {count} defects only" in each for each in rehearsal(made).verdict)


def test_another_rate_is_advised_where_it_finds_many_more() -> None:
    """Scores just below the stored threshold, above that of a false-alarm rate of 10 %."""
    scores = tuple(float(value) for value in range(1, 101))
    calibration = replace(METADATA.calibration, images=100, scores=scores)
    strict = replace(METADATA, threshold=99.0, false_alarm_rate=0.01, calibration=calibration)
    made = [replace(each, score=95.0, before=50.0) for each in trials()]
    found = replace(rehearsal(made), metadata=strict)
    (advised,) = [each for each in found.remedies if "Another false-alarm rate" in each.sentence]
    assert advised.command == "padim-edge threshold 'a model.onnx' --false-alarm-rate 0.1"
    at = next(each for each in found.points if each.name == "10 %")
    assert at.miss is not None
    assert at.miss.count == 0
    assert f"{at.miss.total} of {at.miss.total}" in advised.sentence
    hopeless = replace(found, trials=tuple(replace(each, score=10.0) for each in made))
    assert not any("Another false-alarm rate" in each.sentence for each in hopeless.remedies)


def test_too_many_false_alarms_are_told() -> None:
    alarming = tuple(replace(each, score=20.0) for each in GOOD)
    found = replace(rehearsal(trials()), good=alarming)
    assert any(each.startswith("60 of 60 new good images raise an alarm") for each in found.verdict)
    assert not any("raise an alarm" in each for each in rehearsal(trials()).verdict)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ((0.5, 0.5), "in the middle"),
        ((0.1, 0.1), "at the upper left"),
        ((0.9, 0.5), "in the lower part"),
        ((0.5, 0.9), "at the right"),
    ],
)
def test_places_have_words(place: tuple[float, float], words: str) -> None:
    assert place_in_words(place) == words


@pytest.mark.parametrize(
    ("needed", "words"),
    [
        (Needed(0.9, 8.0, 2.0, 1.5, 3.0), "2.0 (1.5 to 3.0)"),
        (Needed(0.9, 8.0, 2.0, 1.5, None), "2.0 (1.5 or more)"),
        (Needed(0.9, 8.0, None, 5.0, None), "not reached (5.0 or more)"),
        (Needed(0.9, 8.0, None, None, None), "not reached"),
    ],
)
def test_needed_contrasts_are_written_with_their_interval(needed: Needed, words: str) -> None:
    assert needed_text(needed) == words
    if needed.contrast is not None:
        assert sentence_needed("orange spot", needed).startswith("An orange spot of 8 px must stand out by " + words)


def test_spans_are_written_without_their_missing_ends() -> None:
    assert [span_text(each) for each in ((0.0, 4.0), (4.0, 8.0), (6.0, None))] == ["under 4", "4 to 8", "6 and more"]
