"""A model that learns later: the same Gaussians as one fit on all images, and old and new can be told apart."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import run
from PIL import Image
from small_models import dataset, export_model, judged, rounded_to_nearest, small, weave

from padim_edge_artifact import ArtifactError, ImageError, PadimEdgeError, read_verified
from padim_edge_artifact.kept import read_kept, write_kept
from padim_edge_artifact.method import Precision
from padim_edge_learn.assemble import RULE, RULE_UPDATED
from padim_edge_learn.intake import NothingTakenError
from padim_edge_learn.update import Updated, UpdateFiles, next_name, update
from padim_edge_model.comparable import reference_of
from padim_edge_runtime import Detector

FIRST, ALL = 26, 40
IMAGES = weave(ALL)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("good")
    for i, image in enumerate(IMAGES):
        image.save(folder / f"{i:03}.png")
    return sorted(folder.iterdir())


def fitted(folder: Path, count: int, precision: Precision | None = None) -> Path:
    """A model of the first images, with its statistics beside it."""
    path = folder / "part.onnx"
    model = export_model(dataset(IMAGES[:count]), path, small("edge", precision=precision))
    write_kept(folder / "part.npz", model.kept)
    return path


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fitted(tmp_path_factory.mktemp("old"), FIRST)


def files(model: Path, folder: Path) -> UpdateFiles:
    return UpdateFiles(model, model.with_suffix(".npz"), folder / "new.onnx", folder / "new.npz")


def reasons(made: Updated | NothingTakenError) -> dict[str, str]:
    """Reason of each image that was set aside, by its name."""
    return {each.path.name: each.reason for each in made.set_aside}


def marked(image: Image.Image) -> Image.Image:
    """The same part with a small dark square on it."""
    pixels = np.array(image)
    side = pixels.shape[0] // 6
    pixels[3 * side : 4 * side, 2 * side : 3 * side] = 40
    return Image.fromarray(pixels)


def updated(model: Path, images: list[Path], folder: Path) -> Path:
    return update(files(model, folder), images).files.output


@pytest.mark.parametrize(
    "precision",
    [Precision(), Precision("fp16"), Precision("fp32", rank=6), Precision("fp32", diagonal=True)],
    ids=str,
)
def test_updating_is_fitting_on_all_images_at_once(good: list[Path], tmp_path: Path, precision: Precision) -> None:
    (tmp_path / "whole").mkdir()
    whole = Detector.load(fitted(tmp_path / "whole", ALL, precision), "cpu")
    grown = Detector.load(updated(fitted(tmp_path, FIRST, precision), good[FIRST:], tmp_path), "cpu")
    frames = np.stack([whole.prepare(image) for image in judged()])
    tolerance = 1e-3 if precision.name == "fp16" else 1e-5
    for one, other in zip(dataclasses.astuple(grown(frames))[:3], dataclasses.astuple(whole(frames))[:3], strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance)
    assert grown.metadata.method == whole.metadata.method
    assert grown.self_test().passed


def test_two_updates_are_one(old: Path, good: list[Path], tmp_path: Path) -> None:
    (tmp_path / "step").mkdir()
    step = updated(old, good[FIRST:33], tmp_path / "step")
    twice = read_verified(updated(step, good[33:], tmp_path))
    assert (twice.revision, twice.images) == (3, ALL)
    assert twice.parent == read_verified(step).digests.model
    assert twice.threshold_rule == RULE_UPDATED + RULE
    (tmp_path / "whole").mkdir()
    whole = read_kept(fitted(tmp_path / "whole", ALL).with_suffix(".npz"))
    found = read_kept(tmp_path / "new.npz")
    assert np.linalg.norm(found.statistics.scatter - whole.statistics.scatter) < 1e-6 * np.linalg.norm(
        whole.statistics.scatter
    )
    reference, expected = reference_of(found.seen), reference_of(whole.seen)
    assert (reference.mean, reference.brightness, reference.contrast) == (
        expected.mean,
        expected.brightness,
        expected.contrast,
    )


def test_old_and_new_can_be_told_apart_and_the_old_one_stays(old: Path, good: list[Path], tmp_path: Path) -> None:
    content = old.read_bytes()
    before, after = read_verified(old), read_verified(updated(old, good[FIRST:], tmp_path))
    assert (before.revision, before.parent, before.images) == (1, None, FIRST)
    assert (after.revision, after.parent, after.images) == (2, before.digests.model, ALL)
    assert after.statistics == read_kept(tmp_path / "new.npz").statistics.digest() != before.statistics
    assert after.threshold_rule == RULE_UPDATED + RULE
    assert after.calibration.images == ALL
    assert set(before.calibration.scores) <= set(after.calibration.scores)
    assert old.read_bytes() == content
    assert before.self_test != after.self_test


def test_int8_goes_on_with_the_embedding_that_it_has(good: list[Path], tmp_path: Path) -> None:
    """Its ranges were chosen on the first images; the Gaussians are of what that graph gives for all of them."""
    with rounded_to_nearest():
        model = fitted(tmp_path, FIRST, Precision("int8"))
    grown = updated(model, good[FIRST:], tmp_path)
    assert read_kept(tmp_path / "new.npz").graph == read_kept(tmp_path / "part.npz").graph
    assert Detector.load(grown, "cpu").self_test().passed
    assert read_verified(grown).precision == Precision("int8")


def test_an_image_that_cannot_be_read_does_not_stop_the_others(old: Path, good: list[Path], tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(good[0].read_bytes()[:200])
    made = update(files(old, tmp_path), [good[30], tmp_path / "torn.png", good[31]])
    assert made.metadata.images == FIRST + 2
    assert len(made.scores) == 2
    assert "torn.png" in made.unreadable[0]
    with pytest.raises(ImageError, match="no readable image to learn from"):
        updated(old, [tmp_path / "torn.png"], tmp_path)


def test_statistics_of_another_model_are_refused(old: Path, good: list[Path], tmp_path: Path) -> None:
    other = fitted(tmp_path, 12)
    with pytest.raises(ArtifactError, match="was not kept with"):
        update(dataclasses.replace(files(old, tmp_path), statistics=other.with_suffix(".npz")), good[FIRST:])
    with pytest.raises(PadimEdgeError, match="does not exist"):
        updated(other.rename(tmp_path / "alone.onnx"), good[FIRST:], tmp_path)
    assert not (tmp_path / "new.onnx").exists()


def test_names_of_updates_count() -> None:
    assert next_name(Path("a/bottle.onnx"), 2) == Path("a/bottle-r2.onnx")
    assert next_name(Path("a/bottle-r2.onnx"), 3) == Path("a/bottle-r3.onnx")


def test_the_command_finds_the_statistics_and_names_what_it_wrote(old: Path, good: list[Path], tmp_path: Path) -> None:
    for name in ("part.onnx", "part.npz"):
        (tmp_path / name).write_bytes((old.parent / name).read_bytes())
    stdout, _ = run("update", tmp_path / "part.onnx", *good[FIRST:], "--json")
    told = json.loads(stdout)
    assert told["model"] == str(tmp_path / "part-r2.onnx")
    assert (told["revision"], told["images_before"], told["images"]) == (2, FIRST, ALL)
    assert told["parent"] == read_verified(old).digests.model
    run("verify", tmp_path / "part-r2.onnx", "--device", "cpu")
    stdout, _ = run("inspect", tmp_path / "part-r2.onnx")
    assert f"2, an update of the model with digest {told['parent'][:12]}" in stdout
    stdout, _ = run("update", tmp_path / "part-r2.onnx", good[0], "--take", "fitted")
    assert "part-r3.onnx: revision 3" in stdout


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--output", "part.onnx"), "is the model itself"),
        (("--output", "new.txt"), "expected a name that ends in .onnx"),
        (("--output", "no/where.onnx"), "does not exist; make it"),
        (("--false-alarm-rate", 2), "expected a share between 0 and 1"),
        (("--statistics", "missing.npz"), "missing.npz does not exist, and update adds to the statistics"),
        (("--device", "tpu"), "there is no device 'tpu'"),
    ],
)
def test_bad_options_are_one_sentence(
    old: Path,
    good: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[object, ...],
    sentence: str,
) -> None:
    for name in ("part.onnx", "part.npz"):
        (tmp_path / name).write_bytes((old.parent / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    _, stderr = run("update", "part.onnx", good[30], *options, code=1)
    assert sentence in stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part.npz", "part.onnx"]


def test_without_onnx_it_says_what_to_install(old: Path, good: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in sys.modules if each.split(".")[0] == "onnx" or each.startswith("padim_edge_model")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("padim_edge_learn.update", "padim_edge_learn.assemble"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    _, stderr = run("update", old, good[0], code=1)
    assert "needs onnx, which the extra update brings; run pip install 'padim-edge-runtime[update]'" in stderr
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    _, stderr = run("update", old, good[0], code=1)
    assert "needs onnx and threadpoolctl, which the extra update brings" in stderr


def test_an_extra_that_is_there_and_broken_is_not_called_missing(
    old: Path, good: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "padim_edge_learn.update":
                raise ImportError("libprotobuf.so is of another version")

    monkeypatch.delitem(sys.modules, "padim_edge_learn.update")
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    _, stderr = run("update", old, good[0], code=1)
    assert "update cannot start (libprotobuf.so is of another version)" in stderr
    assert "--force-reinstall 'padim-edge-runtime[update]'" in stderr


def test_without_statistics_it_says_what_they_are_and_what_goes_without(
    old: Path, good: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "part.onnx").write_bytes(old.read_bytes())
    _, stderr = run("update", tmp_path / "part.onnx", good[0], code=1)
    for words in (f"{tmp_path / 'part.npz'} does not exist", "--keep-statistics", "--statistics", "recalibrate"):
        assert words in stderr


def test_the_same_folder_again_teaches_nothing(old: Path, good: list[Path], tmp_path: Path) -> None:
    with pytest.raises(NothingTakenError, match=rf"none of {FIRST} images can be taken \({FIRST} fitted\)") as found:
        update(files(old, tmp_path), good[:FIRST])
    assert set(reasons(found.value).values()) == {"fitted"}
    assert not list(tmp_path.iterdir())
    for name in ("part.onnx", "part.npz"):
        (tmp_path / name).write_bytes((old.parent / name).read_bytes())
    _, stderr = run("update", tmp_path / "part.onnx", *good[:FIRST], code=1)
    assert f"set aside: {FIRST - 10} more that are fitted" in stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part.npz", "part.onnx"]


def test_doubtful_images_among_others_change_nothing(old: Path, good: list[Path], tmp_path: Path) -> None:
    """The model is that of the good and new images alone, to the byte in its statistics."""
    (folder := tmp_path / "mixed").mkdir()
    kinds = {
        "fitted.png": good[2],
        "later.png": good[30],
        "marked.png": marked(IMAGES[31]),
        "negative.png": Image.eval(IMAGES[32], lambda value: 255 - value),
    }
    for name, kind in kinds.items():
        if isinstance(kind, Path):
            (folder / name).write_bytes(kind.read_bytes())
        else:
            kind.save(folder / name)
    images = [folder / "fitted.png", *good[FIRST:34], *(folder / name for name in list(kinds)[1:]), *good[34:]]
    (tmp_path / "alone").mkdir()
    made, alone = update(files(old, tmp_path), images), update(files(old, tmp_path / "alone"), good[FIRST:])
    assert reasons(made) == {
        "fitted.png": "fitted",
        "later.png": "repeated",
        "marked.png": "anomalous",
        "negative.png": "not comparable",
    }
    assert (made.taken, alone.taken, alone.set_aside) == (ALL - FIRST, ALL - FIRST, ())
    assert made.metadata.statistics == alone.metadata.statistics
    assert made.metadata.threshold == alone.metadata.threshold
    assert "14 taken, 4 set aside (1 fitted, 1 not comparable, 1 anomalous, 1 repeated)" in str(made)
    told = made.to_json()
    assert (told["taken"], sum(told["set_aside_by_reason"].values())) == (14, 4)


def test_doubtful_images_are_taken_when_a_person_says_so(old: Path, good: list[Path], tmp_path: Path) -> None:
    marked(IMAGES[31]).save(tmp_path / "marked.png")
    images = [good[2], good[30], tmp_path / "marked.png"]
    made = update(files(old, tmp_path), images, take=["anomalous"])
    assert (made.taken, reasons(made)) == (2, {good[2].name: "fitted"})
    made = update(files(old, tmp_path), images, take=["all"])
    assert (made.taken, made.set_aside) == (3, ())
    with pytest.raises(PadimEdgeError, match="--take has 'good', expected fitted, not-comparable, anomalous, repeated"):
        update(files(old, tmp_path), images, take=["good"])


def test_the_threshold_before_is_kept_with_its_reason(old: Path, good: list[Path], tmp_path: Path) -> None:
    before = read_verified(old)
    after = read_verified(updated(old, good[FIRST:], tmp_path))
    (past,) = after.history
    assert (past.score, past.rule, past.rate, past.reason, past.evidence) == (
        before.threshold,
        before.threshold_rule,
        before.false_alarm_rate,
        "update",
        before.calibration,
    )
    assert np.array_equal(after.calibration.scores, sorted(after.calibration.scores))
