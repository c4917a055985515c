"""Fitted statistics and the models made of them: in memory, from a file, and in a precision that needs another fit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from small_models import dataset, export_model, fitted, judged, rounded_to_nearest, small, weave

from padim_edge.datasets import Dataset
from padim_edge.fitted import Fitted, load_fitted
from padim_edge_artifact import ImageError, PadimEdgeError
from padim_edge_artifact.kept import write_kept
from padim_edge_artifact.method import Precision
from padim_edge_runtime import Detector

COUNT = 40


@pytest.fixture(scope="module")
def part() -> Dataset:
    return dataset(weave(COUNT))


@pytest.fixture(scope="module")
def whole(part: Dataset) -> Fitted:
    return fitted(part, small("edge"))


def _torn() -> None:
    raise ImageError("it is torn")


@pytest.mark.parametrize("name", ["fp32", "fp16", "int8"])
def test_kept_statistics_give_the_model_that_fitting_gives(part: Dataset, tmp_path: Path, name: str) -> None:
    with rounded_to_nearest():
        model = export_model(part, tmp_path / "a.onnx", small("edge", precision=Precision(name)))
    write_kept(tmp_path / "a.npz", model.kept)
    found = load_fitted(tmp_path / "a.npz", part)
    again = found.export(tmp_path / "b.onnx", progress=False)
    assert again.metadata.statistics == model.metadata.statistics == found.kept.statistics.digest()
    assert dataclasses.replace(again.metadata, digests=model.metadata.digests) == model.metadata
    detectors = [Detector.load(tmp_path / each, "cpu") for each in ("a.onnx", "b.onnx")]
    assert all(each.self_test().passed for each in detectors)
    frames = np.stack([detectors[0].prepare(image) for image in judged()])
    one, other = (each(frames).patch_distance for each in detectors)
    assert np.array_equal(one, other)


def test_a_few_of_the_images_are_enough_to_calibrate(whole: Fitted, part: Dataset, tmp_path: Path) -> None:
    whole.save(tmp_path / "a.npz")
    some = load_fitted(tmp_path / "a.npz", dataclasses.replace(part, good=part.good[:12]))
    about = some.export(tmp_path / "b.onnx", precision=Precision(rank=5), progress=False).metadata
    assert (about.images, about.calibration.images, about.precision.rank) == (COUNT, 12, 5)


def test_what_kept_statistics_cannot_give_is_refused(whole: Fitted, part: Dataset, tmp_path: Path) -> None:
    whole.save(tmp_path / "a.npz")
    found = load_fitted(tmp_path / "a.npz", part)
    with pytest.raises(PadimEdgeError, match="fitted in fp32 for cpu, so the model cannot be in int8"):
        found.export(tmp_path / "b.onnx", precision="int8", progress=False)
    torn = dataclasses.replace(part, good=(dataclasses.replace(part.good[0], read=_torn),))
    with pytest.raises(PadimEdgeError, match="none of the good images can be read"):
        load_fitted(tmp_path / "a.npz", torn).export(tmp_path / "b.onnx", progress=False)
    lonely = dataclasses.replace(found.kept, statistics=dataclasses.replace(found.kept.statistics, count=1))
    with pytest.raises(PadimEdgeError, match="expected at least 2"):
        dataclasses.replace(found, kept=lonely).export(tmp_path / "b.onnx", progress=False)
    assert not (tmp_path / "b.onnx").exists()
