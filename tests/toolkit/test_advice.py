"""Advice after an evaluation follows from its figures, and is silent where nothing is wrong."""

from __future__ import annotations

import dataclasses

import golden
import numpy as np
import pages
import pytest

from padim_edge.evaluation.advice import Advice, Found, advice
from padim_edge.evaluation.metrics import image_metrics
from padim_edge.evaluation.operating import Origin, operating_points
from padim_edge_artifact import Metadata, read_metadata
from padim_edge_artifact.method import Bank
from padim_edge_model.calibration import calibrate, threshold

MODEL = read_metadata(golden.WHOLE)
DRAW = np.random.default_rng(0)
USUAL = np.sort(DRAW.normal(10, 1, 200))
"""Scores of good images outside the fit."""


def model(scores: np.ndarray = USUAL, images: int = 200, rate: float = 0.01) -> Metadata:
    calibration = calibrate(scores)
    return dataclasses.replace(
        MODEL,
        images=images,
        independent=None,
        fingerprints="",
        calibration=calibration,
        threshold=threshold(calibration, rate),
        false_alarm_rate=rate,
    )


def told(
    metadata: Metadata, good: np.ndarray, anomalous: np.ndarray, missed: tuple[float, ...] = ()
) -> tuple[Advice, ...]:
    labels = np.repeat([False, True], [len(good), len(anomalous)])
    scores = np.concatenate([good, anomalous])
    image = image_metrics(labels, scores, metadata.threshold)
    origin = Origin("part.onnx", ("data set",))
    points = operating_points(metadata, labels, scores, image.best_f1_threshold, origin)
    return advice(Found(metadata, image, points, missed, origin))


GOOD = np.linspace(8, 11.5, 40)
FAR, NEAR, MIXED = DRAW.normal(30, 2, 60), DRAW.normal(12.2, 0.3, 60), DRAW.normal(10.7, 1, 60)


def test_where_little_is_wrong_nothing_is_advised() -> None:
    assert told(model(), GOOD, FAR) == ()
    one_missed = np.append(FAR, 9.0)
    assert told(model(images=20), GOOD, one_missed) == (), "one miss among 61 is no finding"


def test_a_threshold_that_is_too_high_comes_first_with_what_it_would_change() -> None:
    metadata = model(rate=0.001)
    first, *others = told(metadata, GOOD, NEAR)
    assert "the threshold is too high" in first.sentence
    assert f"instead of {int((metadata.threshold >= NEAR).sum())}," in first.sentence
    assert first.command.startswith("padim-edge threshold part.onnx --false-alarm-rate 0.")
    rate = float(first.command.split()[-1])
    misses = int((threshold(metadata.calibration, rate) >= NEAR).sum())
    alarms = int((threshold(metadata.calibration, rate) < GOOD).sum())
    assert f"misses {misses} of 60" in first.sentence
    assert f"with {alarms} of 40 false alarms" in first.sentence
    assert others == [], "the scores separate well, so the method is not the fault"


def test_one_odd_good_image_and_few_images_are_named() -> None:
    odd = np.append(USUAL[:30], 25.0)
    steps = told(model(odd, images=31), GOOD, NEAR)
    kinds = [each.command.split()[1] for each in steps]
    assert kinds == ["threshold", "export", "export"]
    assert "1 of the good images is unlike the others: the score is 25.00" in steps[1].sentence
    assert steps[1].command.endswith("--data 'data set' --suspects FOLDER")
    assert "31 good images" in steps[2].sentence
    independent = dataclasses.replace(model(images=300), independent=40)
    assert any("40 independent good images" in each.sentence for each in told(independent, GOOD, NEAR - 0.5))


def test_scores_that_overlap_ask_for_another_method() -> None:
    steps = told(model(), GOOD, MIXED)
    assert any(each.command.endswith("--preset accurate") for each in steps)
    assert not any("too high" in each.sentence for each in steps)
    accurate = dataclasses.replace(model(), method=dataclasses.replace(MODEL.method, preset="accurate"))
    assert not any(each.command.endswith("--preset accurate") for each in told(accurate, GOOD, MIXED))


def test_parts_that_lie_freely_and_parts_that_do_not_ask_for_the_other_kind_of_model() -> None:
    def presets(metadata: Metadata) -> list[str]:
        return [each.command.split()[-1] for each in told(metadata, GOOD, MIXED) if "overlap" in each.sentence]

    assert presets(model()) == ["accurate", "free"]
    accurate = dataclasses.replace(model(), method=dataclasses.replace(MODEL.method, preset="accurate"))
    assert presets(accurate) == ["free"]
    memory = dataclasses.replace(
        model(), method=dataclasses.replace(MODEL.method, preset="free", bank=Bank()), prototypes=9
    )
    assert presets(memory) == ["accurate"]


def test_false_alarms_beyond_the_rate_ask_for_fresh_good_images() -> None:
    steps = told(model(), GOOD + 5, FAR)
    assert [each.command.split()[1] for each in steps] == ["infer", "recalibrate"]
    assert "more than the 1 %" in steps[0].sentence
    assert told(model(), np.append(GOOD[:19], 50.0), FAR) == (), "1 of 20 may be chance"


@pytest.mark.parametrize("anomalous", [NEAR, MIXED, MIXED[:0]])
@pytest.mark.parametrize("good", [GOOD, GOOD + 5, GOOD[:0]])
def test_every_command_exists_and_every_sentence_ends(good: np.ndarray, anomalous: np.ndarray) -> None:
    """Whatever is lacking. `--suspects` is checked where `export` has it."""
    if not len(good) and not len(anomalous):
        return
    for step in told(model(np.append(USUAL[:30], 25.0), images=31), good, anomalous, (0.001,)):
        assert step.sentence.endswith(".")
        assert step.sentence[0].isupper() or step.sentence[0].isdigit()
        (words,) = pages.calls(f"```sh\n{step.command}\n```")
        assert pages.wrong(words) in (None, "no options ['--suspects'] of export")
