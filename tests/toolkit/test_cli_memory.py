"""A memory on the command line: from good images to a model, and on to its update, merge and threshold."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from commands import run, torchrun
from drawn_memory import parts
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from padim_edge.presets import _parse_prototypes
from padim_edge_artifact import Memory, PadimEdgeError, read_verified
from padim_edge_artifact.kept import Kept, read_kept
from padim_edge_model.comparable import reference_of
from padim_edge_runtime import Detector

HOW = ("--preset", "free", "--prototypes", 200, "--backbone", "builtin", "--size", 64, "--dims", 20, "--seed", 3)

APART = 0.08
"""Most that the mean score of good images may differ between two ways to the same memory; see tests/model."""


def written(folder: Path, count: int, seed: int) -> Path:
    folder.mkdir(parents=True)
    for number, frame in enumerate(parts(count, seed)):
        Image.fromarray(frame).resize((64, 64)).save(folder / f"{number:03}.png")
    return folder


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("data") / "bar", 40, seed=0)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("fresh") / "bar", 24, seed=1)


@pytest.fixture(scope="module")
def model(good: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "bar.onnx"
    run("export", "--fast", "--data", good, *HOW, "--output", path, "--keep-statistics", path.with_suffix(".npz"))
    return path


@pytest.fixture
def copied(model: Path, tmp_path: Path) -> Path:
    """The model with its statistics, for a command that writes."""
    for path in model.parent.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path / model.name


def mean_score(model: Path, images: Path) -> float:
    detector = Detector.load(model, "cpu")
    return float(detector(np.stack([detector.prepare(path) for path in sorted(images.iterdir())])).score.mean())


def memory(kept: Kept) -> Memory:
    assert isinstance(kept.statistics, Memory)
    return kept.statistics


def test_a_memory_is_exported_judges_and_describes_itself(model: Path, fresh: Path, tmp_path: Path) -> None:
    about = read_verified(model)
    assert (about.method.preset, about.prototypes, about.images) == ("free", 200, 40)
    assert "free" in run("inspect", model)[0]
    assert json.loads(run("verify", model, "--json", "--device", "cpu")[0])["devices"]["cpu"]["passed"] is True
    bad = tmp_path / "bad.png"
    frame = parts(1, seed=1)[0]
    frame[10:20, 10:20] = np.where(np.indices((10, 10)).sum(axis=0) // 2 % 2, 250, 5)[..., None]
    Image.fromarray(frame).resize((64, 64)).save(bad)
    stdout, _ = run("infer", model, bad, fresh / "000.png", "--device", "cpu", "--json")
    assert [json.loads(line)["anomalous"] for line in stdout.splitlines()] == [True, False]


@pytest.mark.parametrize(
    ("options", "prototypes"),
    [
        (("--prototypes", "5%"), 128),
        (("--prototypes", "1"), 1),
        (("--turned",), 200),
        (("--preset", "patchcore"), None),
    ],
)
def test_options_of_the_memory_reach_the_model(
    good: Path, tmp_path: Path, options: tuple[str, ...], prototypes: int | None
) -> None:
    how = HOW[4:] if "--preset" in options else HOW  # whose number of prototypes would be that of PatchCore, too
    kept, turned = tmp_path / "a.npz", "--turned" in options
    run("export", "--fast", "--data", good, *how, *options, "--output", tmp_path / "a.onnx", "--keep-statistics", kept)
    about, found = read_verified(tmp_path / "a.onnx"), memory(read_kept(kept))
    assert found.patches.sum() == 40 * 64 * (8 if turned else 1)
    assert about.prototypes == (prototypes or found.patches.sum() // 10)
    assert about.method.bank is not None
    assert about.method.bank.turned == turned


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--preset", "free", "--rank", 5), "a memory has no Gaussians to cut; leave --rank and --diagonal out"),
        (("--preset", "free", "--diagonal"), "a memory has no Gaussians to cut; leave --rank and --diagonal out"),
        (("--preset", "edge", "--prototypes", "20"), "--prototypes is for a memory"),
        (("--preset", "edge", "--turned"), "--turned is for a memory"),
        (("--prototypes", "20"), "preset edge has Gaussians; choose --preset free or patchcore"),
        (("--preset", "free", "--prototypes=-1"), "--prototypes is '-1', expected a number from 1 to"),
        (("--preset", "patchcore", "--prototypes", "101%"), "or a share of the patches such as 10%"),
    ],
)
def test_options_that_do_not_fit_are_one_sentence(
    good: Path, tmp_path: Path, options: tuple[object, ...], sentence: str
) -> None:
    for command in ("export", "fit"):
        if command == "fit" and {"--rank", "--diagonal"} & set(options):
            continue
        output = tmp_path / ("a.onnx" if command == "export" else "a.npz")
        _, stderr = run(command, "--data", good, *options, "--backbone", "builtin", "--output", output, code=1)
        assert sentence in stderr
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("word", ["0", "-1", "101%", "0%", "many", "2.5", "1e3", "10 000", "1000001", "", "%"])
def test_words_that_are_no_number_of_prototypes_are_refused(word: str) -> None:
    with pytest.raises(PadimEdgeError, match=f"--prototypes is '{word}', expected a number from 1 to 1000000"):
        _parse_prototypes(word)


@settings(max_examples=30)
@given(number=st.integers(1, 10**6), hundredths=st.integers(1, 10000))
def test_a_number_or_a_share_of_prototypes_is_taken(number: int, hundredths: int) -> None:
    assert _parse_prototypes(str(number)) == (number, None)
    found, share = _parse_prototypes(f"{hundredths / 100}%")
    assert found is None
    assert share == pytest.approx(hundredths / 10000)


@pytest.mark.parametrize("option", [("--rank", 5), ("--diagonal",)])
def test_statistics_of_a_memory_have_no_gaussians_to_cut(
    model: Path, good: Path, tmp_path: Path, option: tuple[object, ...]
) -> None:
    kept = model.with_suffix(".npz")
    asked = ("export", "--data", good, "--statistics", kept, *option, "--output", tmp_path / "a.onnx")
    assert "no Gaussians to cut" in run(*asked, code=1)[1]
    assert not any(tmp_path.iterdir())


def test_the_threshold_is_set_anew_by_rate_and_by_fresh_images(copied: Path, fresh: Path) -> None:
    before = read_verified(copied)
    run("threshold", copied, "--false-alarm-rate", 0.2)
    lower = read_verified(copied)
    assert lower.threshold < before.threshold
    run("threshold", copied, "--previous")
    assert read_verified(copied).threshold == before.threshold
    stdout, _ = run("recalibrate", copied, fresh, "--false-alarm-rate", 0.1, "--device", "cpu", "--json")
    told = json.loads(stdout)
    assert told["taken"] >= 20
    assert read_verified(copied).threshold == told["threshold"]
    assert 0.6 < told["threshold"] / before.threshold < 1.4


def test_an_update_learns_from_images_that_came_later(copied: Path, good: Path, fresh: Path, tmp_path: Path) -> None:
    asked = ("update", copied, *sorted(fresh.iterdir())[:12], "--take", "anomalous", "--device", "cpu", "--json")
    told = json.loads(run(*asked)[0])
    assert (told["images_before"], told["images"]) == (40, 52)
    updated = Path(told["model"])
    assert read_verified(updated).statistics == read_kept(updated.with_suffix(".npz")).statistics.digest()
    (both := tmp_path / "both").mkdir()
    for number, path in enumerate([*sorted(good.iterdir()), *sorted(fresh.iterdir())[:12]]):
        (both / f"{number:03}.png").write_bytes(path.read_bytes())
    run("export", "--fast", "--data", both, *HOW, "--output", tmp_path / "whole.onnx")
    later = written(tmp_path / "later", 24, seed=2)
    assert mean_score(updated, later) == pytest.approx(mean_score(tmp_path / "whole.onnx", later), rel=APART)


@pytest.fixture(scope="module")
def whole(good: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "bar.npz"
    run("fit", "--data", good, *HOW, "--output", path)
    return path


def assert_same_images(found: Path, whole: Path, good: Path, fresh: Path) -> None:
    """Assert that both files are of the same images, and that models of them judge fresh ones nearly alike."""
    one, other = read_kept(found), read_kept(whole)
    assert one.same == other.same
    assert one.statistics.count == other.statistics.count == 40
    assert memory(one).patches.sum() == memory(other).patches.sum() == 40 * 64
    assert reference_of(one.seen) == reference_of(other.seen)
    assert np.array_equal(np.unique(one.evidence.fingerprints, axis=0), np.unique(other.evidence.fingerprints, axis=0))
    scores = []
    for path in (found, whole):
        made = path.with_suffix(".onnx")
        run("export", "--fast", "--data", good, "--statistics", path, "--output", made)
        scores.append(mean_score(made, fresh))
    assert scores[0] == pytest.approx(scores[1], rel=APART)


def test_statistics_of_machines_that_never_meet_merge_to_the_whole(
    good: Path, fresh: Path, whole: Path, tmp_path: Path
) -> None:
    for name, some in (("a", sorted(good.iterdir())[:15]), ("b", sorted(good.iterdir())[15:])):
        (tmp_path / name).mkdir()
        for path in some:
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
    run("fit", "--data", tmp_path / "a", *HOW, "--output", tmp_path / "a.npz")
    run("fit", "--data", tmp_path / "b", "--like", tmp_path / "a.npz", "--output", tmp_path / "b.npz")
    stdout, _ = run("merge", tmp_path / "a.npz", tmp_path / "b.npz", "--output", tmp_path / "c.npz", "--json")
    assert json.loads(stdout)["images"] == 40
    assert_same_images(tmp_path / "c.npz", whole, good, fresh)


@pytest.mark.parametrize("options", [("--prototypes", 100), ("--turned",)])
def test_memories_of_other_options_are_not_merged(
    good: Path, whole: Path, tmp_path: Path, options: tuple[object, ...]
) -> None:
    run("fit", "--data", good, *HOW, *options, "--output", tmp_path / "a.npz")
    _, stderr = run("merge", whole, tmp_path / "a.npz", "--output", tmp_path / "b.npz", code=1)
    assert "come from different embeddings" in stderr


@pytest.mark.slow
def test_two_ranks_give_what_one_process_gives(good: Path, fresh: Path, whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "two.npz"
    asked = torchrun("--data", good, *HOW, "--output", path, "--json")
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["images"], told["ranks"]) == (40, 2)
    assert [each.name for each in tmp_path.iterdir()] == ["two.npz"]
    assert_same_images(path, whole, good, fresh)
