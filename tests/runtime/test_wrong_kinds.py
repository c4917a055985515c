"""Another object than an image gets a sentence with the remedy, wherever `Detector` takes images."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import drawn_images
import numpy as np
import pytest

from padim_edge_artifact import ImageError
from padim_edge_runtime import Detector


@pytest.fixture(scope="module")
def detector(golden: Path) -> Detector:
    return Detector.load(golden, "cpu")


FRAME = np.asarray(drawn_images.good(1))

NO_IMAGES = {
    "open file": (io.BytesIO(b"1"), "give what its read() returns"),
    "list": ([FRAME, FRAME], "the image is a list of 2, expected one image"),
    "none": (None, "check the path"),
    "number": (3, "expected a path, the bytes of a file, a Pillow image or a numpy array"),
}


@pytest.mark.parametrize("call", ["prepare", "inspect"])
@pytest.mark.parametrize(("given", "said"), NO_IMAGES.values(), ids=NO_IMAGES)
def test_what_is_no_image_is_refused_with_the_remedy(detector: Detector, call: str, given: Any, said: str) -> None:
    with pytest.raises(ImageError) as caught:
        getattr(detector, call)(given)
    assert said in str(caught.value)


def test_arrays_and_lists_are_told_about_bgr(detector: Detector) -> None:
    for call, given in ((detector.prepare, 3), (detector.prepare, [FRAME]), (detector, [FRAME])):
        with pytest.raises(ImageError, match="color='bgr'"):
            call(given)  # type: ignore[arg-type, operator]


@pytest.mark.parametrize("given", [[FRAME, FRAME], (FRAME,), "part.png", Path("part.png"), None, drawn_images.good(1)])
def test_judging_takes_arrays_only(detector: Detector, given: Any) -> None:
    with pytest.raises(ImageError) as caught:
        detector(given)
    height, width = detector.metadata.input_size
    assert f"expected a uint8 array (N, {height}, {width}, 3) in RGB" in str(caught.value)
    assert "Detector.prepare" in str(caught.value)


def test_what_is_prepared_can_be_judged(detector: Detector) -> None:
    """The remedy works: arrays in both orders of channels give one frame, and several are stacked."""
    rgb, bgr = detector.prepare(FRAME), detector.prepare(np.ascontiguousarray(FRAME[..., ::-1]), color="bgr")
    np.testing.assert_array_equal(rgb, bgr)
    buffer = io.BytesIO()
    drawn_images.good(1).save(buffer, "PNG")
    np.testing.assert_array_equal(detector.prepare(buffer.getvalue()), rgb)
    assert len(detector(np.stack([rgb, bgr])).score) == 2


@pytest.mark.parametrize("one", ["part.png", Path("part.png"), b"1", FRAME, FRAME[..., 0], drawn_images.good(1)])
def test_one_image_is_not_several(detector: Detector, one: Any) -> None:
    """A path would be taken apart into letters, and an array into rows."""
    with pytest.raises(ImageError, match=r"expected several.* Detector\.inspect"):
        detector.inspect_many(one)


def test_an_array_of_several_images_is_several(detector: Detector) -> None:
    assert len(list(detector.inspect_many(np.stack([FRAME] * 4)))) == 4  # type: ignore[arg-type]
