"""Rehearsals of whole models, in Python and as a user types them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import drawn_images
import numpy as np
import pytest
from commands import run
from golden import WHOLE
from PIL import Image

import padim_edge
from padim_edge import sample
from padim_edge.planting import KINDS, part_of
from padim_edge.rehearsal.folds import rescaled
from padim_edge.rehearsal.outcome import RehearsalOptions, conclude
from padim_edge.rehearsal.real import in_frame, main_region
from padim_edge.rehearsal.result import Rehearsal
from padim_edge.rehearsal.trials import Judged, Planting, Score, columns, crop, judge, per_image
from padim_edge.rehearsal.verdict import BLIND, CAUTION, SEES
from padim_edge.rehearsal.where import inside
from padim_edge_artifact import Metadata, PadimEdgeError, Preprocessing, read_metadata
from padim_edge_runtime import Detector

SIDE = 64
COUNT = 60
NEW = (100, 101, 102, 104, 105, 106)
"""Numbers of good images that were not fitted on. Number 103 happens to look like one that was."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in MVTec AD's layout. Its good images are some that the golden model was fitted on."""
    folder = tmp_path_factory.mktemp("data") / "disc"
    for kind in ("train/good", "test/good", "test/square", "ground_truth/square"):
        (folder / kind).mkdir(parents=True)
    for number in range(16):
        drawn_images.good(number).save(folder / "train" / "good" / f"{number}.png")
    for number in NEW:
        drawn_images.good(number).save(folder / "test" / "good" / f"{number}.png")
        image, (left, top, width, height) = drawn_images.defective(number)
        mask = np.zeros((image.height, image.width), np.uint8)
        mask[top : top + height, left : left + width] = 255
        image.save(folder / "test" / "square" / f"{number}.png")
        Image.fromarray(mask).save(folder / "ground_truth" / "square" / f"{number}_mask.png")
    return folder


@pytest.fixture(scope="module")
def model() -> Path:
    return WHOLE


@pytest.fixture(scope="module")
def metadata(model: Path) -> Metadata:
    return read_metadata(model)


@pytest.fixture(scope="module")
def rehearsal(model: Path, data: Path) -> Rehearsal:
    return padim_edge.rehearse(model, data, defects=data, options=RehearsalOptions(COUNT), progress=False)


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    return [sample.draw_good("weave", i, size=SIDE) for i in range(5)]


def numbered(frames: list[np.ndarray]) -> Iterator[tuple[int, str, np.ndarray]]:
    yield from ((number, f"{number}.png", frame) for number, frame in enumerate(frames))


def judged_by(score: Score, frames: list[np.ndarray], each: int = 6, seed: int = 0) -> Judged:
    part = part_of(frames)
    return judge(score, numbered(frames), Planting(frozenset(range(len(frames))), each, seed, part))


def blind(frames: np.ndarray) -> np.ndarray:
    return np.ones(len(frames))


def all_seeing(known: list[np.ndarray]) -> Score:
    """A judge that knows every good image by heart: any difference is an alarm."""
    good = np.stack(known).astype(np.int64)

    def score(frames: np.ndarray) -> np.ndarray:
        apart = np.abs(frames[:, None].astype(np.int64) - good[None]).reshape(len(frames), len(good), -1)
        return 1.0 + 1e6 * (apart.max(axis=2).min(axis=1) > 0)

    return score


def test_blind_and_perfect_judges_are_called_so(frames: list[np.ndarray], metadata: Metadata) -> None:
    at = replace(metadata, threshold=10.0)
    found = conclude(judged_by(blind, frames, 20), at, 0)
    assert found.level == BLIND
    assert found.chart.found.count == 0
    assert "NEARLY BLIND" in found.verdict[0]
    assert found.line.startswith("WARNING")
    words = " ".join(each.sentence + each.command for each in found.remedies)
    for remedy in ("more good images", "another preset", "larger frame", "region of interest"):
        assert remedy in words.lower()
    seeing = conclude(judged_by(all_seeing(frames), frames, 20), at, 0)
    assert seeing.level == SEES
    assert seeing.remedies == ()
    assert "WARNING" not in seeing.line
    for each in (found, seeing):
        assert each.verdict[-1] == CAUTION, "no rehearsal promises a miss rate"


