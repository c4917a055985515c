"""`python -m benchmarks.accuracy` on made-up rows and models; nothing is fitted."""

import argparse
import dataclasses
import json
import re
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from benchmarks import accuracy, accuracy_plot, accuracy_rivals, accuracy_table, report
from benchmarks.accuracy import Judged, Model, also, precision, precisions, with_costs, word_of
from benchmarks.accuracy_table import COLUMNS, Cost, Result, Row, markdown, table, targets_of
from benchmarks.judging import evaluate_judge
from padim_edge.datasets import GOOD, Dataset, Item
from padim_edge.evaluation.evaluate import Evaluation, evaluate_detector
from padim_edge_artifact import ImageError, PadimEdgeError
from padim_edge_artifact.method import Precision
from padim_edge_runtime.image_files import Decoded

pytestmark = pytest.mark.slow

ENVIRONMENT = report.Environment("a cpu", 2, 4.0, "Linux", None, {"numpy": "2"}, "today", "c0ffee", 0.1)
WORDS = (
    "fp32",
    "fp16",
    "int8",
    "int8-tensorrt",
    "int8:rank=32",
    "fp32:rank=1",
    "int8:diagonal",
    "int8-tensorrt:rank=9",
)


def row(preset: str = "edge", word: str = "fp32", **fields: object) -> Row:
    known = {
        "class_name": "screw",
        "method": "padim-edge",
        "seed": 0,
        "image_auroc": 0.88,
        "pixel_auroc": 0.985,
        "pro": 0.95,
        "image_ap": 0.9,
        "threshold": 24.0,
        "false_alarm_rate": 0.0,
        "miss_rate": 0.5,
        "images": 320,
        "good": 41,
        "anomalous": 119,
        "megabytes": 53.3,
        "fit_seconds": 12.3,
    }
    return Row(preset=preset, precision=word, **(known | fields))


def rival(method: str = "anomalib", **fields: object) -> Row:
    nothing = {"threshold": None, "false_alarm_rate": None, "miss_rate": None}
    return row("", method=method, megabytes=138.0, **(nothing | fields))


@pytest.mark.parametrize("word", WORDS)
def test_a_precision_is_read_as_it_is_written(word: str) -> None:
    assert word_of(precision(word)) == word


def test_precisions() -> None:
    assert precisions("fp32, int8-tensorrt:rank=16,") == (Precision(), Precision("int8", "tensorrt", 16))
    assert precision("int8-cpu:diagonal") == Precision("int8", diagonal=True)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("int9", "no precision 'int9'"),
        ("int8-tpu", "no target 'tpu'"),
        ("int8-", "lacks a target"),
        ("int8:rank", "unknown form"),
        ("int8:rank=0", "unknown form"),
        ("int8:rank=-3", "unknown form"),
        ("int8:rank=3:diagonal", "unknown form"),
        ("int8:", "unknown form"),
        ("", "no precision ''"),
    ],
)
def test_other_words_are_refused_with_the_reason(word: str, said: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=said):
        precision(word)


def test_single_models() -> None:
    assert also("edge/int8:rank=4, paper/fp16") == (
        Model("edge", Precision("int8", rank=4)),
        Model("paper", Precision("fp16")),
    )
    with pytest.raises(argparse.ArgumentTypeError, match="expected PRESET/PRECISION"):
        also("int8")


