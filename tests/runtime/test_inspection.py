"""One image inspected: from whatever holds it, in its own pixels, with a map and an overlay when they are asked for."""

from __future__ import annotations

import dataclasses
import io
import json
import os
from pathlib import Path

import drawn_images
import golden as files
import numpy as np
import pytest
from PIL import Image

from padim_edge_artifact import ImageError
from padim_edge_runtime import Detector, Inspection
from padim_edge_runtime.regions import to_image

SIZE = (100, 140)


@pytest.fixture(scope="module", params=[files.WHOLE, files.CROPPED], ids=["whole frame", "cropped"])
def detector(request: pytest.FixtureRequest, device: str) -> Detector:
    return Detector.load(request.param, device)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """A defective part, RGB; the channels differ, so that a swap shows."""
    return np.array(drawn_images.defective(62, SIZE)[0])


def encoded(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def timeless(inspection: Inspection) -> dict[str, object]:
    return {**inspection.to_json(), "milliseconds": 0, "path": None}


def test_every_way_to_give_an_image_gives_the_same_inspection(
    detector: Detector, pixels: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "part.png"
    path.write_bytes(encoded(pixels))
    expected = detector.inspect(pixels)
    content = path.read_bytes()
    ways = (
        path,
        str(path),
        content,
        bytearray(content),
        memoryview(content),
        Image.fromarray(pixels),
        Image.open(path),
    )
    for way in ways:
        found = detector.inspect(way)
        assert timeless(found) == timeless(expected), type(way)
        assert np.array_equal(found.anomaly_map, expected.anomaly_map, equal_nan=True)
        assert np.array_equal(np.asarray(found.overlay()), np.asarray(expected.overlay()))
        assert found.path == (path if isinstance(way, (str, Path)) else None)
    swapped = detector.inspect(pixels[..., ::-1], color="bgr")
    assert timeless(swapped) == timeless(expected)
    assert np.array_equal(np.asarray(swapped.overlay()), np.asarray(expected.overlay()))
    assert timeless(detector.inspect(pixels[..., ::-1])) != timeless(expected), "the order of the channels matters"
    assert timeless(detector.inspect(path, color="bgr")) == timeless(expected), "files know their own"


def test_grey_arrays_of_both_shapes_are_the_same_as_the_image(detector: Detector, pixels: np.ndarray) -> None:
    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    expected = timeless(detector.inspect(np.stack([grey] * 3, axis=-1)))
    for color in ("rgb", "bgr"):
        assert timeless(detector.inspect(grey, color=color)) == expected
        assert timeless(detector.inspect(grey[..., None], color=color)) == expected
    assert detector.inspect(grey).overlay().mode == "RGB"


@pytest.mark.parametrize("axes", [2, 3])
def test_sixteen_bits_are_scaled_as_those_of_files(
    detector: Detector, pixels: np.ndarray, tmp_path: Path, axes: int
) -> None:
    deep = pixels.astype(np.uint16) * 257 + 100
    if axes == 2:
        deep = deep[..., 0]
        Image.fromarray(deep).save(tmp_path / "deep.png")
        expected = detector.inspect(tmp_path / "deep.png")
    else:
        expected = dataclasses.replace(detector.inspect(pixels), notes=("16 bits a pixel were scaled to 8",))
    found = detector.inspect(deep)
    assert found.notes == ("16 bits a pixel were scaled to 8",)
    assert timeless(found) == timeless(expected)


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros((64, 64, 3)), "the array holds float64, expected uint8 from 0 to 255; convert it first"),
        (np.zeros((64, 64), np.float32), "the array holds float32, expected uint8 from 0 to 255"),
        (np.zeros((64, 64), np.int64), "the array holds int64, expected uint8"),
        (np.zeros((64, 64), bool), "the array holds bool, expected uint8"),
        (np.zeros((64, 64, 4), np.uint8), r"the array has the shape \(64, 64, 4\), expected \(H, W\)"),
        (np.zeros((64, 64, 0), np.uint8), r"the array has the shape \(64, 64, 0\), expected \(H, W\)"),
        (np.zeros((1, 64, 64, 3), np.uint8), "give one image at a time"),
        (np.zeros(64, np.uint8), r"the array has the shape \(64,\)"),
        (np.zeros((3, 64, 64), np.uint8), "its channels last"),
        (np.zeros((7, 64), np.uint8), "the array has 64x7 pixels, expected at least 8 a side"),
        (np.zeros((0, 64, 3), np.uint8), "the array has 64x0 pixels, expected at least 8 a side"),
        (np.broadcast_to(np.uint8(0), (1 << 14, 1 << 14)), "expected at most 178956970; cut or shrink it"),
        (Image.new("F", (64, 64)), "the image holds floating-point numbers from 0 to 0, whose range is not known"),
        (Image.new("L", (7, 64)), "the image has 7x64 pixels, expected at least 8 a side"),
        (b"no image", "the encoded image is not an image that Pillow can read"),
        (encoded(drawn_images.noise(0, (64, 64)))[:900], r"the encoded image cannot be decoded \("),
        ([[0, 0], [0, 0]], "the image is a list of 2, expected one image"),
        (3, "the image is of the type int, expected a path"),
    ],
)
def test_anything_else_is_refused_in_one_sentence(detector: Detector, array: object, sentence: str) -> None:
    for call in (detector.inspect, detector.prepare):
        with pytest.raises(ImageError, match=sentence) as caught:
            call(array)
        assert "\n" not in str(caught.value)


