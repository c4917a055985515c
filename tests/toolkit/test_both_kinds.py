"""Models with Gaussians and a memory: the sum of both distances, in one graph, calibrated outside the fit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from drawn_memory import parts
from PIL import Image
from small_models import dataset, export_model, fitted, rounded_to_nearest, small

from padim_edge import weighing
from padim_edge.datasets import Dataset
from padim_edge.fitted import ExportOptions, Fitted, load_fitted
from padim_edge.frames import numbered_frames
from padim_edge.model import Model
from padim_edge.presets import preset
from padim_edge_artifact import Both, PadimEdgeError, names
from padim_edge_artifact.combination import EQUAL, GIVEN, REHEARSED, Combination
from padim_edge_artifact.kept import read_kept, write_kept
from padim_edge_artifact.method import Method, Precision
from padim_edge_learn.assemble import ModelOptions
from padim_edge_learn.held_out import GoodImages
from padim_edge_learn.left_out import left_out
from padim_edge_learn.merge import merge_kept
from padim_edge_learn.update import UpdateFiles, update
from padim_edge_model import onnx_file
from padim_edge_model.fused import combined, fuse, map_stage
from padim_edge_model.graph import of_kept
from padim_edge_model.memory import nearest_of
from padim_edge_model.statistics import merge, without
from padim_edge_model.whitening import form_of
from padim_edge_runtime import Detector
from padim_edge_runtime.devices.providers import open_session
from padim_edge_runtime.progress import SILENT

COUNT = 30

OPTIONS = ExportOptions(memory_share=0.4)

ROUNDED = 1e-4
"""Relative difference of float32 sums in another order."""

BEYOND = 0.02
"""Relative change of a score by pixels outside the region of interest: the backbone looks beyond its patches."""

SUBTRACTED = 1e-3
"""Relative: whitening magnifies what subtracting statistics and fitting fewer images round otherwise."""

EMBEDDED = 1e-5
"""Absolute: means of float32 embeddings from batches of another size."""

DOUBLE = {"mean": 1e-9, "scatter": 1e-6}
"""Absolute: float64 sums that were added and taken away again."""


def images_of(frames: np.ndarray) -> list[Image.Image]:
    return [Image.fromarray(frame).resize((64, 64)) for frame in frames]


GOOD, FRESH = images_of(parts(COUNT)), images_of(parts(6, seed=1))
FRAMES = np.stack([np.asarray(image) for image in FRESH])


def method(precision: str = "fp32") -> Method:
    found = small("auto", precision=Precision(precision))
    assert found.beside is not None
    assert found.beside.bank is not None
    bank = dataclasses.replace(found.beside.bank, prototypes=200)
    return dataclasses.replace(found, beside=dataclasses.replace(found.beside, bank=bank))


@pytest.fixture(scope="module")
def part() -> Dataset:
    return dataset(GOOD)


@pytest.fixture(scope="module")
def learned(part: Dataset) -> Fitted:
    return fitted(part, method())


@pytest.fixture(scope="module")
def model(learned: Fitted, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return learned.export_with(tmp_path_factory.mktemp("both") / "part.onnx", OPTIONS, SILENT)


def outputs(path: Path, frames: np.ndarray = FRAMES) -> dict[str, np.ndarray]:
    session = open_session(path, "cpu").session
    wanted = [each.name for each in session.get_outputs()]
    return dict(zip(wanted, session.run(wanted, {names.IMAGE: frames}), strict=True))


def good_images(learned: Fitted) -> GoodImages:
    return GoodImages(numbered_frames(learned.dataset.good, learned.method.preprocessing, {}), COUNT)


def test_the_distance_is_the_weighted_sum_of_both(model: Model) -> None:
    found, combination = outputs(model.path), model.metadata.combination
    assert combination is not None
    assert combination.choice == GIVEN
    whole = combined(found[names.DISTANCE_OF_POSITION], found[names.DISTANCE_OF_MEMORY], combination.factors)
    np.testing.assert_allclose(found[names.PATCH_DISTANCE], whole, rtol=ROUNDED)
    stage = map_stage(model.metadata.size, model.metadata.grid, model.metadata.method.sigma)
    np.testing.assert_allclose(found[names.ANOMALY_MAP], stage(whole), rtol=ROUNDED, atol=ROUNDED)
    np.testing.assert_array_equal(found[names.SCORE], found[names.ANOMALY_MAP].max(axis=(1, 2)))


def test_each_distance_is_that_of_the_kind_alone(model: Model, learned: Fitted) -> None:
    found = outputs(model.path)
    gaussians, memory = learned.kept.heads
    forms = (
        form_of(gaussians.statistics, gaussians.recipe.method.ridge, of_kept(gaussians).parts, Precision()),  # type: ignore[arg-type]
        nearest_of(memory.statistics, memory.recipe.method),  # type: ignore[arg-type]
    )
    for head, form, name in zip((gaussians, memory), forms, names.FURTHER_OUTPUTS, strict=True):
        alone = onnx_file.whole(fuse(of_kept(head), form, (64, 64), head.recipe.method.sigma))
        (wanted,) = open_session(alone, "cpu").session.run([names.PATCH_DISTANCE], {names.IMAGE: FRAMES})
        np.testing.assert_allclose(found[name], wanted, rtol=ROUNDED, atol=ROUNDED)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_batch_is_its_images_one_by_one(part: Dataset, precision: str, tmp_path: Path) -> None:
    with rounded_to_nearest():
        made = export_model(part, tmp_path / "part.onnx", method(precision), memory_share=0.5)
    batch = outputs(made.path)
    singles = [outputs(made.path, frame[None]) for frame in FRAMES]
    for name, found in batch.items():
        alone = np.concatenate([each[name] for each in singles])
        # onnxruntime adds up squares of several images in another order: the last bit may differ.
        tolerance = 0 if name == names.DISTANCE_OF_MEMORY else 1e-6
        np.testing.assert_allclose(found, alone, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize(("share", "left"), [(0.0, "edge"), (1.0, "free")])
def test_a_share_of_0_or_1_leaves_one_kind(learned: Fitted, share: float, left: str, tmp_path: Path) -> None:
    options = dataclasses.replace(OPTIONS, memory_share=share)
    made = learned.export_with(tmp_path / "part.onnx", options, SILENT)
    found = outputs(made.path)
    assert set(found) == set(names.OUTPUTS)
    assert (made.metadata.method.bank is None) == (left == "edge")
    assert made.metadata.method.beside is None
    assert made.metadata.combination is not None
    alone = learned.kept.heads[int(share)]
    assert made.metadata.backbone.channels == alone.recipe.backbone.channels
    detector = Detector.load(made.path, "cpu")
    assert detector.self_test().passed
    assert detector.inspect(FRESH[0]).score == pytest.approx(float(found[names.SCORE][0]), rel=ROUNDED)
    assert made.metadata.grid == learned.kept.statistics.grid


def test_a_memory_that_is_left_alone_has_its_distances_on_the_grid_of_the_gaussians(
    model: Model, learned: Fitted, tmp_path: Path
) -> None:
    made = learned.export_with(tmp_path / "part.onnx", dataclasses.replace(OPTIONS, memory_share=1.0), SILENT)
    memory = outputs(model.path)[names.DISTANCE_OF_MEMORY]
    wanted = combined(np.zeros_like(outputs(model.path)[names.PATCH_DISTANCE]), memory, (0.0, 1.0))
    np.testing.assert_allclose(outputs(made.path)[names.PATCH_DISTANCE], wanted, rtol=ROUNDED)


def test_nothing_outside_the_region_of_interest_counts(learned: Fitted, tmp_path: Path) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[20:44, 20:44] = 255
    Image.fromarray(mask).save(tmp_path / "roi.png")
    options = dataclasses.replace(OPTIONS, roi=tmp_path / "roi.png")
    made = learned.export_with(tmp_path / "part.onnx", options, SILENT)
    changed = FRAMES.copy()
    changed[:, :2, :2] = 255 - changed[:, :2, :2]
    np.testing.assert_allclose(outputs(made.path)[names.SCORE], outputs(made.path, changed)[names.SCORE], rtol=BEYOND)
    found = outputs(made.path, changed)[names.ANOMALY_MAP]
    assert not found[:, mask == 0].any()


def test_the_threshold_rests_on_scores_outside_the_fit(model: Model) -> None:
    """In the fit, a good image scores lower than outside it."""
    inside = outputs(model.path, np.stack([np.asarray(image) for image in GOOD]))[names.SCORE]
    assert len(model.scores) == COUNT
    assert np.mean(np.array(model.scores) > inside) > 0.9
    assert model.metadata.threshold >= np.max(inside)


def test_statistics_of_both_kinds_come_back_from_their_file(learned: Fitted, tmp_path: Path) -> None:
    write_kept(tmp_path / "part.npz", learned.kept)
    back = read_kept(tmp_path / "part.npz")
    assert isinstance(back.statistics, Both)
    assert back.statistics.digest() == learned.kept.statistics.digest()
    assert back.recipe == learned.kept.recipe
    assert back.same == learned.kept.same
    again = load_fitted(tmp_path / "part.npz", learned.dataset).export_with(tmp_path / "part.onnx", OPTIONS, SILENT)
    assert again.metadata.combination is not None


def test_merging_merges_both(learned: Fitted) -> None:
    halves = [fitted(dataset(some), method()).kept for some in (GOOD[: COUNT // 2], GOOD[COUNT // 2 :])]
    whole = merge_kept(*halves).statistics
    wanted = learned.kept.statistics
    assert isinstance(whole, Both)
    assert isinstance(wanted, Both)
    np.testing.assert_allclose(whole.gaussians.mean, wanted.gaussians.mean, atol=EMBEDDED)
    assert whole.memory.count == wanted.memory.count
    np.testing.assert_allclose(whole.memory.patches.sum(), wanted.memory.patches.sum())


def test_statistics_without_some_images_are_those_of_the_others() -> None:
    some = fitted(dataset(GOOD[:10]), method()).kept.heads[0].statistics
    rest = fitted(dataset(GOOD[10:]), method()).kept.heads[0].statistics
    total = merge(some, rest)  # type: ignore[arg-type]
    found = without(total, some)  # type: ignore[arg-type]  # which overwrites some
    assert found.count == COUNT - 10
    np.testing.assert_allclose(found.mean, rest.mean, atol=DOUBLE["mean"])  # type: ignore[union-attr]
    np.testing.assert_allclose(found.scatter, rest.scatter, atol=DOUBLE["scatter"])  # type: ignore[union-attr]


def test_images_left_out_are_scored_by_models_that_have_not_seen_them(learned: Fitted) -> None:
    images, seen = good_images(learned), []
    for fold in left_out(learned.kept, images, ModelOptions(Precision(), "tests")):
        frames = np.stack([frame for _, frame in images.read(fold.numbers)])
        position, memory = fold.session.run(list(names.FURTHER_OUTPUTS), {names.IMAGE: frames})
        others = [number for number in range(COUNT) if number not in fold.numbers]
        alone = fitted(dataset([GOOD[number] for number in others]), method()).kept.heads[0]
        form = form_of(alone.statistics, alone.recipe.method.ridge, of_kept(alone).parts, Precision())  # type: ignore[arg-type]
        graph = onnx_file.whole(fuse(of_kept(alone), form, (64, 64), 1.0))
        (wanted,) = open_session(graph, "cpu").session.run([names.PATCH_DISTANCE], {names.IMAGE: frames})
        np.testing.assert_allclose(position, wanted, rtol=SUBTRACTED)
        assert np.isfinite(memory).all()
        seen += fold.numbers
    assert sorted(seen) == list(range(COUNT))


def test_images_in_another_order_are_found_by_their_fingerprints(learned: Fitted) -> None:
    images = good_images(learned)

    def reversed_read(numbers: object) -> object:
        for number in numbers:  # type: ignore[attr-defined]
            yield number, next(iter(images.read([COUNT - 1 - number])))[1]

    options = ModelOptions(Precision(), "tests")
    there = [fold.numbers for fold in left_out(learned.kept, images, options)]
    back = [fold.numbers for fold in left_out(learned.kept, GoodImages(reversed_read, COUNT), options)]  # type: ignore[arg-type]
    assert [sorted(COUNT - 1 - number for number in some) for some in back] == [sorted(some) for some in there]


def test_a_rehearsal_chooses_the_weight_and_says_how_sure_it_is(
    learned: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("padim_edge.fitted.PLANTS", COUNT)
    options = dataclasses.replace(OPTIONS, memory_share=None)
    made = [learned.export_with(tmp_path / f"{i}.onnx", options, SILENT).metadata.combination for i in range(2)]
    assert made[0] == made[1]
    assert made[0] is not None
    assert made[0].choice == REHEARSED
    assert made[0].certainty is not None
    assert made[0].weight == weighing.weight_of(made[0].certainty)
    fast = learned.export_with(tmp_path / "fast.onnx", dataclasses.replace(options, fast=True), SILENT)
    assert fast.metadata.combination is not None
    assert (fast.metadata.combination.choice, fast.metadata.combination.weight) == (EQUAL, 0.5)


@pytest.mark.parametrize(("certainty", "weight"), [(0.0, 0.15), (0.5, 0.5), (0.89, 0.5), (0.11, 0.5), (1.0, 0.85)])
def test_what_is_undecided_counts_alike_and_no_kind_is_left_out(certainty: float, weight: float) -> None:
    assert weighing.weight_of(certainty) == pytest.approx(weight)


def test_a_kind_that_sees_more_is_surely_better() -> None:
    generator = np.random.default_rng(0)
    good, planted = generator.normal(0, 1, 200), generator.normal(1, 1, 300)
    kinds = np.array(["scratch", "stain", "hole"] * 100)
    blind, seeing = generator.normal(0, 1, 300), planted + 2
    assert weighing._certainty([good, good], [blind, seeing], kinds, 0) == 1.0
    assert weighing._certainty([good, good], [seeing, blind], kinds, 0) == 0.0
    assert weighing._certainty([good, good], [planted, planted], kinds, 0) == 0.5


def test_an_update_keeps_the_weights(model: Model, learned: Fitted, tmp_path: Path) -> None:
    kept = dataclasses.replace(learned.kept, seen=model.kept.seen)
    write_kept(tmp_path / "part.npz", kept)
    for number, image in enumerate(FRESH):
        image.save(tmp_path / f"{number}.png")
    files = UpdateFiles(model.path, tmp_path / "part.npz", tmp_path / "new.onnx", tmp_path / "new.npz")
    done = update(files, [tmp_path / f"{number}.png" for number in range(len(FRESH))], take=["all"])
    assert done.metadata.combination == model.metadata.combination
    assert done.metadata.images == COUNT + len(FRESH)
    assert isinstance(read_kept(tmp_path / "new.npz").statistics, Both)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: Combination(1.5, (1.0, 1.0)), "expected a share from 0 to 1"),
        (lambda: Combination(0.5, (0.0, 1.0)), "expected positive numbers"),
        (lambda: dataclasses.replace(preset("edge"), beside=preset("edge")), "choose --preset auto"),
        (lambda: dataclasses.replace(preset("edge"), beside=preset("free", size=64)), "another preprocessing"),
        (lambda: dataclasses.replace(preset("free"), beside=preset("free")), "choose --preset auto"),
    ],
)
def test_what_does_not_fit_is_refused(wrong: object, words: str) -> None:
    with pytest.raises(PadimEdgeError, match=words):
        wrong()  # type: ignore[operator]


def test_a_share_of_the_memory_needs_both_kinds(part: Dataset, tmp_path: Path) -> None:
    with pytest.raises(PadimEdgeError, match="choose --preset auto"):
        export_model(part, tmp_path / "part.onnx", small("edge"), memory_share=0.5)
    assert not list(tmp_path.iterdir())