def test_single_models_stand_behind_the_others_of_their_preset_and_each_model_once() -> None:
    grid = precisions("fp32,int8")
    found = accuracy.models_of(("paper", "edge"), grid, also("edge/int8,accurate/fp16,paper/int8:diagonal"))
    words = [f"{model.preset} {word_of(model.precision)}" for model in found]
    assert words == ["paper fp32", "paper int8", "paper int8:diagonal", "edge fp32", "edge int8", "accurate fp16"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--precision", "fp8"], "there is no precision 'fp8'"),
        (["--preset", "best"], "there is no preset 'best'"),
        (["--also", "best/int8"], "there is no preset 'best'"),
        (["--methods", "spade,knn"], "there is no method 'knn'"),
        (["--plot", "a.png"], "expected a name that ends in .svg"),
        (["--json", "nowhere/a.json"], "there is no folder nowhere"),
    ],
)
def test_usage_errors(
    options: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["accuracy", "--data", "x", *options])
    with pytest.raises(SystemExit) as caught:
        accuracy.main()
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_costs_are_what_is_lost_against_fp32_of_the_same_class_preset_and_seed() -> None:
    base = Judged(row(image_auroc=0.9), (10.0, 20.0, 40.0))
    small = Judged(row(word="int8", image_auroc=0.88, pro=0.96), (11.0, 20.0, 39.0))
    cut = Judged(row(word="fp32:rank=4", pixel_auroc=None), (10.0, 20.0, 40.0))
    strangers = [
        Judged(dataclasses.replace(small.row, **fields), small.scores)
        for fields in ({"preset": "paper"}, {"class_name": "bottle"}, {"seed": 1})
    ]
    found = with_costs([small, base, cut, *strangers])
    assert found[0].cost is not None
    assert found[0].cost.image_auroc == pytest.approx(0.02)
    assert found[0].cost.pixel_auroc == 0
    assert found[0].cost.pro == pytest.approx(-0.01)
    assert found[0].cost.score == pytest.approx(0.025)  # of 10 %, 0 % and 2.5 %
    assert found[1].cost is None
    assert found[2].cost == Cost(pytest.approx(0.02), None, 0.0, 0.0)
    assert [each.cost for each in found[3:]] == [None] * 3


def test_promises() -> None:
    lost = Cost(0.004, 0.006, 0.5, 0.01)
    kept = [(target.what, target.found, target.reached) for target in targets_of(row(word="int8", cost=lost))]
    assert kept == [
        ("edge int8, screw, seed 0: cost of image AUROC", 0.004, True),
        ("edge int8, screw, seed 0: cost of pixel AUROC", 0.006, False),
    ]
    assert [target.wanted for target in targets_of(row(word="fp16", cost=lost))] == [0.001, 0.001]
    assert [target.reached for target in targets_of(row(pro=0.9))] == [True, True, False]
    assert len(targets_of(row("paper", "int8-tensorrt", cost=lost, class_name="hazelnut"))) == 2
    for none in (
        row(word="int8"),  # there was no fp32
        row(word="int8:rank=32", cost=lost),
        row(word="fp32:rank=32", cost=lost),
        row(class_name="hazelnut"),
        rival(),
    ):
        assert not targets_of(none)


def test_a_figure_that_misses_its_target_says_so() -> None:
    rows = [row(pro=0.9), row(word="int8", cost=Cost(0.0061, -0.00001, 0.0, 0.0123)), rival()]
    targets = [target for each in rows for target in targets_of(each)]
    lines = table(rows, targets)
    assert {len(line) for line in lines} == {len(COLUMNS)}
    assert lines[0] == (
        *("edge fp32", "0", "53.3", "0.8800", "0.9850", "0.9000 < 0.925", "-", "-", "-", "-"),
        *("0.9000", "24.00", "0.0 %", "50.0 %", "12"),
    )
    # What rounds to nothing has no sign of a gain.
    assert lines[1][6:10] == ("+0.0061 > 0.005", "+0.0000", "+0.0000", "1.23 %")
    assert lines[2][:3] == ("anomalib PaDiM", "-", "138.0")
    assert lines[2][6:] == ("-", "-", "-", "-", "0.9000", "-", "-", "-", "12")


