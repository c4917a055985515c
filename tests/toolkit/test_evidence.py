"""Good images as evidence: repeats, neighbours in time, strangers, and images that are good in name only."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from commands import run
from PIL import Image
from small_models import dataset as dataset_of
from small_models import export_model, fitted, small, weave

from padim_edge.datasets import Dataset
from padim_edge.datasets.excluding import excluded, without
from padim_edge.exports import Job, export_class
from padim_edge.fitted import load_fitted
from padim_edge.model import Model
from padim_edge.sample import draw_defect
from padim_edge.suspects import draw
from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.method import Precision
from padim_edge_learn import held_out
from padim_edge_learn import suspects as rule
from padim_edge_runtime import Detector
from padim_edge_runtime.progress import SILENT, Feedback
from padim_edge_runtime.progress import none as no_bar

COUNT = 24
RANDOM = np.random.default_rng(0)

Frame = np.ndarray


def drawn(count: int) -> list[Frame]:
    return [np.asarray(image) for image in weave(count)]


def dataset(frames: list[Frame]) -> Dataset:
    return dataset_of([Image.fromarray(frame) for frame in frames])


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return made(drawn(COUNT), tmp_path_factory.mktemp("once"))


def made(frames: list[Frame], folder: Path, form: Precision | None = None) -> Model:
    return export_model(dataset(frames), folder / "weave.onnx", small("edge", precision=form or Precision()))


def noise(frame: Frame) -> Frame:
    return (frame + RANDOM.normal(0, 2, frame.shape)).round().clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("again", [np.copy, noise])
def test_repeats_are_no_evidence(once: Model, again: object, tmp_path: Path) -> None:
    """Before, three copies of each image made the threshold less than half of what it was."""
    thrice = [frame for each in drawn(COUNT) for frame in (each, again(each), again(each))]  # type: ignore[operator]
    model = made(thrice, tmp_path)
    assert (model.metadata.images, model.metadata.independent) == (3 * COUNT, COUNT)
    assert model.metadata.calibration.images == COUNT
    assert model.threshold == pytest.approx(once.threshold, rel=0.15)
    assert f"{3 * COUNT} good images, {COUNT} independent" in str(model)
    assert any("repeats" in sentence for sentence in model.warnings)


@pytest.mark.parametrize("form", [Precision("int8"), Precision("fp16"), Precision(rank=8), Precision(diagonal=True)])
def test_repeats_are_no_evidence_in_any_form(form: Precision, tmp_path: Path) -> None:
    single, double = (tmp_path / name for name in ("single", "double"))
    single.mkdir()
    double.mkdir()
    alone = made(drawn(COUNT), single, form)
    twice = made([frame for each in drawn(COUNT) for frame in (each, each)], double, form)
    assert twice.metadata.independent == alone.metadata.independent == COUNT
    assert twice.threshold == pytest.approx(alone.threshold, rel=0.2)


def test_different_images_are_all_evidence(once: Model) -> None:
    assert once.metadata.independent == once.metadata.images == COUNT
    assert once.metadata.drift == 1
    assert not any("independent" in sentence or "drift" in sentence for sentence in once.warnings)


def test_images_without_variation_are_refused(tmp_path: Path) -> None:
    scene = drawn(1)[0]
    for frames in ([scene] * 5, [noise(scene) for _ in range(6)], [np.zeros((64, 64, 3), np.uint8)] * 5):
        with pytest.raises(PadimEdgeError, match=r"no variation.*add such images"):
            made(frames, tmp_path)
    assert not list(tmp_path.iterdir())


def test_named_groups_count_as_one(tmp_path: Path) -> None:
    part = dataset(drawn(COUNT))
    grouped = dataclasses.replace(
        part, good=tuple(dataclasses.replace(item, group=f"part {i // 4}") for i, item in enumerate(part.good))
    )
    model = export_model(grouped, tmp_path / "weave.onnx", small("edge"))
    assert model.metadata.independent == model.metadata.calibration.images == COUNT // 4
    assert any("is in the group of" in sentence for sentence in model.warnings)
    alone = dataclasses.replace(
        part, good=tuple(dataclasses.replace(item, group="the only part") for item in part.good)
    )
    with pytest.raises(PadimEdgeError, match="same group"):
        export_model(alone, tmp_path / "weave.onnx", small("edge"))


def test_a_group_larger_than_fits_is_left_out_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "LARGEST_GROUP", 3)
    frames = drawn(12)
    model = made([*frames, *[noise(frames[0]) for _ in range(9)]], tmp_path)
    assert (model.metadata.images, model.metadata.independent) == (21, 12)
    assert np.isfinite(model.scores).all()
    assert len(model.scores) == 21


@pytest.mark.parametrize("form", [Precision(), Precision("fp16"), Precision(diagonal=True)])
def test_scores_without_neighbours_are_those_of_a_fit_without_them(form: Precision, tmp_path: Path) -> None:
    """Brute force: three blocks of four images, and a fit on the other eight for each."""
    frames = drawn(12)
    held = made(frames, tmp_path, form).good.held
    for block in (slice(0, 4), slice(4, 8), slice(8, 12)):
        others = [frame for frame in frames if not any(frame is left for left in frames[block])]
        made(others, tmp_path, form)
        detector = Detector.load(tmp_path / "weave.onnx", "cpu")
        refitted = np.concatenate([detector(detector.prepare(frame)).score for frame in frames[block]])
        alone = held.alone[block]
        np.testing.assert_allclose(held.scores[block], np.clip(refitted, alone, 1.15 * alone), rtol=0.02)


def test_images_that_drift_raise_the_threshold_and_are_named(tmp_path: Path) -> None:
    """A lamp that was turned up for the last third: shuffled, the same images are no drift."""
    frames = [frame if i < 20 else (frame * 1.25).clip(0, 255).astype(np.uint8) for i, frame in enumerate(drawn(30))]
    in_order = made(frames, tmp_path)
    shuffled = made([frames[i] for i in np.random.default_rng(3).permutation(30)], tmp_path)
    assert in_order.metadata.drift > 1.3
    assert shuffled.metadata.drift == 1
    assert in_order.threshold > 1.2 * shuffled.threshold
    (sentence,) = [each for each in in_order.warnings if "drift" in each]
    assert "image 21 to image 30" in sentence or "20" in sentence


def test_images_that_were_not_fitted_on_cannot_calibrate(tmp_path: Path) -> None:
    fitted(dataset(drawn(COUNT)), small("edge")).save(tmp_path / "a.npz")
    others = dataset(drawn(COUNT + 6)[-6:])
    with pytest.raises(PadimEdgeError, match="6 of the 6 good images were not fitted on"):
        load_fitted(tmp_path / "a.npz", others).export(tmp_path / "b.onnx", progress=False)


def spoiled() -> Dataset:
    """Twenty good images, and one with a hole among them."""
    frames = drawn(21)
    frames[7] = draw_defect("weave", "hole", 0, size=frames[7].shape[0])[0]
    return dataset(frames)


def test_a_defect_among_the_good_images_is_named(tmp_path: Path) -> None:
    part = spoiled()
    model = export_model(part, tmp_path / "weave.onnx", small("edge"))
    assert [each.item for each in model.suspects] == [part.good[7]]
    (sentence,) = [each for each in model.warnings if "unlike" in each]
    assert part.good[7].name in sentence
    assert "--exclude-suspects" in sentence
    without_it = model.good.threshold_without(model.suspects, 0.01)
    assert without_it is not None
    assert without_it < model.threshold
    assert model.to_json()["suspects"][0]["path"] == part.good[7].name
    (map_file,) = draw(tmp_path / "suspects", model, model.suspects)
    assert map_file.name.startswith("01-")
    with Image.open(map_file) as image:
        assert image.size == part.good[7].read().image.size


def test_suspects_are_left_out_until_the_rest_look_alike(tmp_path: Path) -> None:
    part = spoiled()
    told: list[str] = []
    job = Job(small("edge"), exclude_suspects=True)
    made = export_class(part, tmp_path / "weave.onnx", job, Feedback(no_bar, told.append))
    assert [each.item.name for each in made.left_out] == [part.good[7].name]
    assert made.model.metadata.images == 20
    assert made.to_json()["left_out"] == [part.good[7].name]
    assert any(sentence.startswith("left out: ") for sentence in told)
    clean = export_class(without(part, {part.good[7].name}), tmp_path / "clean.onnx", Job(small("edge")), SILENT)
    assert made.model.threshold == clean.model.threshold
    frames = np.stack([Detector.load(made.model.path, "cpu").prepare(frame) for frame in drawn(2)])
    one, other = (Detector.load(each.model.path, "cpu")(frames).score for each in (made, clean))
    assert np.array_equal(one, other)


def test_suspects_that_are_more_than_a_tenth_are_not_left_out_unseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rule, "LIMIT", 0.5)
    frames = drawn(21)
    with pytest.raises(PadimEdgeError, match="a tenth at most; look at them with --suspects"):
        export_class(dataset(frames), tmp_path / "weave.onnx", Job(small("edge"), exclude_suspects=True), SILENT)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index, frame in enumerate(drawn(8)):
        place = tmp_path / "part" / ("monday" if index < 4 else "tuesday") / f"{index % 4}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame).save(place)
    return tmp_path / "part"


def test_a_list_leaves_images_out_by_their_names(folder: Path, tmp_path: Path) -> None:
    from padim_edge.datasets import from_folder

    part = from_folder(folder, None)
    names = tmp_path / "wrong.txt"
    names.write_text(f"# looked at on Monday\n\nmonday/1.png\n{folder / 'tuesday' / '2.png'}\n", encoding="utf-8")
    assert {item.key for item in part.good} - {item.key for item in excluded(part, names).good} == {
        "monday/1.png",
        "tuesday/2.png",
    }
    for line, sentence in (("1.png", "2 good images are called"), ("9.png", "no good image")):
        names.write_text(line, encoding="utf-8")
        with pytest.raises(PadimEdgeError, match=f"line 1 of .*{sentence}"):
            excluded(part, names)
    with pytest.raises(PadimEdgeError, match="cannot be read as text"):
        excluded(part, tmp_path / "none.txt")


def test_the_command_leaves_out_names_and_draws(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wrong.txt").write_text("monday/0.png\n", encoding="utf-8")
    options = ("--backbone", "builtin", "--size", 64, "--exclude", "wrong.txt", "--suspects", "odd", "--json")
    stdout, stderr = run("export", "--fast", "--data", folder, *options)
    told = json.loads(stdout)
    assert (told["images"], told["independent"], told["suspects"]) == (7, 7, [])
    assert "no good image looks unlike the others" in stderr
    _, stderr = run("export", "--fast", "--data", folder, "--statistics", "s.npz", "--exclude-suspects", code=1)
    assert "comes too late" in stderr