def test_every_image_gains_its_defects_and_every_score_stands_with_its_defect(frames: list[np.ndarray]) -> None:
    def mean(some: np.ndarray) -> np.ndarray:
        return some.reshape(len(some), -1).mean(axis=1).astype(np.float64)

    found = judged_by(mean, frames)
    assert [each.image for each in found.good] == list(range(5))
    assert [each.image for each in found.trials] == [image for image in range(5) for _ in range(6)]
    assert {each.kind for each in found.trials} <= set(KINDS)
    for each in found.trials:
        assert each.before == found.good[each.image].score
        assert all(0 <= end <= 1 for end in each.place)
        assert each.extent > 0
        assert math.isfinite(each.contrast)
    assert found.mean == pytest.approx(np.mean(frames, axis=0))


def test_the_same_seed_gives_the_same_trials_and_another_seed_others(frames: list[np.ndarray]) -> None:
    one, two, other = (judged_by(blind, frames, seed=seed).trials for seed in (1, 1, 2))
    assert one == two
    assert (columns(one).place != columns(other).place).any()


def test_any_number_of_threads_gives_the_same_rehearsal(model: Path, data: Path) -> None:
    one, two = (
        padim_edge.rehearse(
            Detector.load(model, "cpu", threads=threads), data, options=RehearsalOptions(20), progress=False
        )
        for threads in (1, 2)
    )
    assert one.to_json() == two.to_json()


@pytest.mark.parametrize(("images", "count"), [(1, 7), (5, 5), (20, 360), (7, 3), (500, 360)])
def test_defects_are_spread_over_images(images: int, count: int) -> None:
    numbers, each = per_image(images, count)
    assert numbers == sorted(set(numbers))
    assert numbers[0] >= 0
    assert numbers[-1] < images
    assert count <= len(numbers) * each < count + images
    if images <= count:
        assert len(numbers) == images


def test_images_of_the_fit_are_set_aside(rehearsal: Rehearsal) -> None:
    """16 were fitted on; the 6 good test images are new."""
    assert len(rehearsal.good) == 6
    assert all("test" in each.name for each in rehearsal.good)
    assert any(note.startswith("16 of 22 good images were fitted on") for note in rehearsal.notes)


def test_without_new_images_the_way_out_is_told(model: Path, data: Path) -> None:
    _, told = run("rehearse", model, data / "train" / "good", code=1)
    assert "all of the 16 good images" in told
    assert "--data" in told


def test_one_kind_of_images_must_be_given(model: Path, data: Path) -> None:
    assert "neither of GOOD_IMAGES and --data" in run("rehearse", model, code=1)[1]
    assert "both of GOOD_IMAGES and --data" in run("rehearse", model, data, "--data", data, code=1)[1]
    for both in ({"images": data, "data": data}, {}):
        with pytest.raises(PadimEdgeError, match="good images"):
            padim_edge.rehearse(model, **both, progress=False)


@pytest.mark.parametrize(("count", "seed"), [(0, 0), (1, -1)])
def test_impossible_plans_are_refused(count: int, seed: int) -> None:
    with pytest.raises(PadimEdgeError, match="expected"):
        RehearsalOptions(count, seed)


def test_json_is_complete_and_agrees_with_itself(rehearsal: Rehearsal) -> None:
    told = json.loads(json.dumps(rehearsal.to_json(), allow_nan=False))
    assert COUNT <= told["defects"] == len(told["trials"]) < COUNT + 6
    assert told["images"] == len(told["good"]) == 6
    assert sum(cell["found"]["total"] for cell in told["chart"] if cell["found"]) == told["counted"]
    assert sum(kind["found"]["total"] for kind in told["kinds"].values()) == told["counted"]
    assert told["found"]["count"] == sum(
        trial["score"] > told["threshold"] for trial in told["trials"] if trial["before"] <= told["threshold"]
    )
    assert (
        told["real"]["defects"]
        == len(told["real"]["trials"])
        == sum(group["found"]["total"] for group in told["real"]["groups"])
    )
    assert told["thresholds"][0]["threshold"] == told["threshold"]
    assert told["verdict"][-1] == CAUTION
    assert told["level"] in ("blind", "weak", "sees")


