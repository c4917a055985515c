"""Data sets of video frames."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from padim_edge import datasets
from padim_edge_artifact import ImageError, PadimEdgeError

SIZE = (12, 10)
"""(width, height) in pixels."""


def frames(clip: Path, numbers: range) -> None:
    clip.mkdir(parents=True)
    for number in numbers:
        Image.new("L", SIZE, 90).save(clip / f"{number:03}.jpg")


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)


@pytest.fixture
def campus(tmp_path: Path) -> Path:
    """Make two clips to fit on and two to test. One of the test clips has no pixel mask."""
    folder = tmp_path / "campus"
    frames(folder / "training/frames/01_002", range(2))
    frames(folder / "training/frames/01_001", range(3))
    frames(folder / "testing/frames/01_0015", range(2))
    frames(folder / "testing/frames/01_0014", range(998, 1002))
    save(folder / "testing/test_frame_mask/01_0014.npy", np.array([0, 1, 1, 0], np.int8))
    save(folder / "testing/test_frame_mask/01_0015.npy", np.array([True, False]))
    pixels = np.zeros((4, 10, 12), np.uint8)
    pixels[1, 2, 3] = pixels[2, 4, 5] = 1
    save(folder / "testing/test_pixel_mask/01_0014.npy", pixels)
    return folder


def test_clips_are_sorted_by_name_and_frames_by_number(campus: Path) -> None:
    """1000 comes after 999. Otherwise frames and masks would not belong together."""
    dataset = datasets.from_folder(campus, None)
    assert datasets.class_names(campus) == (dataset.class_name,) == ("campus",)
    assert [item.key.removeprefix("training/frames/") for item in dataset.good] == [
        "01_001/000.jpg",
        "01_001/001.jpg",
        "01_001/002.jpg",
        "01_002/000.jpg",
        "01_002/001.jpg",
    ]
    assert [(Path(item.name).stem, item.kind) for item in dataset.test] == [
        ("998", "good"),
        ("999", "anomaly"),
        ("1000", "anomaly"),
        ("1001", "good"),
        ("000", "anomaly"),
        ("001", "good"),
    ]
    assert dataset.notes == ()


def test_masks_belong_to_their_frames(campus: Path) -> None:
    masks = [item.mask for item in datasets.from_folder(campus, None).test]
    assert [mask is None for mask in masks] == [True, False, False, True, True, True]
    assert masks[1] is not None
    assert masks[2] is not None
    assert np.argwhere(masks[1]()).tolist() == [[2, 3]]
    assert np.argwhere(masks[2]()).tolist() == [[4, 5]]
    assert masks[1]().dtype == np.bool_


def test_clips_may_lie_in_train_itself(campus: Path) -> None:
    (campus / "training/frames").rename(campus / "train")
    assert len(datasets.from_folder(campus, "yard").good) == 5


def test_without_test_clips_there_is_no_test(campus: Path) -> None:
    (campus / "testing").rename(campus / "elsewhere")
    assert datasets.from_folder(campus, None).test == ()


def test_clips_without_labels_are_left_out_with_a_note(campus: Path) -> None:
    (campus / "testing/test_frame_mask/01_0014.npy").unlink()
    dataset = datasets.from_folder(campus, None)
    assert len(dataset.test) == 2
    assert "left out of the test: 1, first" in dataset.notes[0]


def test_videos_are_to_be_extracted(campus: Path) -> None:
    (campus / "training/frames").rename(campus / "elsewhere")
    with pytest.raises(PadimEdgeError, match=r"holds no frames in training/frames/<clip>.*extract them"):
        datasets.from_folder(campus, None)


def test_frame_masks_must_fit_the_frames(campus: Path) -> None:
    save(campus / "testing/test_frame_mask/01_0014.npy", np.zeros(5, np.int8))
    with pytest.raises(PadimEdgeError, match=r"01_0014.npy has the shape \(5,\), expected \(4,\)"):
        datasets.from_folder(campus, None)


def test_pixel_masks_must_fit_the_frames(campus: Path) -> None:
    save(campus / "testing/test_pixel_mask/01_0014.npy", np.zeros((3, 10, 12), np.int8))
    with pytest.raises(PadimEdgeError, match=r"has the shape \(3, 10, 12\), expected \(4, height, width\)"):
        datasets.from_folder(campus, None)


def test_masks_that_are_no_arrays_are_refused_and_never_unpickled(campus: Path) -> None:
    path = campus / "testing/test_frame_mask/01_0014.npy"
    for content in (b"", b"no array", pickle.dumps([1, 2])):
        path.write_bytes(content)
        with pytest.raises(PadimEdgeError, match="cannot be read"):
            datasets.from_folder(campus, None)
    np.save(path, np.array(["a", "b"]))
    with pytest.raises(PadimEdgeError, match="is no array of numbers"):
        datasets.from_folder(campus, None)


def test_a_mask_that_vanishes_is_an_error_of_its_image(campus: Path) -> None:
    dataset = datasets.from_folder(campus, None)
    (campus / "testing/test_pixel_mask/01_0014.npy").unlink()
    assert dataset.test[1].mask is not None
    with pytest.raises(ImageError, match="cannot be read"):
        dataset.test[1].mask()
