"""Metrics against their definitions, what happens where they have none, and `evaluate` as a user types it."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import golden
import numpy as np
import numpy.typing as npt
import pytest
from commands import run
from PIL import Image

import padim_edge
from padim_edge import sample
from padim_edge.datasets import GOOD, Dataset, Item, from_folder, from_source
from padim_edge.evaluation.differences import compare_detectors
from padim_edge.evaluation.evaluate import evaluate_detector
from padim_edge.evaluation.result import mean, summary
from padim_edge.model import Model
from padim_edge_artifact import ImageError, PadimEdgeError, Preprocessing
from padim_edge_runtime import Detector, image_files
from padim_edge_runtime.regions import to_image


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    sample.write(sample.images("weave", size=96, train=24, test_good=5, per_defect=1), folder)
    return folder


@pytest.fixture(scope="module", params=["edge", "paper"])
def model(request: pytest.FixtureRequest, root: Path) -> Model:
    method = padim_edge.preset(request.param, backbone="builtin", dims=20, size=64)
    if request.param == "paper":
        method = dataclasses.replace(method, preprocessing=Preprocessing((80, 80), crop=(64, 64)))
    fitted = padim_edge.fit(root, method, class_name="weave", progress=False)
    return fitted.export(root / f"{request.param}.onnx", progress=False)


@pytest.fixture(scope="module")
def detector(model: Model) -> Detector:
    return Detector.load(model.path, "cpu")


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
    evaluation = evaluate_detector(detector, dataset)
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
    good, bad = evaluate_detector(detector, only_good), evaluate_detector(detector, only_bad)
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
    evaluation = evaluate_detector(detector, blind)
    assert evaluation.pixel.auroc is None
    assert evaluation.reasons == dict.fromkeys(("pixel_auroc", "pro"), "no anomalous pixels (no masks)")
    assert evaluation.image.auroc == evaluate_detector(detector, dataset).image.auroc
    assert evaluation.without_mask == len(sample.DEFECTS["weave"])


def test_one_bad_image_or_mask_does_not_stop_the_others(detector: Detector, root: Path) -> None:
    dataset = from_folder(root, "weave")

    def unreadable() -> image_files.Decoded:
        raise ImageError("torn.png cannot be decoded")

    odd = Item(
        "odd.png", "hole", lambda: image_files.Decoded(Image.new("RGB", (96, 96)), ()), lambda: np.ones((5, 5), bool)
    )
    torn = Item("torn.png", GOOD, unreadable, None)
    evaluation = evaluate_detector(detector, dataclasses.replace(dataset, test=(torn, odd, *dataset.test)))
    assert evaluation.unreadable == ("torn.png cannot be decoded",)
    (sentence,) = evaluation.bad_masks
    assert "5x5 pixels, expected those of the image, 96x96" in sentence
    assert f"left out of the pixel metrics: {sentence}" in evaluation.warnings


def test_a_bad_mask_costs_the_pixel_metrics_only(detector: Detector, root: Path) -> None:
    """The image is judged as if it had no mask, in an evaluation and in a comparison, and that is said."""
    dataset = from_folder(root, "weave")
    first = next(item for item in dataset.test if item.mask is not None)

    def damaged() -> npt.NDArray[np.bool_]:
        raise ImageError("the mask m.png cannot be decoded")

    def with_mask(mask: Callable[[], npt.NDArray[np.bool_]] | None) -> Dataset:
        test = tuple(dataclasses.replace(item, mask=mask) if item is first else item for item in dataset.test)
        return dataclasses.replace(dataset, test=test)

    without = evaluate_detector(detector, with_mask(None))
    for mask in (damaged, lambda: np.ones((5, 5), np.bool_)):
        found = evaluate_detector(detector, with_mask(mask))
        assert (found.image, found.unreadable, len(found.bad_masks)) == (without.image, (), 1)
        assert (found.pixel.auroc, found.pixel.pro) == (without.pixel.auroc, without.pixel.pro)
        assert found.kinds == evaluate_detector(detector, dataset).kinds
        assert found.to_json()["bad_masks"] == 1
        compared = compare_detectors(detector, detector, with_mask(mask))
        assert compared.images == len(dataset.test)
        assert compared.a is not None
        assert compared.a.bad_masks == found.bad_masks
        assert compared.a.pixel.auroc == without.pixel.auroc


def test_no_test_images_is_an_error_that_says_what_was_expected(detector: Detector) -> None:
    with pytest.raises(PadimEdgeError, match=r"has no test images; expected them .* in test/good and test/<defect>"):
        evaluate_detector(detector, Dataset("weave", (), ()))


def test_a_path_a_model_and_a_detector_are_judged_alike(model: Model, detector: Detector, root: Path) -> None:
    """By name or loaded, with the class of the model or the class's own folder: the same figures."""
    by_name = padim_edge.evaluate(str(model.path), str(root), progress=False)
    for each in (
        padim_edge.evaluate(model, root, device="cpu", progress=False),
        padim_edge.evaluate(detector, root / "weave", progress=False),
        padim_edge.evaluate(model.path, from_folder(root, "weave"), progress=False),
    ):
        assert dataclasses.replace(each, origin=by_name.origin).to_json() == by_name.to_json()
        assert each.scored[0].score == by_name.scored[0].score
    assert by_name.model == model.path.name
    assert by_name.detector is not None
    assert by_name.metrics == {name: getattr(by_name, name) for name in by_name.metrics}
    assert by_name.false_alarm_rate == by_name.kinds[GOOD].value


