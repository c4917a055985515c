"""Comparing two models: laws of the figures, and the function and the command as a user types them."""

from __future__ import annotations

import dataclasses
import html
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import drawn_images
import golden as golden_files
import numpy as np
import onnx
import pytest
from commands import run
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import padim_edge
from padim_edge.datasets import Dataset, Item, from_folder
from padim_edge.evaluation.compare import Timing, compare_files
from padim_edge.evaluation.differences import Differences, Spread, compare_detectors, deltas
from padim_edge.evaluation.evaluate import evaluate_detector
from padim_edge.evaluation.tables import METRICS
from padim_edge_artifact import PadimEdgeError, names
from padim_edge_runtime import Detector, image_files, memory
from padim_edge_runtime.bench import footprint
from padim_edge_runtime.progress import SILENT

GOOD, BAD = 5, 4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MVTec AD root with the class `disc`, as the golden models have it."""
    root = tmp_path_factory.mktemp("data")
    for folder in ("train/good", "test/good", "test/spot", "ground_truth/spot"):
        (root / "disc" / folder).mkdir(parents=True)
    for i in range(3):
        drawn_images.good(i).save(root / "disc" / "train" / "good" / f"{i}.png")
    for i in range(GOOD):
        drawn_images.good(100 + i).save(root / "disc" / "test" / "good" / f"{i}.png")
    for i in range(BAD):
        image, (x, y, width, height) = drawn_images.defective(200 + i)
        # Fainter and fainter, so that models may differ in their decisions.
        mixed = Image.blend(drawn_images.good(200 + i), image, 0.6 / (1 + 2 * i))
        mixed.save(root / "disc" / "test" / "spot" / f"{i}.png")
        mask = np.zeros((image.height, image.width), np.uint8)
        mask[y : y + height, x : x + width] = 255
        Image.fromarray(mask).save(root / "disc" / "ground_truth" / "spot" / f"{i}_mask.png")
    return root


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of good images and nothing else."""
    root = tmp_path_factory.mktemp("plain")
    for i in range(4):
        drawn_images.good(i).save(root / f"{i}.png")
    return root


