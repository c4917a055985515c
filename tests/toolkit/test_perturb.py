"""Images turned and cropped at random, with their masks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from padim_edge.datasets import GOOD, Dataset, Item, perturb
from padim_edge_artifact import PadimEdgeError
from padim_edge_runtime import image_files

WIDTH, HEIGHT = 128, 96

EDGE = 0.7
"""Largest distance in pixels between the centres of a mark in image and mask. Nearest neighbours are off by up to half
a pixel in each direction, evenly, so their mean is off by much less."""


def marked(name: str, kind: str = "crack", *, key: str = "") -> Item:
    """Make a grey image with a white disc at the mask. The place of the disc depends on the name."""
    x, y = np.random.default_rng(list(name.encode())).uniform(0.3, 0.7, 2) * (WIDTH, HEIGHT)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    mask = np.hypot(rows - y, columns - x) < 9
    pixels = np.where(mask[..., None], np.uint8(255), np.uint8(60)).repeat(3, -1)
    return Item(name, kind, lambda: image_files.Decoded(Image.fromarray(pixels), ("a note",)), lambda: mask, key)


def dataset(*names: str) -> Dataset:
    return Dataset("part", (replace(marked("fit", GOOD), mask=None),), tuple(map(marked, names)))


def pixels(item: Item) -> np.ndarray:
    return np.asarray(item.read().image)


def centre(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask).mean(axis=0)


NAMES = tuple("abcdefgh")


@pytest.mark.parametrize(("rotate", "crop"), [(10, (256, 224)), (10, None), (0, (256, 224)), (180, (4, 3)), (90, None)])
def test_image_and_mask_move_together(rotate: float, crop: tuple[int, int] | None) -> None:
    for item in perturb.perturbed(dataset(*NAMES), rotate=rotate, crop=crop, seed=1).test:
        assert item.mask is not None
        mask, grey = item.mask(), pixels(item)[..., 0]
        assert mask.shape == grey.shape
        assert mask.dtype == np.bool_
        assert mask.any()
        np.testing.assert_allclose(centre(mask), centre(grey > 157), atol=EDGE)
        assert np.mean(mask != (grey > 157)) < 0.01  # at most the edge of the disc


def test_good_images_move_and_have_no_mask() -> None:
    (item,) = perturb.perturbed(dataset(), seed=0).good
    assert item.mask is None
    assert item.read().image.size == (WIDTH * 224 // 256, HEIGHT * 224 // 256)
    assert item.read().notes == ("a note",)


def test_it_only_rotates() -> None:
    before = dataset(*NAMES)
    for item, original in zip(perturb.perturbed(before, crop=None, seed=0).test, before.test, strict=True):
        assert item.read().image.size == (WIDTH, HEIGHT)
        assert not np.array_equal(pixels(item), pixels(original))


def test_it_only_crops() -> None:
    """Nothing is resampled: each crop is a window of its image."""
    before = dataset(*NAMES)
    places = set()
    for item, original in zip(perturb.perturbed(before, rotate=0, seed=0).test, before.test, strict=True):
        whole, part = pixels(original), pixels(item)
        windows = np.lib.stride_tricks.sliding_window_view(whole, part.shape)[..., 0, :, :, :]
        found = np.argwhere((windows == part).all(axis=(2, 3, 4)))
        assert len(found) == 1
        places.add(tuple(found[0]))
    assert len(places) > 5


def test_nothing_asked_is_nothing_done() -> None:
    before = dataset(*NAMES)
    after = perturb.perturbed(before, rotate=0, crop=None, seed=0)
    for item, original in zip(after.test, before.test, strict=True):
        np.testing.assert_array_equal(pixels(item), pixels(original))
    assert after.notes == ()


def test_angles_and_crops_cover_their_range() -> None:
    """The centre of the disc tells the place of the crop, and the direction of a line tells the angle."""
    many = tuple(Item(str(number), GOOD, marked("a").read, marked("a").mask) for number in range(60))
    offsets = [
        centre(item.mask()) for item in perturb.perturbed(Dataset("part", (), many), rotate=0, seed=0).test if item.mask
    ]
    spread = np.ptp(np.array(offsets), axis=0)
    assert np.all(spread >= (HEIGHT // 8 - 1, WIDTH // 8 - 1))

    line = np.zeros((64, 64), np.bool_)
    line[31:33, 10:54] = True
    lines = tuple(Item(str(number), "line", marked("a").read, lambda: line) for number in range(60))
    angles = []
    for item in perturb.perturbed(Dataset("part", (), lines), rotate=10, crop=None, seed=0).test:
        assert item.mask is not None
        rows, columns = np.nonzero(item.mask())
        angles.append(np.degrees(np.arctan(np.polyfit(columns, rows, 1)[0])))
    assert -10.5 < min(angles) < -8
    assert 8 < max(angles) < 10.5


def test_the_corners_are_filled_with_what_is_there() -> None:
    """An image of one colour keeps it everywhere: there are no black corners."""
    flat = Item("flat", GOOD, lambda: image_files.Decoded(Image.new("RGB", (50, 9), (200, 10, 90)), ()), None)
    for seed in range(4):
        (item,) = perturb.perturbed(Dataset("part", (flat,), ()), rotate=180, crop=None, seed=seed).good
        assert np.all(pixels(item) == (200, 10, 90))


def test_each_time_and_in_any_order_the_same() -> None:
    there = perturb.perturbed(dataset(*NAMES), seed=3).test
    back = perturb.perturbed(dataset(*reversed(NAMES)), seed=3).test
    alone = perturb.perturbed(dataset("c"), seed=3).test[0]
    for one, other in zip(there, reversed(back), strict=True):
        np.testing.assert_array_equal(pixels(one), pixels(other))
    np.testing.assert_array_equal(pixels(alone), pixels(there[2]))
    np.testing.assert_array_equal(pixels(alone), pixels(alone))


def test_where_the_data_set_lies_does_not_matter() -> None:
    def moved(name: str, key: str) -> np.ndarray:
        item = replace(marked("a"), name=name, key=key)
        return pixels(perturb.perturbed(Dataset("part", (), (item,)), seed=0).test[0])

    np.testing.assert_array_equal(moved("here/train/good/0.png", "0.png"), moved("there/0.png", "0.png"))
    assert not np.array_equal(moved("0.png", "0.png"), moved("0.png", "1.png"))


def test_the_numbers_stay_the_same_between_versions() -> None:
    """Figures of Rd-MVTec belong to a seed, so the crops of a seed must not change. One of them is checked."""
    item = marked("a")
    after = perturb.perturbed(Dataset("part", (), (item,)), rotate=0, seed=0).test[0]
    assert item.mask is not None
    assert after.mask is not None
    assert np.rint(centre(item.mask()) - centre(after.mask())).tolist() == [5, 10]


def test_other_seeds_images_and_classes_move_otherwise() -> None:
    def image(seed: int, class_name: str, name: str) -> bytes:
        item = replace(marked("a"), name=name)
        return pixels(perturb.perturbed(Dataset(class_name, (), (item,)), seed=seed).test[0]).tobytes()

    assert len({image(0, "p", "a"), image(1, "p", "a"), image(0, "q", "a"), image(0, "p", "b")}) == 4


def test_it_says_what_it_did() -> None:
    before = replace(dataset(), notes=("odd",))
    assert perturb.perturbed(before, seed=7).notes == (
        "odd",
        "images are turned by up to 10 degrees and cropped to 224/256 of their sides at random, seed 7",
    )
    assert perturb.perturbed(before, seed=7).class_name == "part"


@pytest.mark.parametrize(
    ("text", "rotate", "crop"),
    [
        ("rotate=10,crop", 10, (256, 224)),
        ("rotate", 10, None),
        ("crop", 0, (256, 224)),
        (" crop = 8:7 , rotate = 2.5 ", 2.5, (8, 7)),
    ],
)
def test_the_option_says_what_to_do(text: str, rotate: float, crop: tuple[int, int] | None) -> None:
    found = perturb.parse(text)
    assert found == {"rotate": rotate, "crop": crop}
    assert perturb.perturbed(dataset(), **found, seed=0).good


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has '', expected rotate=DEGREES, crop or both"),
        ("rotate=10,", "has '', expected rotate"),
        ("flip", "has 'flip', expected rotate"),
        ("rotate=ten", "has 'rotate=ten', expected a number of degrees"),
        ("rotate=", "expected a number of degrees"),
        ("rotate=nan", "rotates by nan degrees, expected 0 to 180"),
        ("rotate=-1", "rotates by -1 degrees"),
        ("crop=224", "has 'crop=224', expected two sizes"),
        ("crop=1:2:3", "expected two sizes"),
        ("crop=224:256", "crops 256 out of 224 pixels, expected fewer out of more"),
        ("crop=5:0", "crops 0 out of 5"),
        ("crop,rotate,crop", "has crop twice"),
    ],
)
def test_what_the_option_cannot_mean_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(PadimEdgeError, match=sentence):
        perturb.parse(text)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(PadimEdgeError, match="seed of the perturbation is -1"):
        perturb.perturbed(dataset(), seed=-1)
