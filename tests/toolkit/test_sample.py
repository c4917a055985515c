"""The built-in sample, and the rules that fits, benchmarks and tutorials rely on."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from padim_edge import sample
from padim_edge.sample import draw
from padim_edge_artifact.errors import PadimEdgeError

KINDS = [(name, defect) for name in sample.CLASSES for defect in sample.DEFECTS[name]]
SMALL = 96
"""Side in pixels of images in tests where the size does not matter. They are drawn in a few milliseconds."""
LEAK = 6
"""Width in pixels around a mask that may differ too. The lens blur reaches 3, the soft edge of a defect 2 or 3 more."""
UNSEEN = 12
"""Difference in grey levels that is allowed beyond: where threads or glass bend aside, the shift fades out slowly."""
FEW = 10
"""Number of pixels beyond that may differ more, where such a shift of a tenth of a pixel meets a hard edge."""


def forget() -> None:
    """Let the next call draw again instead of taking a drawn image."""
    draw._kept.cache_clear()


@pytest.mark.parametrize("class_name", sample.CLASSES)
def test_the_same_call_draws_the_same_image(class_name: str) -> None:
    first = sample.draw_good(class_name, 3, seed=1, size=SMALL)
    forget()
    np.testing.assert_array_equal(first, sample.draw_good(class_name, 3, seed=1, size=SMALL))


@pytest.mark.parametrize(("class_name", "defect"), KINDS)
def test_the_same_call_draws_the_same_defect(class_name: str, defect: str) -> None:
    first = sample.draw_defect(class_name, defect, 2, size=SMALL)
    forget()
    again = sample.draw_defect(class_name, defect, 2, size=SMALL)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])


def test_an_image_is_drawn_once_and_every_caller_gets_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = 0

    def counting(*arguments: object, **keywords: object) -> object:
        nonlocal drawn
        drawn += 1
        return plain(*arguments, **keywords)

    plain = draw._draw
    monkeypatch.setattr(draw, "_draw", counting)
    forget()
    for _ in range(2):
        pixels = sample.draw_good("weave", 0, size=SMALL)
        flawed, mask = sample.draw_defect("weave", "hole", 0, size=SMALL)
        assert pixels.any()
        assert flawed.any()
        assert not mask.all()
        pixels[:] = flawed[:] = 0
        mask[:] = True
    assert drawn == 2


def test_drawn_images_take_little_memory() -> None:
    """The limit that the documentation names holds, and larger images are not kept."""
    side = draw._LARGEST_KEPT
    assert draw._kept.cache_info().maxsize * side * side * 4 <= 132e6
    whole = sum(len(sample.images(name)) for name in sample.CLASSES)
    assert whole <= draw._kept.cache_info().maxsize
    before = draw._kept.cache_info()
    sample.draw_good("weave", 10_000, size=side + 1)
    assert draw._kept.cache_info() == before


def test_an_image_does_not_depend_on_the_ones_drawn_before_it() -> None:
    short = {
        image.path: image.pixels for image in sample.images("weave", size=SMALL, train=1, test_good=1, per_defect=1)
    }
    forget()
    long = {image.path: image.pixels for image in sample.images("weave", size=SMALL, train=2, per_defect=2)}
    for path, pixels in short.items():
        np.testing.assert_array_equal(pixels, long[path])


@pytest.mark.parametrize("class_name", sample.CLASSES)
def test_no_two_good_images_are_the_same(class_name: str) -> None:
    drawn = [
        sample.draw_good(class_name, index, seed=seed, size=SMALL, split=split)
        for split, seed, index in itertools.product(("train", "test"), (0, 1), range(3))
    ]
    for one, other in itertools.combinations(drawn, 2):
        # Sensor noise alone would differ by about 2 levels.
        assert np.abs(one.astype(int) - other).mean() > 2.5


@pytest.mark.parametrize(("class_name", "defect"), KINDS)
def test_a_defect_changes_its_mask_and_nothing_else(class_name: str, defect: str) -> None:
    """An image is compared with its twin without the defect."""
    for index in range(3):
        pixels, mask = sample.draw_defect(class_name, defect, index)
        twin = sample.draw_twin(class_name, defect, index)
        change = np.abs(pixels.astype(int) - twin).max(axis=2)
        beyond = change[~ndimage.binary_dilation(mask, iterations=LEAK)]
        assert (beyond > UNSEEN).sum() <= FEW
        assert beyond.mean() < 0.01
        # Inside, most pixels differ by more than noise would hide.
        assert np.median(change[mask]) > 6


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(KINDS), index=st.integers(0, 10_000), seed=st.integers(0, 10_000), size=st.integers(32, 130)
)
def test_every_mask_marks_something_but_not_half_of_the_image(
    kind: tuple[str, str], index: int, seed: int, size: int
) -> None:
    pixels, mask = sample.draw_defect(*kind, index, seed=seed, size=size)
    assert pixels.shape == (size, size, 3)
    assert pixels.dtype == np.uint8
    assert mask.shape == (size, size)
    assert mask.dtype == np.bool_
    assert 0 < mask.sum() < size * size / 2


@pytest.mark.parametrize(("class_name", "defect"), KINDS)
def test_a_larger_image_shows_the_same_defect_at_the_same_place(class_name: str, defect: str) -> None:
    small, large = (sample.draw_defect(class_name, defect, 0, size=size)[1] for size in (160, 320))
    middle = np.array(ndimage.center_of_mass(small)) * 2
    np.testing.assert_allclose(middle, ndimage.center_of_mass(large), atol=8)
    assert small.sum() * 4 == pytest.approx(large.sum(), rel=0.4)


@pytest.mark.parametrize("class_name", sample.CLASSES)
def test_a_class_looks_alike_from_image_to_image(class_name: str) -> None:
    """Light varies only a little. Otherwise a fit would learn that everything is normal."""
    means = [sample.draw_good(class_name, index, size=SMALL).mean(axis=(0, 1)) for index in range(20)]
    assert np.ptp(means, axis=0).max() < 40


def test_bottles_stand_at_the_same_place() -> None:
    """At most 2 % of the width from the middle, measured on the edge of the glass."""
    for index in range(8):
        pixels = sample.draw_good("bottle", index, size=200).astype(float)
        glass = ndimage.binary_opening(pixels[..., 1] - pixels[..., 0] > 25, iterations=2)
        middle = np.array(ndimage.center_of_mass(ndimage.binary_fill_holes(glass))) / 200
        np.testing.assert_allclose(middle, 0.5, atol=0.022)


def test_listing_the_sample_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw, "_draw", None)
    (image,) = sample.images("bottle", train=1, test_good=0, per_defect=0)
    assert str(image.path) == "train/good/000.png"
    with pytest.raises(TypeError):
        sample.draw_good("bottle", 10_000, size=SMALL)


def test_images_come_in_the_order_of_the_layout() -> None:
    drawn = list(sample.images("bottle", size=SMALL, train=2, test_good=1, per_defect=1))
    assert [str(image.path) for image in drawn] == [
        "train/good/000.png",
        "train/good/001.png",
        "test/good/000.png",
        *(f"test/{defect}/000.png" for defect in sample.DEFECTS["bottle"]),
    ]
    assert [image.mask is not None for image in drawn] == [False] * 3 + [True] * len(sample.DEFECTS["bottle"])


def test_written_files_are_the_drawn_images(tmp_path: Path) -> None:
    counts = {"seed": 5, "size": 64, "train": 2, "test_good": 1, "per_defect": 2}
    assert sample.write(sample.images("weave", **counts), tmp_path) == 3 + 2 * len(sample.DEFECTS["weave"])
    expected = set()
    for image in sample.images("weave", **counts):
        expected.add(tmp_path / "weave" / image.path)
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "weave" / image.path)), image.pixels)
        if image.mask is not None:
            path = tmp_path / "weave" / "ground_truth" / image.path.parent.name / f"{image.path.stem}_mask.png"
            expected.add(path)
            with Image.open(path) as written:
                assert written.mode == "L"
                np.testing.assert_array_equal(np.asarray(written), np.where(image.mask, 255, 0))
    # No other file is left behind, and no unfinished one.
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == expected


def test_writing_again_gives_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        forget()
        sample.write(sample.images("bottle", size=64, train=1, test_good=0, per_defect=0), tmp_path / folder)
    one, two = ((tmp_path / folder / "bottle/train/good/000.png").read_bytes() for folder in ("one", "two"))
    assert one == two


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: sample.draw_good("cup", 0), "no class 'cup', only bottle and weave; choose"),
        (lambda: sample.draw_defect("cup", "crack", 0), "no class 'cup'"),
        (lambda: sample.images("cup"), "no class 'cup'"),
        (
            lambda: sample.draw_defect("bottle", "hole", 0),
            "bottle has no defect 'hole', only bubble, chip, .* and stain;",
        ),
        (lambda: sample.draw_good("bottle", 0, size=16), "size is 16, expected 32 or more"),
        (lambda: sample.draw_good("bottle", -1), "index is -1, expected 0 or more"),
        (lambda: sample.draw_good("bottle", 0, seed=-1), "seed is -1, expected 0 or more"),
        (lambda: sample.images("bottle", train=-1), "train is -1, expected 0 or more"),
    ],
)
def test_an_error_says_what_was_found_what_was_expected_and_what_to_do(call: object, sentence: str) -> None:
    assert callable(call)
    with pytest.raises(PadimEdgeError, match=sentence):
        call()


def test_an_unknown_class_leaves_no_folder_behind(tmp_path: Path) -> None:
    with pytest.raises(PadimEdgeError):
        sample.write(sample.images("cup"), tmp_path)
    assert list(tmp_path.iterdir()) == []