def test_an_image_that_pillow_opened_and_cannot_decode_is_refused(detector: Detector, pixels: np.ndarray) -> None:
    whole = encoded(pixels)
    with pytest.raises(ImageError, match="the image cannot be decoded"):
        detector.inspect(Image.open(io.BytesIO(whole[: len(whole) // 2])))


def test_the_map_is_in_the_images_own_pixels(detector: Detector, pixels: np.ndarray) -> None:
    found = detector.inspect(pixels)
    height, width = SIZE
    assert (found.width, found.height) == (width, height)
    assert (found.anomaly_map.shape, found.anomaly_map.dtype) == (SIZE, np.float32)
    result, metadata = detector(detector.prepare(pixels)), detector.metadata
    expected = to_image(result.anomaly_map[0], metadata.preprocessing, width, height)
    assert np.array_equal(found.anomaly_map, expected, equal_nan=True)
    cropped = metadata.preprocessing.crop is not None
    assert np.isnan(found.anomaly_map).any() == cropped
    assert np.nanmax(found.anomaly_map) <= found.score
    x, y = found.regions[0].peak
    assert found.anomaly_map[y, x] > found.threshold


def test_verdict_threshold_and_least_area(detector: Detector, pixels: np.ndarray) -> None:
    found = detector.inspect(pixels)
    assert (found.verdict, found.anomalous, found.threshold) == ("anomalous", True, detector.metadata.threshold)
    calm = detector.inspect(pixels, threshold=1e9)
    assert (calm.verdict, calm.anomalous, calm.threshold, calm.regions) == ("good", False, 1e9, ())
    assert calm.score == found.score
    largest = max(region.area for region in found.regions)
    without = detector.inspect(pixels, min_area=largest + 1)
    assert (without.anomalous, without.regions) == (True, ())


def test_the_overlay_shows_the_image_and_marks_the_defect(detector: Detector, pixels: np.ndarray) -> None:
    found = detector.inspect(pixels)
    shown = np.asarray(found.overlay())
    assert shown.shape == (*SIZE, 3)
    x, y = found.regions[0].peak
    assert shown[y, x, 0] > shown[y, x, 2] + 50, "red"
    calm = np.asarray(detector.inspect(pixels, threshold=1e9).overlay())
    seen = ~np.isnan(found.anomaly_map)
    seen[SIZE[0] * 3 // 4 :] = False  # the caption
    assert np.array_equal(calm[seen], pixels[seen])


@pytest.mark.parametrize("mode", ["array", "grey", "image"])
def test_pixels_that_change_later_are_not_drawn(detector: Detector, pixels: np.ndarray, mode: str) -> None:
    """A camera writes the next image into the same memory."""
    buffer = pixels.copy() if mode != "grey" else pixels[..., 0].copy()
    found = detector.inspect(Image.fromarray(buffer) if mode == "image" else buffer)
    before = np.asarray(found.overlay())
    buffer[:] = 0
    assert np.array_equal(np.asarray(found.overlay()), before)


def test_the_overlay_of_a_file_is_drawn_from_the_file_or_refused(
    detector: Detector, pixels: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "latest.png"
    path.write_bytes(encoded(pixels))
    found = detector.inspect(path)
    assert found.overlay().size == SIZE[::-1]
    Image.fromarray(pixels[::-1]).save(path)
    os.utime(path, (1, 1))
    with pytest.raises(ImageError, match=r"latest\.png has changed since it was inspected; inspect it again"):
        found.overlay()
    assert found._repr_png_() is None
    path.unlink()
    with pytest.raises(ImageError, match=r"latest\.png does not exist"):
        found.overlay()
    assert found.anomaly_map.shape == SIZE, "it needs no file"


def test_an_inspection_is_a_value_with_a_short_text(detector: Detector, pixels: np.ndarray) -> None:
    found = detector.inspect(pixels)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.score = 0.0  # type: ignore[misc]
    text = repr(found)
    assert text.startswith("<Inspection of pixels: anomalous, score ")
    assert "140x100 pixels" in text
    assert len(text) < 150


def test_its_json_is_plain_and_the_same_twice(detector: Detector, pixels: np.ndarray) -> None:
    found = detector.inspect(pixels)
    text = json.dumps(found.to_json(), allow_nan=False)
    assert json.loads(text)["verdict"] == "anomalous"
    assert json.loads(text)["path"] is None
    assert text == json.dumps(found.to_json(), allow_nan=False)


def test_a_notebook_shows_the_overlay_no_larger_than_a_page(detector: Detector) -> None:
    found = detector.inspect(drawn_images.good(1, (300, 1700)))
    shown = found._repr_png_()
    assert shown is not None
    with Image.open(io.BytesIO(shown)) as image:
        assert image.size == (800, 141)
