"""Rehearsals without new images: models of parts of the good images judge the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import make_golden
import numpy as np
import pytest
from golden import WHOLE

import padim_edge
from padim_edge import sample
from padim_edge.datasets import from_source
from padim_edge.frames import numbered_frames
from padim_edge.gather import gather
from padim_edge.network import Exported
from padim_edge.rehearsal.folds import LEFT_OUT, Made, rehearse_left_out
from padim_edge.rehearsal.outcome import RehearsalOptions
from padim_edge.rehearsal.rehearse import rehearse_fitted_again
from padim_edge.start import prepared
from padim_edge_artifact import PadimEdgeError, read_metadata
from padim_edge_export import embedding
from padim_edge_learn.assemble import ModelOptions
from padim_edge_learn.held_out import GoodImages
from padim_edge_runtime.progress import SILENT

pytestmark = pytest.mark.slow  # torch exports the backbones, which takes longer than all other tests of this folder


@pytest.fixture(scope="module")
def made() -> Made:
    """Statistics, images and options of the golden model."""
    toy, good, method = make_golden.trunk(), make_golden.dataset(), make_golden.WHOLE
    begun = prepared(good, method, Exported(toy.description, embedding.build(toy, method)))
    kept, _ = gather(begun, good.good)
    images = GoodImages(numbered_frames(good.good, method.preprocessing, {}), len(good.good))
    return Made(kept, images, ModelOptions(method.precision, "a test"), tuple(each.name for each in good.good))


def test_every_good_image_is_judged_once_by_a_model_of_the_others(made: Made) -> None:
    metadata = read_metadata(WHOLE)
    found = rehearse_left_out(made, metadata, RehearsalOptions(30))
    assert sorted(each.image for each in found.good) == list(range(24))
    assert {each.name for each in found.good} == set(made.paths)
    assert found.how == LEFT_OUT
    assert 1 <= found.scale < 3
    assert [each.image for each in found.trials if each.image == 3] == [3, 3]
    assert len(found.trials) == 48
    usual = np.median(metadata.calibration.scores)
    assert np.median([each.score for each in found.good]) == pytest.approx(usual, rel=0.25)


def test_the_same_seed_gives_the_same_rehearsal(made: Made) -> None:
    metadata = read_metadata(WHOLE)
    one, two, other = (rehearse_left_out(made, metadata, RehearsalOptions(24, seed)) for seed in (1, 1, 2))
    assert one.to_json() == two.to_json()
    assert one.trials != other.trials


def test_two_images_are_too_few(made: Made) -> None:
    few = replace(made, images=GoodImages(made.images.read, 2), paths=made.paths[:2])
    with pytest.raises(PadimEdgeError, match="too few"):
        rehearse_left_out(few, read_metadata(WHOLE), RehearsalOptions(6))


def test_a_model_is_fitted_again_with_its_own_method_and_weights(tmp_path: Path) -> None:
    sample.write(sample.images("weave", size=80, train=16, test_good=2, per_defect=1), tmp_path)
    method = padim_edge.preset("edge", backbone="builtin", dims=20, size=64, seed=3)
    fitted = padim_edge.fit(tmp_path, method, class_name="weave", progress=False)
    model = fitted.export(tmp_path / "weave.onnx", progress=False)
    found = padim_edge.rehearse(model, data=tmp_path, options=RehearsalOptions(30), progress=False)
    assert len(found.good) == 16
    other = replace(model.metadata, backbone=replace(model.metadata.backbone, weights_digest="0" * 64))
    with pytest.raises(PadimEdgeError, match="weights"):
        rehearse_fitted_again(other, from_source(tmp_path, "weave"), RehearsalOptions(6), SILENT)
