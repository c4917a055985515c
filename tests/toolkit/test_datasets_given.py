"""Images that a program hands over, and the one way in that takes everything."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import drawn_images
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from padim_edge import datasets, sample
from padim_edge_artifact import ImageError, PadimEdgeError

COUNT = 3


@pytest.fixture
def arrays() -> list[npt.NDArray[np.uint8]]:
    return [np.asarray(drawn_images.good(number, (32, 40))) for number in range(COUNT)]


def pixels(dataset: datasets.Dataset) -> list[npt.NDArray[np.uint8]]:
    return [np.asarray(item.read().image) for item in dataset.good]


def test_arrays_are_good_images_in_their_order(arrays: list[npt.NDArray[np.uint8]]) -> None:
    dataset = datasets.from_source(arrays)
    assert dataset.class_name == "images"
    assert datasets.from_source(arrays, "part").class_name == "part"
    assert {item.kind for item in dataset.good} == {datasets.GOOD}
    assert dataset.test == ()
    np.testing.assert_array_equal(pixels(dataset), arrays)
    np.testing.assert_array_equal(pixels(datasets.from_source(np.stack(arrays))), arrays)


def test_grey_arrays_become_rgb(arrays: list[npt.NDArray[np.uint8]]) -> None:
    (found,) = pixels(datasets.from_source([arrays[0][..., 1]]))
    np.testing.assert_array_equal(found, np.repeat(arrays[0][..., 1:2], 3, -1))
    (found,) = pixels(datasets.from_source(iter([arrays[0][..., 1:2]])))
    np.testing.assert_array_equal(found, np.repeat(arrays[0][..., 1:2], 3, -1))


def test_a_generator_may_use_its_buffer_again_and_is_consumed_once(arrays: list[npt.NDArray[np.uint8]]) -> None:
    taken = 0

    def camera() -> Iterator[npt.NDArray[np.uint8]]:
        nonlocal taken
        buffer = np.empty_like(arrays[0])
        for frame in arrays:
            buffer[:] = frame
            taken += 1
            yield buffer

    dataset = datasets.from_source(camera())
    for _ in range(2):
        np.testing.assert_array_equal(pixels(dataset), arrays)
    assert taken == COUNT


def test_arrays_in_a_list_are_not_copied(arrays: list[npt.NDArray[np.uint8]]) -> None:
    arrays = [array.copy() for array in arrays]
    dataset = datasets.from_source(arrays)
    arrays[0][:] = 7
    assert (pixels(dataset)[0] == 7).all()


def test_paths_are_the_same_images_as_their_folder(arrays: list[npt.NDArray[np.uint8]], tmp_path: Path) -> None:
    (folder := tmp_path / "part").mkdir()
    for number, array in enumerate(arrays):
        Image.fromarray(array).save(folder / f"{number}.png")
    by_folder = datasets.from_source(str(folder))
    paths = sorted(folder.glob("*.png"))
    for given in (paths, [str(path) for path in paths], iter(paths)):
        by_paths = datasets.from_source(given)
        assert by_paths.class_name == by_folder.class_name == "part"
        assert [(item.name, item.key) for item in by_paths.good] == [(item.name, item.key) for item in by_folder.good]
        np.testing.assert_array_equal(pixels(by_paths), arrays)


def test_paths_from_several_folders_keep_apart(tmp_path: Path) -> None:
    for day in ("monday", "tuesday"):
        (tmp_path / day).mkdir()
        drawn_images.good(0).save(tmp_path / day / "0.png")
    dataset = datasets.from_source(sorted(tmp_path.rglob("*.png")))
    assert [item.key for item in dataset.good] == ["monday/0.png", "tuesday/0.png"]
    assert dataset.class_name == tmp_path.name


def test_paths_arrays_bytes_and_pillow_images_may_be_mixed(arrays: list[npt.NDArray[np.uint8]], tmp_path: Path) -> None:
    Image.fromarray(arrays[0]).save(tmp_path / "0.png")
    encoded = (tmp_path / "0.png").read_bytes()
    with Image.open(tmp_path / "0.png") as opened:
        dataset = datasets.from_source([tmp_path / "0.png", arrays[1], Image.fromarray(arrays[2]), opened, encoded])
    np.testing.assert_array_equal(pixels(dataset), [*arrays, arrays[0], arrays[0]])
    assert [item.name for item in dataset.good] == [
        str(tmp_path / "0.png"),
        "images[1]",
        *(f"images[{i}]" for i in (2, 3, 4)),
    ]


def test_pillow_images_are_converted_as_files_are() -> None:
    grey = Image.fromarray(np.arange(1024, dtype=np.uint8).reshape(32, 32))
    see_through = drawn_images.good(0, (32, 32)).convert("RGBA")
    dataset = datasets.from_source([grey, see_through])
    found = [item.read() for item in dataset.good]
    assert [each.image.mode for each in found] == ["RGB", "RGB"]
    assert found[1].notes == ("transparency was dropped",)
    np.testing.assert_array_equal(np.asarray(found[0].image)[..., 0], np.asarray(grey))


def test_many_opened_pillow_images_keep_no_file_open(tmp_path: Path) -> None:
    drawn_images.good(0).save(path := tmp_path / "0.png")
    opened = Image.open(path)
    dataset = datasets.from_source([opened])
    assert opened.fp is None
    path.unlink()
    assert dataset.good[0].read().image.size == drawn_images.good(0).size


def test_one_bad_image_does_not_stop_the_others(tmp_path: Path, arrays: list[npt.NDArray[np.uint8]]) -> None:
    drawn_images.good(0).save(whole := tmp_path / "whole.png")
    (torn := tmp_path / "torn.png").write_bytes(whole.read_bytes()[:600])
    with Image.open(torn) as opened:
        bad = {
            "does not exist": tmp_path / "gone.png",
            "is a folder, expected an image": tmp_path,
            "images[2]: the array has 40x7 pixels, expected at least 8 a side": arrays[0][:7],
            "images[3]: the image holds floating-point numbers from 0 to 0": Image.new("F", (32, 32)),
            "images[4]: the image cannot be decoded": opened,
            "images[5]: the image has 7x40 pixels": Image.new("RGB", (7, 40)),
            "images[6]: the encoded image is not an image": b"no image",
        }
        dataset = datasets.from_source([*bad.values(), arrays[0]])
    for item, sentence in zip(dataset.good, bad, strict=False):
        for _ in range(2):
            with pytest.raises(ImageError, match=re.escape(sentence)):
                item.read()
    np.testing.assert_array_equal(np.asarray(dataset.good[-1].read().image), arrays[0])


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        ([], "there are no images, expected paths, uint8 arrays .* or Pillow images; check the list or generator"),
        (iter(()), "there are no images"),
        ([np.zeros((32, 32, 3))], r"images\[0\]: the array holds float64, expected uint8 .*; convert it first"),
        ([np.zeros((32, 32), np.int16)], r"images\[0\]: the array holds int16"),
        ([np.zeros((3, 32, 32), np.uint8)], r"images\[0\]: the array has the shape \(3, 32, 32\), expected \(H, W\)"),
        ([np.zeros((32, 32, 4), np.uint8)], r"the shape \(32, 32, 4\)"),
        (iter([np.zeros((32, 32, 4), np.uint8)]), r"the shape \(32, 32, 4\)"),
        ([np.zeros(32, np.uint8)], r"the shape \(32,\)"),
        ([None], r"images\[0\]: the image is None, as cv2\.imread gives for a file"),
        ([["a.png"]], r"images\[0\]: the image is a list of 1"),
        (np.zeros((32, 32, 3), np.uint8), "the images are one array of shape .*; put a single image into a list"),
        (np.zeros((32, 32), np.uint8), "put a single image into a list"),
        (Image.new("RGB", (32, 32)), "the images are an Image, expected .*; put a single image into a list"),
        (7, "the images are an int"),
        (b"\x89PNG", "the images are a bytes"),
    ],
)
def test_what_is_no_image_gets_one_sentence(images: object, sentence: str) -> None:
    with pytest.raises(PadimEdgeError, match=sentence) as raised:
        datasets.from_source(images)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)


def test_nothing_means_the_sample() -> None:
    dataset = datasets.from_source(None, "weave")
    assert dataset.class_name == "weave"
    assert (len(dataset.good), len(dataset.test)) == (120, 12 + 4 * len(sample.DEFECTS["weave"]))
    assert datasets.class_names(None) == sample.CLASSES
    with pytest.raises(PadimEdgeError, match="the built-in sample has several classes, bottle and weave; choose"):
        datasets.from_source(None)
    with pytest.raises(PadimEdgeError, match="the built-in sample has no class 'screw', only bottle and weave; choose"):
        datasets.from_source(None, "screw")


def test_a_data_set_is_taken_as_it_is(arrays: list[npt.NDArray[np.uint8]]) -> None:
    dataset = datasets.from_images(arrays, "part")
    assert datasets.from_source(dataset) is dataset
