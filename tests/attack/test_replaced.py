"""A model that another process replaces while it is loaded: the new one is loaded, and a loaded one stays as it is."""

from __future__ import annotations

from pathlib import Path

import golden as files
import numpy as np
import pytest

from padim_edge_artifact import ArtifactError, read_metadata
from padim_edge_learn import set_threshold
from padim_edge_runtime import Detector, detector


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model with a data file, as this version writes it."""
    path = tmp_path / "part.onnx"
    set_threshold.store(files.CROPPED, set_threshold.by_hand(read_metadata(files.CROPPED), 5.0), path)
    return path


def replace(model: Path, threshold: float) -> None:
    set_threshold.store(files.CROPPED, set_threshold.by_hand(read_metadata(files.CROPPED), threshold), model)


def test_the_new_model_is_loaded(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verified, calls = detector.verified, []

    def late(path: Path, product: str | None = None) -> object:
        found = verified(path, product)
        if not calls:
            replace(model, 7.0)
        calls.append(path)
        return found

    monkeypatch.setattr(detector, "verified", late)
    assert Detector.load(model, "cpu").metadata.threshold == 7.0
    assert len(calls) == 2


def test_a_model_that_is_replaced_without_end_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verified, calls = detector.verified, []

    def late(path: Path, product: str | None = None) -> object:
        found = verified(path, product)
        calls.append(path)
        replace(model, 5.0 + len(calls))
        return found

    monkeypatch.setattr(detector, "verified", late)
    with pytest.raises(ArtifactError, match="again and again"):
        Detector.load(model, "cpu")


def test_a_damaged_model_that_nobody_replaces_is_read_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verified, calls = detector.verified, []
    monkeypatch.setattr(detector, "verified", lambda path, product: calls.append(path) or verified(path, product))
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(ArtifactError):
        Detector.load(model, "cpu")
    assert len(calls) == 1


def test_a_loaded_model_keeps_its_answers(model: Path) -> None:
    loaded = Detector.load(model, "cpu")
    frame = np.full((*loaded.metadata.input_size, 3), 90, np.uint8)
    before = loaded(frame)
    replace(model, 7.0)
    after = loaded(frame)
    np.testing.assert_array_equal(before.anomaly_map, after.anomaly_map)
    assert after.threshold == 5.0
    assert Detector.load(model, "cpu").metadata.threshold == 7.0