def changed(target: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """The golden model with other constants: `change` gets the values of each that is in floating point."""
    model = onnx.load(golden_files.WHOLE)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = change(numpy_helper.to_array(tensor)).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return written(model, target)


def scaled(target: Path, factor: float) -> Path:
    """The golden model with all distances longer by a factor."""
    model = onnx.load(golden_files.WHOLE)
    model.graph.initializer.append(numpy_helper.from_array(np.float32(factor), "factor"))
    for name in (names.SCORE, names.ANOMALY_MAP, names.PATCH_DISTANCE):
        for node in model.graph.node:
            for ends in (node.input, node.output):
                ends[:] = [f"{name}_before" if end == name else end for end in ends]
        model.graph.node.append(helper.make_node("Mul", [f"{name}_before", "factor"], [name]))
    return written(model, target)


def written(model: onnx.ModelProto, target: Path) -> Path:
    target.write_bytes(model.SerializeToString(deterministic=True))
    return golden_files.rewrite(target, target, lambda _: None)  # makes the digest true


@pytest.fixture(scope="module")
def noised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every constant is wrong by some per cent."""
    generator = np.random.default_rng(0)
    return changed(
        tmp_path_factory.mktemp("noised") / "noised.onnx",
        lambda values: values * generator.normal(1, 0.03, values.shape),
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No processes for the memory, which test_footprint.py looks at."""
    monkeypatch.setattr(footprint, "resident", lambda *_: None)


def judged(a: Path, b: Path, dataset: Dataset) -> Differences:
    return compare_detectors(Detector.load(a, "cpu"), Detector.load(b, "cpu"), dataset)


def test_a_model_does_not_differ_from_itself(golden: Path, data: Path) -> None:
    found = judged(golden, golden, from_folder(data, "disc"))
    assert found.score == found.map == Spread(0, 0)
    assert found.rank_correlation == pytest.approx(1)
    assert found.differing == ()
    assert found.alarms[0] == found.alarms[1]
    assert found.a is not None
    assert found.b is not None
    assert found.a.to_json() == found.b.to_json()
    assert set(deltas(found).values()) == {0}
    assert (found.images, found.notes) == (GOOD + BAD, ())


def test_metrics_are_those_of_evaluate(golden: Path, golden_data: Path, noised: Path, data: Path) -> None:
    dataset = from_folder(data, "disc")
    for other in (noised, golden_data):
        found = judged(golden, other, dataset)
        for side, model in ((found.a, golden), (found.b, other)):
            assert side is not None
            expected = evaluate_detector(Detector.load(model, "cpu"), dataset)
            assert side.to_json() == expected.to_json()
            assert side.scored == expected.scored


def test_swapping_the_models_flips_the_signs_and_keeps_the_rest(golden: Path, noised: Path, data: Path) -> None:
    dataset = from_folder(data, "disc")
    there, back = judged(golden, noised, dataset), judged(noised, golden, dataset)
    assert deltas(there) == {name: -value for name, value in deltas(back).items() if value is not None}
    assert any(deltas(there).values())
    assert there.rank_correlation == pytest.approx(back.rank_correlation)
    assert there.differing == back.differing
    assert there.alarms == back.alarms[::-1]


def test_a_wrong_constant_is_seen(golden: Path, noised: Path, data: Path) -> None:
    found = judged(golden, noised, from_folder(data, "disc"))
    assert found.map is not None
    for spread in (found.score, found.map):
        assert 0 < spread.median < spread.maximum


def test_distances_that_are_one_per_cent_longer_differ_by_one_per_cent(
    golden: Path, data: Path, tmp_path: Path
) -> None:
    """And by nothing else: order, AUROC and PRO know no units."""
    found = judged(golden, scaled(tmp_path / "b.onnx", 1.01), from_folder(data, "disc"))
    assert found.map is not None
    for value in dataclasses.astuple(found.score) + dataclasses.astuple(found.map):
        assert value == pytest.approx(0.01, rel=1e-3)
    assert found.rank_correlation == pytest.approx(1)
    assert deltas(found)["image_auroc"] == 0
    assert deltas(found)["pro"] == pytest.approx(0, abs=1e-3)


def test_decisions_are_counted_at_each_models_own_threshold(golden: Path, data: Path, tmp_path: Path) -> None:
    dataset = from_folder(data, "disc")
    all_alarms = golden_files.rewrite(golden, tmp_path / "b.onnx", lambda m: m.update(threshold=0.0))
    found = judged(golden, all_alarms, dataset)
    detector = Detector.load(golden, "cpu")
    good = [item.key for item in dataset.test if not detector(detector.prepare(Path(item.name))).anomalous[0]]
    assert list(found.differing) == good != []
    assert found.alarms == (GOOD + BAD - len(good), GOOD + BAD)
    assert found.score == Spread(0, 0)


def test_maps_of_different_sizes_or_parts_are_not_compared(
    golden: Path, golden_data: Path, data: Path, tmp_path: Path
) -> None:
    dataset = from_folder(data, "disc")
    found = judged(golden, golden_data, dataset)
    assert found.map is None
    assert found.reasons["map"] == "the maps have different sizes, 64x64 and 64x48"
    crop = {"resize": [80, 80], "crop": [64, 64]}
    cropping = golden_files.rewrite(golden, tmp_path / "b.onnx", lambda m: m["method"]["preprocessing"].update(crop))
    found = judged(golden, cropping, dataset)
    assert found.map is None
    assert "crop it differently" in found.reasons["map"]
    assert "cover different pixels" in found.notes[0]
    assert found.score.maximum > 0


def test_each_image_is_decoded_once(golden: Path, golden_data: Path, noised: Path, data: Path) -> None:
    dataset = from_folder(data, "disc")
    read: list[str] = []

    def counted(item: Item) -> Item:
        def reading() -> image_files.Decoded:
            read.append(item.name)
            return item.read()

        return dataclasses.replace(item, read=reading)

    counting = dataclasses.replace(dataset, test=tuple(counted(item) for item in dataset.test))
    for other in (noised, golden_data):
        read.clear()
        judged(golden, other, counting)
        assert sorted(read) == sorted(item.name for item in dataset.test)


def test_without_test_images_the_good_ones_are_compared(golden: Path, noised: Path, plain: Path) -> None:
    found = judged(golden, noised, from_folder(plain, "disc"))
    assert (found.images, found.test, found.a, found.b) == (4, False, None, None)
    assert found.score.median > 0
    assert found.reasons == dict.fromkeys(METRICS, "no test images")
    assert "4 good ones, on which they may have been fitted" in found.notes[0]


def test_without_anomalous_test_images_metrics_are_undefined(golden: Path, noised: Path, data: Path) -> None:
    dataset = from_folder(data, "disc")
    found = judged(golden, noised, dataclasses.replace(dataset, test=dataset.test[:GOOD]))
    assert (found.images, found.test) == (GOOD, True)
    assert {name for name, value in deltas(found).items() if value is None} == found.reasons.keys()
    assert found.reasons["image_auroc"] == "no anomalous images"
    assert deltas(found)["false_alarm_rate"] is not None


def test_one_image_has_no_order(golden: Path, noised: Path, data: Path) -> None:
    dataset = from_folder(data, "disc")
    found = judged(golden, noised, dataclasses.replace(dataset, test=dataset.test[:1]))
    assert found.rank_correlation is None
    assert found.reasons["rank_correlation"] == "fewer than two different scores"
    assert found.score.median == found.score.maximum


def test_a_model_that_overflows_is_refused(golden: Path, data: Path, tmp_path: Path) -> None:
    broken = scaled(tmp_path / "b.onnx", np.inf)
    with pytest.raises(PadimEdgeError, match=r"gave distances that are no finite numbers; run padim-edge verify"):
        judged(golden, broken, from_folder(data, "disc"))


def test_no_images_at_all_is_an_error(golden: Path) -> None:
    with pytest.raises(PadimEdgeError, match="has no images; expected"):
        judged(golden, golden, Dataset("disc", (), ()))


def test_json_is_one_document_with_stable_keys(golden: Path, noised: Path, data: Path) -> None:
    stdout, stderr = run("compare", golden, noised, "--data", data, "--rounds", 2, "--threads", 1, "--json")
    told = json.loads(stdout)
    assert stderr == ""
    assert told.keys() == {"a", "b", "difference"}
    a, b, difference = told["a"], told["b"], told["difference"]
    described = {"model", "class_name", "preset", "precision", "prototypes", "backbone", "input", "device", "threshold"}
    measured = {"alarms", "metrics", "bytes", "milliseconds", "rounds", "memory"}
    assert a.keys() == b.keys() == described | measured
    assert difference.keys() == {
        *("images", "judged", "unreadable", "score", "map", "decisions", "metrics", "bytes", "milliseconds"),
        *("times_as_fast", "memory", "reasons", "notes"),
    }
    assert (a["model"], b["model"]) == (str(golden), str(noised))
    assert difference["score"].keys() == {"median", "maximum", "rank_correlation"}
    assert difference["map"].keys() == {"median", "maximum"}
    assert difference["decisions"].keys() == {"differing", "names"}
    assert a["metrics"].keys() == difference["metrics"].keys() == set(METRICS)
    for name in METRICS:
        assert difference["metrics"][name] == b["metrics"][name] - a["metrics"][name]
    assert difference["bytes"] == noised.stat().st_size - golden.stat().st_size
    assert a["milliseconds"].keys() == difference["times_as_fast"].keys() == {"median", "p10", "p90"}
    assert difference["times_as_fast"]["median"] == a["milliseconds"]["median"] / b["milliseconds"]["median"]
    if memory.resident() is not None:
        assert a["memory"]["private_bytes"] > 0
        assert difference["memory"].keys() == a["memory"].keys() == {"private_bytes", "mapped_bytes"}


@pytest.mark.usefixtures("quick")
def test_unreadable_images_are_left_out_for_both_and_named(golden: Path, data: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(data / "disc", tmp_path / "disc")
    good = folder / "test" / "good"
    (good / "torn.png").write_bytes((good / "0.png").read_bytes()[:500])
    stdout, stderr = run("compare", golden, golden, "--data", folder, "--rounds", 1, "--json", code=1)
    assert [line for line in stderr.splitlines() if "left out" in line and "torn.png" in line]
    told = json.loads(stdout)["difference"]
    assert (told["images"], told["unreadable"]) == (GOOD + BAD, 1)


@pytest.mark.usefixtures("quick")
def test_a_plain_folder_has_null_metrics_and_says_why(golden: Path, noised: Path, plain: Path) -> None:
    stdout, _ = run("compare", golden, noised, "--data", plain, "--rounds", 1, "--json")
    told = json.loads(stdout)
    assert set(told["a"]["metrics"].values()) == set(told["difference"]["metrics"].values()) == {None}
    assert told["difference"]["judged"] == "good"
    assert told["difference"]["score"]["maximum"] > 0
    assert told["difference"]["map"]["maximum"] > 0
    assert told["difference"]["memory"] is None
    assert told["difference"]["reasons"]["memory"] == footprint.NO_MEMORY
    assert told["difference"]["reasons"]["pro"] == "no test images"


@pytest.mark.usefixtures("quick")
def test_people_get_a_column_for_each_model(golden: Path, golden_data: Path, data: Path) -> None:
    stdout, _ = run("compare", golden, golden_data, "--data", data, "--rounds", 1)
    rows = {line.split("  ")[0]: line for line in stdout.splitlines()}
    assert "golden.onnx" in rows["model"]
    assert "golden_data.onnx" in rows["model"]
    assert rows["input"].split()[1:] == ["64x64", "64x48", "out", "of", "72x80"]
    for name in ("image AUROC", "AP", "pixel AUROC", "PRO", "false alarms", "misses", "size", "latency, median"):
        assert len(rows[name].removeprefix(name).split()) >= 3, name
    assert f"of {GOOD + BAD} decisions differ" in stdout
    assert "map: undefined, the maps have different sizes, 64x64 and 64x48" in stdout
    assert f"memory: undefined, {footprint.NO_MEMORY}" in stdout


@pytest.mark.usefixtures("quick")
def test_models_of_different_classes_are_refused_unless_a_class_is_named(
    golden: Path, data: Path, tmp_path: Path
) -> None:
    other = golden_files.rewrite(golden, tmp_path / "b.onnx", lambda m: m.update(class_name="cup"))
    _, stderr = run("compare", golden, other, "--data", data, code=1)
    assert "is for 'disc' and" in stderr
    assert "expected models of one class" in stderr
    run("compare", golden, other, "--data", data, "--class", "disc", "--rounds", 1)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("none.onnx",), "none.onnx does not exist"),
        ((golden_files.WHOLE,), "the built-in sample has no class 'disc'"),
        ((golden_files.WHOLE, "--data", "nowhere"), "there is no folder nowhere"),
        ((golden_files.WHOLE, "--data", ".", "--device", "tpu"), "there is no device 'tpu'"),
    ],
)
def test_wrong_words_get_one_sentence(
    arguments: tuple[object, ...],
    sentence: str,
    plain: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(plain)
    _, stderr = run("compare", golden_files.WHOLE, *arguments, code=1)
    assert sentence in " ".join(stderr.split())


@pytest.mark.usefixtures("quick")
def test_python_gives_what_the_command_prints(golden: Path, noised: Path, data: Path) -> None:
    found = padim_edge.compare(str(golden), noised, data, device="cpu", progress=False)
    again = json.loads(run("compare", golden, noised, "--data", data, "--device", "cpu", "--rounds", 1, "--json")[0])
    measured = {"milliseconds", "times_as_fast", "rounds", "notes"}
    told = json.loads(json.dumps(found.to_json()))
    assert told.keys() == again.keys()
    for side in told:
        for name in told[side].keys() - measured:
            assert told[side][name] == again[side][name], name
    assert found.metrics == told["difference"]["metrics"]
    assert found.costs[0].latency.rounds == 30
    assert str(found).splitlines()[0].split() == ["A", "B", "B", "against", "A"]


@pytest.mark.usefixtures("quick")
def test_a_comparison_shows_itself_and_escapes_names(golden: Path, data: Path, tmp_path: Path) -> None:
    evil = tmp_path / "<b>&.onnx"
    shutil.copyfile(golden, evil)
    found = compare_files((golden, evil), data, None, Timing("cpu", rounds=1), SILENT)
    assert "<b>&.onnx" in str(found)
    shown = found._repr_html_()
    assert "<b>" not in shown
    assert html.escape("<b>&.onnx") in shown
    assert "image AUROC" in shown
    assert "0 decisions differ" in repr(found)


@pytest.mark.usefixtures("quick")
def test_notes_of_a_data_set_are_told_unless_the_caller_opened_it(
    golden: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    dataset = dataclasses.replace(from_folder(data, "disc"), notes=("odd labels",))
    monkeypatch.setattr("padim_edge.evaluation.evaluate.from_source", lambda *_: dataset)
    feedback = padim_edge.Feedback(SILENT.report, told.append)
    for source, expected in ((data, ["disc: odd labels"]), (dataset, [])):
        told.clear()
        compare_files((golden, golden), source, None, Timing("cpu", rounds=1), feedback)
        assert told == expected
