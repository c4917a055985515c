"""A new threshold from held-out good images, and nothing else changed."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import drawn_images
import golden
import numpy as np
import pytest
from commands import run
from typer.testing import CliRunner

from padim_edge_artifact import ArtifactError, ImageError, PadimEdgeError, read_verified
from padim_edge_artifact.calibration import Calibration
from padim_edge_artifact.protobuf import spans as _spans
from padim_edge_artifact.rewriting import replace_metadata
from padim_edge_learn.intake import REASONS, NothingTakenError
from padim_edge_learn.recalibrate import (
    RULE,
    RULE_FITTED,
    RULE_UNKNOWN,
    HeldOutChoice,
    Recalibrated,
    outlier_limit,
    recalibrate,
)
from padim_edge_model.calibration import calibrate, threshold
from padim_edge_model.repeats import fingerprint, packed
from padim_edge_runtime import Detector
from padim_edge_runtime.cli import app


@pytest.fixture
def good(tmp_path: Path) -> list[Path]:
    """Thirty good images that the golden models were not fitted on. The lamp stands elsewhere for each."""
    (folder := tmp_path / "good").mkdir()
    across = np.linspace(-1, 1, 96)
    for i in range(30):
        light = 1.6 * ((i % 6 - 2.5) * across[None, :, None] + (i // 6 - 2) * across[:, None, None])
        lit = np.asarray(drawn_images.good(100 + i)) + light
        drawn_images.Image.fromarray(lit.round().clip(0, 255).astype(np.uint8)).save(folder / f"{i:02d}.png")
    return sorted(folder.iterdir())


@pytest.fixture(params=[golden.WHOLE, golden.CROPPED], ids=["single file", "with data file"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    (folder := tmp_path / "model").mkdir()
    return golden.copy(request.param, folder)


def remembering(model: Path, images: list[Path], fitted: int | None = None) -> Path:
    """The model, with the fingerprints of `images` as those of its fit."""
    metadata, detector = read_verified(model), Detector.load(model, "cpu")
    codes = np.stack([fingerprint(detector.prepare(path)) for path in images])
    of_fit = fitted or len(images)
    changed = dataclasses.replace(metadata, fingerprints=packed(codes), images=of_fit, independent=None)
    replace_metadata(model, changed)
    return model


def recalibrated(model: Path, images: list[Path], **options: object) -> Recalibrated:
    choice = HeldOutChoice(**{"false_alarm_rate": 0.1, **options})  # type: ignore[arg-type]
    return recalibrate(model, images, choice, device="cpu")


def reasons(made: Recalibrated | NothingTakenError) -> dict[str, str]:
    """Reason of each image that was set aside, by its name."""
    return {each.path.name: each.reason for each in made.set_aside}


def graph(model: Path) -> list[bytes]:
    """All fields of the file but the metadata."""
    content = model.read_bytes()
    return [content[start:stop] for start, stop, number, _ in _spans(content) if number != golden.METADATA_PROPS]


def test_the_threshold_is_the_quantile_of_the_new_scores_and_all_else_stays(model: Path, good: list[Path]) -> None:
    before, nodes = read_verified(model), graph(model)
    detector = Detector.load(model, "cpu")
    scores = [float(detector(detector.prepare(path)).score[0]) for path in good]
    recalibrated(model, good)
    after = read_verified(model)
    assert after.calibration == calibrate(scores)
    assert after.threshold == pytest.approx(threshold(calibrate(scores), 0.1))
    assert (after.false_alarm_rate, after.extrapolated) == (0.1, False)
    assert graph(model) == nodes
    changed = {
        field.name for field in dataclasses.fields(after) if getattr(after, field.name) != getattr(before, field.name)
    }
    assert changed <= {
        "threshold",
        "threshold_rule",
        "false_alarm_rate",
        "extrapolated",
        "calibration",
        "digests",
        "history",
    }
    assert dataclasses.replace(after.digests, model="") == dataclasses.replace(before.digests, model="")
    assert Detector.load(model, "cpu").self_test().passed
    np.testing.assert_array_equal(Detector.load(model, "cpu")(detector.prepare(good[0])).score, scores[:1])


def test_a_rate_beyond_the_images_is_marked_as_extrapolated(model: Path, good: list[Path]) -> None:
    after = recalibrated(model, good, false_alarm_rate=0.001).metadata
    assert after.extrapolated
    assert after.threshold == threshold(after.calibration, 0.001) >= max(after.calibration.scores)


def test_unreadable_images_are_left_out_and_named(model: Path, good: list[Path]) -> None:
    good[3].write_bytes(b"torn")
    made = recalibrated(model, good)
    assert made.metadata.calibration.images == made.taken == 29
    assert len(made.unreadable) == 1
    assert good[3].name in made.unreadable[0]


def test_too_few_images_change_nothing(model: Path, good: list[Path]) -> None:
    before = model.read_bytes()
    with pytest.raises(ImageError, match="there are 1 readable images, expected at least 2"):
        recalibrated(model, good[:1])
    assert model.read_bytes() == before


@pytest.mark.parametrize("rate", [0.0, 1.0, -1.0, float("nan")])
def test_rates_outside_0_to_1_change_nothing(model: Path, good: list[Path], rate: float) -> None:
    before = model.read_bytes()
    with pytest.raises(PadimEdgeError, match="expected a share between 0 and 1"):
        recalibrated(model, good, false_alarm_rate=rate)
    assert model.read_bytes() == before


def test_a_damaged_model_is_not_written_to(model: Path, good: list[Path]) -> None:
    content = model.read_bytes()
    model.write_bytes(golden.flipped(content, len(content) // 2, 4))
    damaged = model.read_bytes()
    with pytest.raises(ArtifactError):
        recalibrated(model, good)
    assert model.read_bytes() == damaged


def test_replacing_the_metadata_by_itself_gives_an_equal_model(model: Path) -> None:
    metadata = read_verified(model)
    assert replace_metadata(model, metadata) == read_verified(model)
    assert dataclasses.replace(read_verified(model), digests=metadata.digests) == metadata


def test_the_command_says_what_it_did(model: Path, good: list[Path]) -> None:
    before = read_verified(model).threshold
    arguments = [
        "recalibrate",
        str(model),
        str(good[0].parent),
        "--false-alarm-rate",
        "0.1",
        "--device",
        "cpu",
        "--json",
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["images"] == 30
    assert told["threshold_before"] == before
    assert told["threshold"] == read_verified(model).threshold
    shutil.rmtree(good[0].parent)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1, result.output
    assert "does not exist" in result.stderr


def test_images_of_the_fit_are_refused_and_the_model_stays(model: Path, good: list[Path]) -> None:
    before = remembering(model, good).read_bytes()
    with pytest.raises(
        NothingTakenError, match=r"none of 30 images can be taken \(30 fitted\).*--take fitted"
    ) as found:
        recalibrated(model, good)
    assert set(reasons(found.value).values()) == {"fitted"}
    _, stderr = run("recalibrate", model, good[0].parent, "--device", "cpu", code=1)
    assert "set aside: 20 more that are fitted" in stderr
    assert model.read_bytes() == before
    made = recalibrated(model, good, take=["fitted"])
    assert (made.taken, made.metadata.threshold_rule) == (30, RULE_FITTED)


def test_images_of_the_fit_among_others_change_nothing(model: Path, good: list[Path]) -> None:
    remembering(model, good[:10])
    made, alone = recalibrated(model, good), recalibrated(model, good[10:])
    assert reasons(made) == {path.name: "fitted" for path in good[:10]}
    assert made.metadata.threshold_rule == RULE
    assert (made.metadata.threshold, made.metadata.calibration) == (
        alone.metadata.threshold,
        alone.metadata.calibration,
    )


def test_a_model_that_remembers_only_some_of_its_images_takes_none_on_trust(model: Path, good: list[Path]) -> None:
    """The model knows 10 of 30 images of the fit; the others look new."""
    before = remembering(model, good[::3], fitted=30).read_bytes()
    with pytest.raises(NothingTakenError, match="remembers only 10 of its 30 images, so about 20 more"):
        recalibrated(model, good)
    assert model.read_bytes() == before


def test_a_model_without_fingerprints_does_not_claim_that_images_are_new(model: Path, good: list[Path]) -> None:
    replace_metadata(model, dataclasses.replace(read_verified(model), fingerprints=""))
    assert recalibrated(model, good).metadata.threshold_rule == RULE_UNKNOWN


def test_repeats_count_once(model: Path, good: list[Path]) -> None:
    copies = []
    for number, path in enumerate(good[:5] * 3):
        copies.append(good[0].parent / f"copy{number}.png")
        shutil.copyfile(path, copies[-1])
    once = recalibrated(model, good).metadata.calibration
    made = recalibrated(model, good + copies)
    assert reasons(made) == {path.name: "repeated" for path in copies}
    assert made.metadata.calibration == once
    taken = recalibrated(model, good + copies, take=["repeated"])
    assert (taken.taken, taken.metadata.calibration) == (45, once)
    assert "45 images, 30 independent" in str(taken)


def test_other_things_than_good_parts_are_set_aside_and_named(good: list[Path], tmp_path: Path) -> None:
    model = golden.copy(golden.WHOLE, tmp_path)
    drawn_images.Image.new("RGB", (96, 96)).save(good[0].parent / "black.png")
    for number in range(3):
        drawn_images.defective(200 + number)[0].save(good[0].parent / f"defect{number}.png")
    stdout, stderr = run("recalibrate", model, good[0].parent, "--device", "cpu", "--false-alarm-rate", 0.1, "--json")
    told = json.loads(stdout)
    found = {Path(each["path"]).name: each["reason"] for each in told["set_aside"]}
    assert found == {"black.png": "not comparable"} | {f"defect{number}.png": "anomalous" for number in range(3)}
    assert told["set_aside_by_reason"] == {"fitted": 0, "not comparable": 1, "anomalous": 3, "repeated": 0}
    assert told["taken"] == told["images"] == 30
    for name, reason in found.items():
        assert f"{name}: {reason}; " in stderr
    run("recalibrate", model, good[0].parent, "--device", "cpu", "--take", "anomalous,not-comparable")
    assert read_verified(model).calibration.images == 34


@pytest.mark.parametrize("take", ["defective", "", "fitted;repeated"])
def test_other_words_for_take_are_one_sentence(model: Path, good: list[Path], take: str) -> None:
    before = model.read_bytes()
    _, stderr = run("recalibrate", model, good[0].parent, "--take", take, code=1)
    assert "expected fitted, not-comparable, anomalous, repeated or all" in stderr
    assert model.read_bytes() == before


def test_the_threshold_before_can_be_had_back(model: Path, good: list[Path]) -> None:
    before = read_verified(model)
    recalibrated(model, good)
    assert read_verified(model).history[-1].reason == "recalibrate"
    run("threshold", model, "--previous")
    after = read_verified(model)
    assert (after.threshold, after.threshold_rule, after.calibration) == (
        before.threshold,
        before.threshold_rule,
        before.calibration,
    )


def test_a_copy_leaves_the_model_alone(model: Path, good: list[Path], tmp_path: Path) -> None:
    before, copy = model.read_bytes(), tmp_path / "copy.onnx"
    stdout, _ = run("recalibrate", model, good[0].parent, "--device", "cpu", "--output", copy)
    assert stdout.startswith(f"{copy}: threshold ")
    assert model.read_bytes() == before
    assert read_verified(copy).threshold != read_verified(model).threshold
    assert Detector.load(copy, "cpu").self_test().passed
    _, stderr = run("recalibrate", model, good[0].parent, "--output", tmp_path / "no" / "copy.onnx", code=1)
    assert "does not exist" in stderr


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_outliers_are_found_at_any_level_of_the_scores_and_good_images_are_not(factor: float) -> None:
    """Scores that rise as a whole, as under another lamp, are what a recalibration is for."""
    draw = np.random.default_rng(5)
    usual = Calibration(100, tuple(np.sort(draw.lognormal(2.3, 0.15, 100))))
    for few in (5, 20, 60):
        scores = factor * draw.lognormal(2.3, 0.15, few)
        highest = outlier_limit(scores, usual, 0.0)
        assert scores.max() < highest < 4 * factor * 10
        for bad in range(few // 6):
            scores[bad] = 40 * factor
        assert np.sort(scores)[few // 6 : -1 - few // 6].max() < outlier_limit(scores, usual, 0.0) < 40 * factor
    assert outlier_limit(scores, usual, 1e9) == 1e9
    assert set(REASONS) == {"fitted", "not comparable", "anomalous", "repeated"}
