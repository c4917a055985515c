"""A memory that learns later: nearly that of one fit on all images, and as a model nothing but an update."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from drawn_memory import parts
from PIL import Image
from small_models import dataset, export_model, small

from padim_edge_artifact import ArtifactError, Memory, read_verified
from padim_edge_artifact.kept import read_kept, write_kept
from padim_edge_artifact.method import Bank
from padim_edge_learn.assemble import RULE, RULE_UPDATED
from padim_edge_learn.update import Updated, UpdateFiles, update
from padim_edge_model.comparable import reference_of
from padim_edge_runtime import Detector

FIRST, ALL = 24, 40
APART = 0.06
"""Most that the mean score of fresh images may differ from that of one fit on all images; see tests/model."""

FRAMES = parts(ALL)


def scaled(frames: np.ndarray) -> list[Image.Image]:
    return [Image.fromarray(frame).resize((64, 64)) for frame in frames]


GOOD, FRESH = scaled(FRAMES), scaled(parts(30, seed=1))


def fitted(folder: Path, images: list[Image.Image], *, turned: bool = False) -> Path:
    """A model of some images, with its statistics beside it."""
    folder.mkdir(exist_ok=True)
    method = dataclasses.replace(small("free"), bank=Bank(prototypes=200, turned=turned))
    model = export_model(dataset(images), folder / "part.onnx", method)
    write_kept(folder / "part.npz", model.kept)
    return model.path


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("good")
    for number, image in enumerate(GOOD):
        image.save(folder / f"{number:03}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fitted(tmp_path_factory.mktemp("old"), GOOD[:FIRST])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fitted(tmp_path_factory.mktemp("whole"), GOOD)


def updated(model: Path, images: list[Path], folder: Path) -> Updated:
    """An update by all of these images, whatever the old model says of them."""
    folder.mkdir(exist_ok=True)
    files = UpdateFiles(model, model.with_suffix(".npz"), folder / "new.onnx", folder / "new.npz")
    return update(files, images, take=["all"])


def memory(model: Path) -> Memory:
    found = read_kept(model.with_suffix(".npz")).statistics
    assert isinstance(found, Memory)
    return found


def mean_score(model: Path, images: list[Image.Image]) -> float:
    detector = Detector.load(model, "cpu")
    return float(detector(np.stack([detector.prepare(image) for image in images])).score.mean())


def assert_as_one_fit(found: Path, whole: Path) -> None:
    one, other = memory(found), memory(whole)
    assert one.count == other.count == ALL
    assert one.patches.sum() == other.patches.sum()
    assert mean_score(found, FRESH) == pytest.approx(mean_score(whole, FRESH), rel=APART)
    statistics = [read_kept(each.with_suffix(".npz")) for each in (found, whole)]
    first, second = (reference_of(each.seen) for each in statistics)
    assert (first.mean, first.brightness, first.contrast) == (second.mean, second.brightness, second.contrast)


def test_updating_is_nearly_fitting_on_all_images_at_once(
    old: Path, whole: Path, good: list[Path], tmp_path: Path
) -> None:
    made = updated(old, good[FIRST:], tmp_path)
    assert_as_one_fit(made.files.output, whole)
    assert made.metadata.prototypes == 200
    assert made.metadata.method == read_verified(whole).method
    assert Detector.load(made.files.output, "cpu").self_test().passed
    before = mean_score(old, FRESH)
    assert mean_score(made.files.output, FRESH) < before, "more images must make fresh ones less strange"


def test_two_updates_are_nearly_one(old: Path, whole: Path, good: list[Path], tmp_path: Path) -> None:
    step = updated(old, good[FIRST:31], tmp_path / "step").files.output
    twice = updated(step, good[31:], tmp_path / "twice").files.output
    assert_as_one_fit(twice, whole)
    about = read_verified(twice)
    assert (about.revision, about.images, about.threshold_rule) == (3, ALL, RULE_UPDATED + RULE)


def test_a_memory_of_turned_images_goes_on_turning(good: list[Path], tmp_path: Path) -> None:
    made = updated(fitted(tmp_path / "a", GOOD[:FIRST], turned=True), good[FIRST:], tmp_path)
    assert memory(made.files.output).patches.sum() == ALL * 64 * 8
    assert_as_one_fit(made.files.output, fitted(tmp_path / "b", GOOD, turned=True))


def test_old_and_new_can_be_told_apart_and_the_old_one_stays(old: Path, good: list[Path], tmp_path: Path) -> None:
    contents = [path.read_bytes() for path in (old, old.with_suffix(".npz"))]
    made = updated(old, good[FIRST:], tmp_path)
    before, after = read_verified(old), made.metadata
    assert after.parent == before.digests.model
    assert before.statistics == memory(old).digest()
    assert after.statistics == memory(made.files.output).digest() != before.statistics
    assert [path.read_bytes() for path in (old, old.with_suffix(".npz"))] == contents
    assert set(before.calibration.scores) <= set(after.calibration.scores)
    assert after.calibration.images == ALL


def test_new_images_are_judged_as_if_they_had_not_been_learned_from(
    old: Path, good: list[Path], tmp_path: Path
) -> None:
    """An image of its own kind, which the updated memory holds."""
    frame = FRAMES[30].copy()
    frame[10:20, 10:20] = np.where(np.indices((10, 10)).sum(axis=0) // 2 % 2, 250, 5)[..., None]
    (odd,) = scaled(frame[None])
    odd.save(tmp_path / "odd.png")
    made = updated(old, [*good[FIRST:30], tmp_path / "odd.png", *good[31:]], tmp_path)
    *others, score = [*np.delete(made.scores, 6), made.scores[6]]
    assert score > 3 * max(others)
    assert mean_score(made.files.output, [odd]) < score / 3


def test_statistics_of_another_model_are_refused(old: Path, whole: Path, good: list[Path], tmp_path: Path) -> None:
    files = UpdateFiles(old, whole.with_suffix(".npz"), tmp_path / "new.onnx", tmp_path / "new.npz")
    with pytest.raises(ArtifactError, match="was not kept with"):
        update(files, good[FIRST:])
    assert not any(tmp_path.iterdir())
