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
from typer.testing import CliRunner

from padim_edge_artifact import ArtifactError, ImageError, PadimEdgeError, read_verified
from padim_edge_artifact.container import _spans, replace_metadata
from padim_edge_learn.recalibrate import recalibrate
from padim_edge_model.calibration import calibrate, threshold
from padim_edge_runtime import Detector
from padim_edge_runtime.cli import app


@pytest.fixture
def good(tmp_path: Path) -> list[Path]:
    """Thirty good images that the golden models were not fitted on."""
    (folder := tmp_path / "good").mkdir()
    for i in range(30):
        drawn_images.good(100 + i).save(folder / f"{i:02d}.png")
    return sorted(folder.iterdir())


@pytest.fixture(params=[golden.WHOLE, golden.CROPPED], ids=["single file", "with data file"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    (folder := tmp_path / "model").mkdir()
    return golden.copy(request.param, folder)


def graph(model: Path) -> list[bytes]:
    """All fields of the file but the metadata."""
    content = model.read_bytes()
    return [content[start:stop] for start, stop, number, _ in _spans(content) if number != golden.METADATA_PROPS]


def test_the_threshold_is_the_quantile_of_the_new_scores_and_all_else_stays(model: Path, good: list[Path]) -> None:
    before, nodes = read_verified(model), graph(model)
    detector = Detector.load(model, "cpu")
    scores = [float(detector(detector.prepare(path)).score[0]) for path in good]
    recalibrate(model, good, false_alarm_rate=0.1, device="cpu")
    after = read_verified(model)
    assert after.calibration == calibrate(scores)
    assert after.threshold == pytest.approx(threshold(calibrate(scores), 0.1))
    assert (after.false_alarm_rate, after.extrapolated) == (0.1, False)
    assert graph(model) == nodes
    changed = {
        field.name for field in dataclasses.fields(after) if getattr(after, field.name) != getattr(before, field.name)
    }
    assert changed <= {"threshold", "threshold_rule", "false_alarm_rate", "extrapolated", "calibration", "digests"}
    assert dataclasses.replace(after.digests, model="") == dataclasses.replace(before.digests, model="")
    assert Detector.load(model, "cpu").self_test().passed
    np.testing.assert_array_equal(Detector.load(model, "cpu")(detector.prepare(good[0])).score, scores[:1])


def test_a_rate_beyond_the_images_is_marked_as_extrapolated(model: Path, good: list[Path]) -> None:
    after, _ = recalibrate(model, good, false_alarm_rate=0.001, device="cpu")
    assert after.extrapolated
    assert after.threshold > max(after.calibration.scores)


def test_unreadable_images_are_left_out_and_named(model: Path, good: list[Path]) -> None:
    good[3].write_bytes(b"torn")
    after, unreadable = recalibrate(model, good, false_alarm_rate=0.1, device="cpu")
    assert after.calibration.images == 29
    assert len(unreadable) == 1
    assert good[3].name in unreadable[0]


def test_too_few_images_change_nothing(model: Path, good: list[Path]) -> None:
    before = model.read_bytes()
    with pytest.raises(ImageError, match="there are 1 readable images, expected at least 2"):
        recalibrate(model, good[:1], false_alarm_rate=0.1, device="cpu")
    assert model.read_bytes() == before


@pytest.mark.parametrize("rate", [0.0, 1.0, -1.0, float("nan")])
def test_rates_outside_0_to_1_change_nothing(model: Path, good: list[Path], rate: float) -> None:
    before = model.read_bytes()
    with pytest.raises(PadimEdgeError, match="expected a share between 0 and 1"):
        recalibrate(model, good, false_alarm_rate=rate, device="cpu")
    assert model.read_bytes() == before


def test_a_damaged_model_is_not_written_to(model: Path, good: list[Path]) -> None:
    content = model.read_bytes()
    model.write_bytes(golden.flipped(content, len(content) // 2, 4))
    damaged = model.read_bytes()
    with pytest.raises(ArtifactError):
        recalibrate(model, good, false_alarm_rate=0.1, device="cpu")
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
