"""Metrics against their definitions, and what happens where they have none."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from padim_edge import sample
from padim_edge.build import build
from padim_edge.datasets import GOOD, Dataset, Item, from_folder
from padim_edge.evaluation.evaluate import evaluate, mean
from padim_edge.presets import PRESETS
from padim_edge_artifact import ImageError, PadimEdgeError, Preprocessing
from padim_edge_export import backbones
from padim_edge_runtime import Detector, image_files
from padim_edge_runtime.regions import to_image


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    sample.write(sample.images("weave", size=96, train=24, test_good=5, per_defect=1), folder)
    return folder


@pytest.fixture(scope="module", params=["edge", "paper"])
def detector(request: pytest.FixtureRequest, root: Path) -> Detector:
    crop = (64, 64) if request.param == "paper" else None
    preset = dataclasses.replace(
        PRESETS[request.param], preprocessing=Preprocessing((80, 80) if crop else (64, 64), crop), dims=20
    )
    built = build(from_folder(root, "weave"), root / f"{request.param}.onnx", preset, backbones.load("builtin"))
    return Detector.load(built.model, "cpu")


def brute_force_auroc(truth: np.ndarray, values: np.ndarray) -> float:
    """Probability that an anomalous value exceeds a normal one, ties counted half (by ranks of sorted values)."""
    normal = np.sort(values[~truth])
    below = np.searchsorted(normal, values[truth], "left")
    not_above = np.searchsorted(normal, values[truth], "right")
    return float((below + not_above).sum() / 2 / len(normal) / truth.sum())


def test_every_metric_is_what_its_definition_says(detector: Detector, root: Path) -> None:
    dataset = from_folder(root, "weave")
    scores, labels, values, truths = [], [], [], []
    for item in dataset.test:
        image = item.read()
        result = detector(image_files.prepare(image.image, detector.metadata.preprocessing))
        image_map = to_image(result.anomaly_map[0], detector.metadata.preprocessing, *image.image.size)
        seen = ~np.isnan(image_map)
        scores.append(result.score[0])
        labels.append(item.kind != GOOD)
        values.append(image_map[seen])
        truths.append((item.mask() if item.mask else np.zeros_like(seen))[seen])
    evaluation = evaluate(detector, dataset)
    labels_, scores_ = np.array(labels), np.array(scores)
    assert evaluation.image.auroc == pytest.approx(brute_force_auroc(labels_, scores_))
    assert evaluation.pixel.auroc == pytest.approx(brute_force_auroc(np.concatenate(truths), np.concatenate(values)))
    alarms = scores_ > detector.metadata.threshold
    assert evaluation.metrics["false_alarm_rate"] == pytest.approx(alarms[~labels_].mean())
    assert evaluation.metrics["miss_rate"] == pytest.approx((~alarms[labels_]).mean())
    assert evaluation.kinds[GOOD].count == alarms[~labels_].sum()
    assert sum(each.total for each in evaluation.kinds.values()) == len(scores)
    assert (evaluation.good, evaluation.anomalous) == (5, len(sample.DEFECTS["weave"]))


def test_metrics_without_images_of_both_kinds_are_none(detector: Detector, root: Path) -> None:
    dataset = from_folder(root, "weave")
    only_good = dataclasses.replace(dataset, test=tuple(i for i in dataset.test if i.kind == GOOD))
    only_bad = dataclasses.replace(dataset, test=tuple(i for i in dataset.test if i.kind != GOOD))
    good, bad = evaluate(detector, only_good), evaluate(detector, only_bad)
    undefined = {"image_auroc", "image_ap", "best_f1", "pixel_auroc", "pro", "miss_rate"}
    assert {name for name, value in good.metrics.items() if value is None} == undefined == good.reasons.keys()
    undefined = {"image_auroc", "image_ap", "best_f1", "false_alarm_rate"}
    assert {name for name, value in bad.metrics.items() if value is None} == undefined == bad.reasons.keys()
    assert good.reasons["pro"] == "no anomalous images"
    assert bad.reasons["image_auroc"] == "no good images"
    assert mean([good, bad])["image_auroc"] is None


def test_images_without_a_mask_count_in_the_image_metrics_only(detector: Detector, root: Path) -> None:
    dataset = from_folder(root, "weave")
    blind = dataclasses.replace(dataset, test=tuple(dataclasses.replace(i, mask=None) for i in dataset.test))
    evaluation = evaluate(detector, blind)
    assert evaluation.pixel.auroc is None
    assert evaluation.reasons == dict.fromkeys(("pixel_auroc", "pro"), "no anomalous pixels (no masks)")
    assert evaluation.image.auroc == evaluate(detector, dataset).image.auroc
    assert evaluation.without_mask == len(sample.DEFECTS["weave"])


def test_one_bad_image_or_mask_does_not_stop_the_others(detector: Detector, root: Path) -> None:
    dataset = from_folder(root, "weave")

    def unreadable() -> image_files.Decoded:
        raise ImageError("torn.png cannot be decoded")

    odd = Item(
        "odd.png", "hole", lambda: image_files.Decoded(Image.new("RGB", (96, 96)), ()), lambda: np.ones((5, 5), bool)
    )
    torn = Item("torn.png", GOOD, unreadable, None)
    evaluation = evaluate(detector, dataclasses.replace(dataset, test=(torn, odd, *dataset.test)))
    assert len(evaluation.unreadable) == 2
    assert "5x5 pixels, expected those of the image, 96x96" in evaluation.unreadable[1]
    assert evaluation.image.auroc == evaluate(detector, dataset).image.auroc


def test_no_test_images_is_an_error_that_says_what_was_expected(detector: Detector) -> None:
    with pytest.raises(PadimEdgeError, match=r"has no test images; expected them .* in test/good and test/<defect>"):
        evaluate(detector, Dataset("weave", (), ()))