def test_the_page_holds_all_sections_and_loads_nothing(rehearsal: Rehearsal, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    rehearsal.report(path)
    page = path.read_text(encoding="utf-8")
    for title in ("Visibility chart", "Share found by contrast", "By kind", "Weak places", "Real defects", "Model"):
        assert f"<h3>{title}" in page
    assert "http:" not in page.replace("http://www.w3.org", "")
    assert "https:" not in page
    assert "<script" not in page
    again = tmp_path / "again.html"
    rehearsal.report(again)
    assert again.read_bytes() == path.read_bytes()


def test_the_command_says_what_python_says(model: Path, data: Path, rehearsal: Rehearsal, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    arguments = ("rehearse", model, data, "--defects", data, "--count", COUNT)
    stdout, stderr = run(*arguments, "--json", "--report", page)
    told, expected = json.loads(stdout), rehearsal.to_json()
    assert {**told, "remedies": []} == {
        **json.loads(json.dumps(expected)),
        "thresholds": told["thresholds"],
        "remedies": [],
    }
    assert "were fitted on" in stderr
    assert page.stat().st_size > 10_000
    text = str(rehearsal)
    for words in (rehearsal.verdict[0], "95 % found", "all kinds", "Real defects on the chart", "false alarms asked"):
        assert words in text


def test_scores_of_models_of_fewer_images_are_brought_to_scale(frames: list[np.ndarray], metadata: Metadata) -> None:
    usual = float(np.median(metadata.calibration.scores))
    whole = judged_by(lambda some: np.full(len(some), 1.5 * usual), frames)
    both, scale = rescaled([whole, whole], metadata)
    assert scale == pytest.approx(1.5)
    assert [each.score for each in both.good] == pytest.approx([usual] * 10)
    assert [each.before for each in both.trials] == pytest.approx([usual] * 60)
    assert both.mean == pytest.approx(whole.mean)


def test_images_that_raise_an_alarm_anyway_tell_nothing(frames: list[np.ndarray], metadata: Metadata) -> None:
    """Half of the images are false alarms; a blind judge must not gain from them."""
    alarming = {frames[0].tobytes(), frames[1].tobytes()}

    def score(some: np.ndarray) -> np.ndarray:
        return np.array(
            [
                20.0
                if any(np.mean(each != np.frombuffer(good, np.uint8).reshape(each.shape)) < 0.5 for good in alarming)
                else 1.0
                for each in some
            ]
        )

    found = conclude(judged_by(score, frames), replace(metadata, threshold=10.0), 0)
    assert found.false_alarms is not None
    assert found.false_alarms.count == 2
    assert len(found.counted) == 18
    assert found.chart.found.count == 0


def test_defects_stay_inside_the_region_of_interest(frames: list[np.ndarray], metadata: Metadata) -> None:
    inspected = np.zeros(metadata.size, np.bool_)
    inspected[:, : SIDE // 2] = True
    part = inside(part_of(frames), inspected, metadata.input_size)
    for frame in frames:
        assert part(frame).any()
        assert not part(frame)[:, SIDE // 2 :].any()


def test_a_thin_scratch_of_a_large_image_keeps_its_mask() -> None:
    """3 pixels of 512 are less than half a pixel of the frame."""
    truth = np.zeros((512, 512), np.bool_)
    truth[100:400, 200:203] = True
    mask = in_frame(truth, Preprocessing((SIDE, SIDE)))
    assert mask.shape == (SIDE, SIDE)
    assert mask[15:48].any(axis=1).all()


def test_the_region_that_is_easiest_to_see_decides() -> None:
    frame = np.full((SIDE, SIDE, 3), 120, np.uint8)
    frame += np.random.default_rng(0).integers(0, 9, frame.shape, np.uint8)
    mask = np.zeros((SIDE, SIDE), np.bool_)
    mask[5:25, 5:8] = mask[40:52, 40:52] = True
    frame[40:52, 40:52] += 60
    region, measured = main_region(frame, mask)
    assert region[45, 45]
    assert not region[10, 6]
    assert measured.contrast > 3


@pytest.mark.parametrize("at", [(0, 0), (63, 63), (30, 5)])
def test_crops_hold_their_defect(at: tuple[int, int]) -> None:
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    mask = np.zeros((SIDE, SIDE), np.bool_)
    mask[at] = True
    part, inside_ = crop(image, mask)
    assert part.shape[:2] == inside_.shape
    assert inside_.sum() == 1


def test_defects_without_masks_are_refused(model: Path, data: Path, tmp_path: Path) -> None:
    bare = tmp_path / "disc"
    for folder in ("train/good", "test/hole"):
        (bare / folder).mkdir(parents=True)
        Image.new("RGB", (80, 80)).save(bare / folder / "0.png")
    assert "mask" in run("rehearse", model, data, "--defects", bare, code=1)[1]