def test_without_data_the_sample_of_the_models_class_is_taken(model: Model) -> None:
    evaluation = padim_edge.evaluate(model, progress=False)
    assert evaluation.scored[0].item.name.startswith("sample/weave/test/")
    assert len(evaluation.scored) == len(from_source(None, "weave").test)


def test_progress_is_told_to_a_feedback_of_ones_own(model: Model, root: Path) -> None:
    stages: list[tuple[str, int | None]] = []
    steps: list[int] = []

    def report(stage: str, total: int | None) -> nullcontext[object]:
        stages.append((stage, total))
        return nullcontext(steps.append)

    padim_edge.evaluate(model, root, progress=padim_edge.Feedback(report))  # type: ignore[arg-type]
    assert stages == [("evaluating weave", 5 + len(sample.DEFECTS["weave"]))]
    assert sum(steps) == stages[0][1]


def test_print_gives_the_table_of_the_command(model: Model, root: Path) -> None:
    evaluation = padim_edge.evaluate(model, root, progress=False)
    assert str(evaluation) == run("evaluate", model.path, "--data", root)[0].rstrip("\n")
    assert summary([evaluation]) == str(evaluation)
    assert len(repr(evaluation)) < 200
    several = summary([evaluation, dataclasses.replace(evaluation, class_name="other")]).splitlines()
    assert [line.split()[0] for line in several[:4]] == ["class", "weave", "other", "mean"]


def test_the_command_prints_the_object_of_the_function(model: Model, root: Path) -> None:
    told = json.loads(run("evaluate", model.path, "--data", root, "--json")[0])
    evaluation = padim_edge.evaluate(model, root, progress=False)
    assert told == {"classes": {"weave": json.loads(json.dumps(evaluation.to_json()))}, "mean": evaluation.metrics}


def test_a_notebook_gets_an_escaped_table(model: Model, root: Path) -> None:
    evaluation = padim_edge.evaluate(model, root, progress=False)
    evil = dataclasses.replace(
        evaluation, class_name="<script>", kinds={"<b>": evaluation.kinds[GOOD]}, unreadable=("<i>torn</i>",)
    )
    shown = evil._repr_html_()
    assert not {"<script>", "<b>", "<i>"} & set(re.findall("<[^>]*>", shown))
    assert "&lt;script&gt;" in shown
    assert "left out: &lt;i&gt;torn" in shown
    assert f"{evaluation.image_auroc:.4f}" in shown


def test_the_report_is_a_page_about_this_model(model: Model, root: Path, tmp_path: Path) -> None:
    """At a threshold of 0 every good image is a false alarm, and the six worst are shown."""
    low = golden.rewrite(model.path, tmp_path / "low.onnx", lambda metadata: metadata.update(threshold=0.0))
    evaluation = padim_edge.evaluate(low, root, device="cpu", progress=False)
    evaluation.report(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "low.onnx" in page
    assert "5 of 5 good images raise an alarm" in page
    worst = max((each for each in evaluation.scored if each.item.kind == GOOD), key=lambda each: each.score)
    cases = evaluation.page().false_alarms
    assert (cases[0].name, cases[0].score) == (worst.item.name, worst.score)
    assert page.count("data:image/jpeg") == 2 * 5 + 3 * len(sample.DEFECTS["weave"])  # good ones have no ground truth
    for sentence in ("What to try next", "Choosing a threshold", "--false-alarm-rate 0.02", "Other good images"):
        assert (sentence in page) == (sentence != "Other good images"), "all good images are false alarms"


def test_without_a_detector_there_is_no_report(model: Model, root: Path, tmp_path: Path) -> None:
    evaluation = padim_edge.evaluate(model, root, progress=False)
    with pytest.raises(PadimEdgeError, match="has no detector, expected one"):
        dataclasses.replace(evaluation, detector=None).report(tmp_path / "report.html")
    assert not list(tmp_path.iterdir())