def test_page(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = [
        "--data",
        "/some/where/mvtec",
        "--weights",
        "../w.safetensors",
        "--methods",
        "",
        "--precision",
        ",".join(WORDS),
    ]
    monkeypatch.setattr(sys, "argv", ["accuracy", *typed])
    rows = [row(), row(word="int8", cost=Cost(0.006, 0.0, 0.0, 0.01)), rival("spade", notes=("a note.",))]
    settings = {
        "command": report.command("accuracy"),
        "backbone": "resnet18",
        "weights": "file w.safetensors",
        "left_out": {"anomalib PaDiM, screw": "uv is not installed"},
    }
    targets = [target for each in rows for target in targets_of(each)]
    text = markdown(Result(ENVIRONMENT, settings, rows, targets), "accuracy.svg")
    typed_text = "python -m benchmarks.accuracy --data .../mvtec --weights ../w.safetensors --methods '' --precision"
    assert typed_text in text.replace(" \\\n    ", " ")
    assert all(line.count("--") >= 1 for line in settings["command"].splitlines())
    assert "/some" not in text
    assert "run       today, commit c0ffee\nbackbone  resnet18, file w.safetensors\n" in text
    assert "![Accuracy against size](accuracy.svg)" in text
    assert "**Targets: 4 of 5 reached; not reached: edge int8, screw, seed 0: cost of image AUROC.**" in text
    assert "## screw\n\nFitted on 320 good images; tested on 41 good and 119 anomalous images. With so few," in text
    assert "| edge int8 | 0 | 53.3 | 0.8800 | 0.9850 | 0.9500 | +0.0060 > 0.005 | +0.0000 |" in text
    assert "- SPADE: a note." in text
    assert "- anomalib PaDiM, screw: uv is not installed." in text
    assert "| edge int8, screw, seed 0: cost of image AUROC | at most 0.0050 | 0.0060 | not reached |" in text
    for line in re.findall(r"^\|.*\|$", text, re.MULTILINE):
        assert "  " not in line


@pytest.mark.parametrize(
    ("auroc", "good", "anomalous", "published"),
    [(0.745, 41, 119, 0.079), (0.845, 41, 119, 0.060), (0.941, 41, 119, 0.034), (0.994, 20, 63, 0.014)],
)
def test_sampling_error(auroc: float, good: int, anomalous: int, published: float) -> None:
    assert accuracy_table.sampling_error(auroc, good, anomalous) == pytest.approx(published, abs=0.0006)


def test_a_page_without_targets_and_figure() -> None:
    settings = {"command": "", "backbone": "builtin", "weights": "", "left_out": {}}
    text = markdown(Result(ENVIRONMENT, settings, [row()], []), None)
    assert "Targets" not in text
    assert "![" not in text
    assert "Left out" not in text


def test_figure(tmp_path: Path) -> None:
    rows = [
        row(preset, word, class_name=name, megabytes=50 / (1 + i), image_auroc=auroc)
        for name, auroc in (("bottle", 0.99), ("screw", 0.7))
        for preset in ("paper", "edge")
        for i, word in enumerate(("fp32", "int8", "int8:rank=16"))
    ]
    rows += [rival(), rival(class_name="bottle", image_auroc=None, pro=None)]
    assert accuracy_plot.hardest(rows) == "screw"
    accuracy_plot.draw(rows, tmp_path / "accuracy.svg", "a network")
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    drawing = (tmp_path / "accuracy.svg").read_text()
    assert drawing.rstrip().endswith("</svg>")
    assert accuracy_plot.RIVAL in drawing


def image(pixels: np.ndarray) -> Decoded:
    return Decoded(Image.fromarray(pixels), ())


@pytest.fixture
def dataset() -> Dataset:
    generator = np.random.default_rng(0)
    truth = np.zeros((60, 80), bool)
    truth[20:40, 30:50] = True
    test = []
    for i in range(6):
        pixels = generator.integers(0, 200, (60, 80, 3)).astype(np.uint8)
        if i % 2:
            pixels[truth] += 40
        test.append(
            Item(f"{i}.png", "scratch" if i % 2 else GOOD, partial(image, pixels), (lambda: truth) if i % 2 else None)
        )
    return Dataset("screw", (), tuple(test))


def brightness(frame: np.ndarray) -> tuple[float, np.ndarray]:
    anomaly_map = frame.mean(axis=2, dtype=np.float32)
    return float(anomaly_map.max()), anomaly_map


def figures(found: Evaluation) -> dict[str, float | None]:
    return {name: value for name, value in found.metrics.items() if "rate" not in name}


def test_rivals_are_judged_as_our_own_models_are(dataset: Dataset) -> None:
    class Ours:
        metadata = SimpleNamespace(preprocessing=accuracy_rivals.FRAME, inspected=None, threshold=100.0)

        def __call__(self, frame: np.ndarray, *, color: str) -> SimpleNamespace:
            assert color == "rgb"
            score, anomaly_map = brightness(frame)
            return SimpleNamespace(score=np.array([score]), anomaly_map=anomaly_map[None])

    found = evaluate_judge(lambda _, frame: brightness(frame), dataset, accuracy_rivals.FRAME)
    ours = evaluate_detector(Ours(), dataset)
    assert figures(found) == figures(ours)
    assert 0.5 < found.metrics["pixel_auroc"] < 1
    assert [each.score for each in found.scored] == [each.score for each in ours.scored]


def test_anomalibs_own_scores_and_maps_are_taken_in_the_order_of_the_images(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stand_in(good: Path, output: Path, *, test: Path, **_: object) -> dict[str, object]:
        files = sorted(test.glob("*.png"))
        judged = [brightness(np.asarray(Image.open(file))) for file in files]
        np.savez(
            output / "test.npz",
            names=[file.name for file in files],
            scores=np.array([score for score, _ in judged]),
            maps=np.stack([anomaly_map for _, anomaly_map in judged]),
        )
        assert len(list(good.iterdir())) == len(dataset.test)
        return {"onnx": {"bytes": 7}, "seconds": {"fit": 1, "export": 2}, "versions": {"anomalib": "2", "timm": "1"}}

    monkeypatch.setattr(accuracy_rivals, "anomalib", stand_in)
    whole = dataclasses.replace(dataset, good=dataset.test)
    found = accuracy_rivals.fit("anomalib", whole, tmp_path / "w", tmp_path)
    assert found.bytes == 7
    assert found.seconds > 3
    assert found.versions == {"anomalib": "2", "timm": "1"}
    direct = evaluate_judge(lambda _, frame: brightness(frame), dataset, accuracy_rivals.FRAME)
    assert figures(evaluate_judge(found.judge, dataset, accuracy_rivals.FRAME)) == figures(direct)


def test_an_image_that_cannot_be_read_is_not_passed_over(dataset: Dataset) -> None:
    """Scores of a rival are by number, so a missing image would give all later ones the wrong score."""

    def broken() -> Decoded:
        raise ImageError("b.png cannot be decoded; copy it again")

    torn = dataclasses.replace(dataset, test=(Item("b.png", GOOD, broken, None), *dataset.test))
    with pytest.raises(PadimEdgeError, match=r"cannot be judged \(b.png cannot be decoded"):
        evaluate_judge(lambda _, frame: brightness(frame), torn, accuracy_rivals.FRAME)


def test_a_rival_that_cannot_be_had_is_left_out_with_its_reason(dataset: Dataset) -> None:
    left_out: dict[str, str] = {}
    assert not list(accuracy.run_rivals(dataset, ("anomalib", "spade"), None, left_out, {}))
    assert left_out.keys() == {"anomalib PaDiM, screw", "SPADE, screw"}
    assert "give --weights FILE" in left_out["SPADE, screw"]


def test_rows_become_json() -> None:
    written = json.loads(json.dumps(dataclasses.asdict(row(word="int8", cost=Cost(0.1, None, 0.0, 0.2)))))
    assert written["cost"] == {"image_auroc": 0.1, "pixel_auroc": None, "pro": 0.0, "score": 0.2}


def test_names_of_rivals() -> None:
    assert accuracy_table.title("vae") == "VAE, untrained"
