"""Laws of planted defects: where they lie, what they change, how strong they are, and that a seed fixes them."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from padim_edge import sample
from padim_edge.planting import KINDS, MOVED, Plant, part_of, plant, plants
from padim_edge_artifact.errors import PadimEdgeError

SIDE = 112
FADING = tuple(kind for kind in KINDS if kind not in MOVED)
BOTTLES = [sample.draw_good("bottle", index, size=SIDE) for index in range(3)]
PART = part_of(BOTTLES)
ON_BOTTLE = PART(BOTTLES[0])
CLOTH = sample.draw_good("weave", 0, size=SIDE)
GREY = np.repeat(BOTTLES[0].mean(axis=2).astype(np.uint8)[..., None], 3, axis=2)


def rough(seed: int = 0, deviation: float = 4.0) -> np.ndarray:
    """Even grey surface with a fine texture, on which contrast can be predicted."""
    plane = 130.0 + deviation * np.random.default_rng(seed).standard_normal((SIDE, SIDE))
    return np.repeat(np.rint(plane).astype(np.uint8)[..., None], 3, axis=2)


def planted(
    image: np.ndarray, kind: str, seed: int, extent: float, strength: float, part: np.ndarray | None = None
) -> Plant:
    found = plant(image, kind, np.random.default_rng(seed), extent=extent, strength=strength, part=part)
    assert found is not None
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("extent", [0.01, 0.08, 0.6])
def test_a_plant_is_an_image_with_a_mask_and_leaves_the_good_image_alone(kind: str, extent: float) -> None:
    for image in (BOTTLES[0], CLOTH):
        before = image.copy()
        found = planted(image, kind, 1, extent, 0.8)
        assert np.array_equal(image, before)
        assert found.kind == kind
        assert (found.image.shape, found.image.dtype) == (image.shape, np.uint8)
        assert (found.mask.shape, found.mask.dtype) == (image.shape[:2], np.bool_)
        assert found.mask.any()
        assert found.measured.contrast >= 0
        assert 0 <= found.measured.levels <= 255
        assert all(0 < share < 1 for share in found.place)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_marked_has_not_visibly_changed(kind: str) -> None:
    """Soft edges fade into the texture: outside the mask nothing changes by more than a deviation of it, about 12."""
    for seed in range(3):
        found = planted(rough(seed), kind, seed, 0.2, 1.0)
        change = np.abs(found.image.astype(int) - rough(seed)).max(axis=2)
        assert change[~found.mask].max() <= 12
        far = ~ndimage.binary_dilation(found.mask, iterations=round(0.3 * SIDE))
        assert change[far].max(initial=0) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_strength_0_changes_nothing_and_stands_out_by_little(kind: str) -> None:
    for image, part in ((rough(), None), (BOTTLES[0], ON_BOTTLE)):
        found = planted(image, kind, 3, 0.12, 0.0, part)
        assert np.array_equal(found.image, image)
        assert found.mask.any()
    assert planted(rough(), kind, 3, 0.12, 0.0).measured.contrast < 0.8


@pytest.mark.parametrize("kind", FADING)
def test_contrast_rises_with_strength(kind: str) -> None:
    found = [planted(rough(), kind, 5, 0.15, strength).measured.contrast for strength in (0.0, 0.3, 0.6, 0.8)]
    assert all(a <= b + 0.15 for a, b in pairwise(found))
    assert found[-1] > found[0] + 1.5


@pytest.mark.parametrize("kind", FADING)
@pytest.mark.parametrize("deviation", [2.0, 6.0])
def test_strength_is_relative_to_the_texture(kind: str, deviation: float) -> None:
    """A strength of 0.25 aims at 1.2 deviations, be the texture fine or rough. The mask's soft edge takes a part."""
    found = planted(rough(7, deviation), kind, 9, 0.15, 0.25)
    assert 0.8 < found.measured.contrast < 1.6


@pytest.mark.parametrize("kind", MOVED)
def test_what_moves_changes_more_with_strength(kind: str) -> None:
    changes = [
        np.abs(planted(CLOTH, kind, 11, 0.25, strength).image.astype(int) - CLOTH).sum() for strength in (0, 0.3, 1.0)
    ]
    assert changes[0] == 0
    assert 0 < changes[1] <= changes[2] * 1.1


@pytest.mark.parametrize("kind", KINDS)
def test_grey_stays_grey(kind: str) -> None:
    for seed in range(3):
        image = planted(GREY, kind, seed, 0.2, 0.9, ON_BOTTLE).image
        assert (image == image[..., :1]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_defect_lies_on_the_part(kind: str) -> None:
    near = ndimage.binary_dilation(ON_BOTTLE, iterations=3)
    for seed in range(3):
        mask = planted(BOTTLES[0], kind, seed, 0.1, 1.0, ON_BOTTLE).mask
        # A piece that was pushed or bent out of the part lies partly beside it.
        assert (mask & near).sum() >= (0.4 if kind in MOVED else 0.97) * mask.sum()


def test_a_missing_piece_shows_the_background() -> None:
    background = np.median(BOTTLES[0][~ndimage.binary_dilation(ON_BOTTLE, iterations=4)], axis=0)
    found = planted(BOTTLES[0], "missing", 2, 0.2, 1.0, ON_BOTTLE)
    inside = ndimage.binary_erosion(found.mask, iterations=3) & ON_BOTTLE
    before = np.abs(BOTTLES[0][inside] - background).mean()
    assert np.abs(found.image[inside] - background).mean() < 0.5 * before


@pytest.mark.parametrize("extent", [0.05, 0.1, 0.2])
def test_the_extent_is_about_what_was_asked_for(extent: float) -> None:
    found = [planted(rough(), kind, seed, extent, 0.6).measured.extent for kind in FADING for seed in range(2)]
    assert np.median(found) == pytest.approx(extent * SIDE, rel=0.25)
    assert max(found) < 1.6 * extent * SIDE + 3


def test_no_room_means_no_plant() -> None:
    nowhere = np.zeros((SIDE, SIDE), np.bool_)
    assert all(
        plant(CLOTH, kind, np.random.default_rng(0), extent=0.1, strength=0.5, part=nowhere) is None for kind in KINDS
    )
    assert list(plants([(0, CLOTH)], 3, 0, part=lambda _: nowhere)) == []


def key(found: Plant) -> tuple[str, bytes, bytes]:
    return found.kind, found.image.tobytes(), found.mask.tobytes()


def test_a_plant_depends_on_seed_and_number_only() -> None:
    frames = list(enumerate(BOTTLES))
    whole = [(number, key(each)) for number, each in plants(frames, 4, 7, part=PART)]
    assert len(whole) == 12
    assert [(number, key(each)) for number, each in plants(frames, 4, 7, part=PART)] == whole
    alone = [(number, key(each)) for number, each in plants(reversed(frames[1:]), 2, 7, part=PART)]
    assert alone == [whole[8], whole[9], whole[4], whole[5]]
    assert {each[1] for each in whole}.isdisjoint((n, key(p))[1] for n, p in plants(frames, 4, 8, part=PART))


def test_kinds_extents_and_strengths_are_spread_evenly() -> None:
    from padim_edge.planting.series import _kind, _spread

    for images, per_image in ((120, 3), (20, 18), (7, 50)):
        pairs = [(number, index) for number in range(images) for index in range(per_image)]
        kinds = Counter(_kind(len(KINDS), number, index, 3) for number, index in pairs)
        assert max(kinds.values()) - min(kinds.values()) <= 0.15 * len(pairs) / len(KINDS) + 1
        places = np.array([_spread(3, number, index) for number, index in pairs])
        counts, _, _ = np.histogram2d(*places.T, bins=4, range=[[0, 1], [0, 1]])
        assert counts.min() > 0.6 * len(pairs) / 16
        assert counts.max() < 1.5 * len(pairs) / 16


def test_kinds_and_extents_can_be_chosen() -> None:
    found = [each for _, each in plants([(0, rough())], 12, 0, kinds=("stain", "hole"), extents=(0.1, 0.15))]
    assert Counter(each.kind for each in found) == {"stain": 6, "hole": 6}
    assert all(0.06 * SIDE < each.measured.extent < 0.2 * SIDE for each in found)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "scrach"}, "there is no kind of defect 'scrach'"),
        ({"extent": 0.7}, "the extent is 0.7"),
        ({"extent": float("nan")}, "the extent is nan"),
        ({"strength": 1.5}, "the strength is 1.5"),
        ({"image": CLOTH[..., 0]}, "expected uint8 (H, W, 3)"),
        ({"image": CLOTH.astype(np.float32)}, "expected uint8 (H, W, 3)"),
        ({"part": ON_BOTTLE[:-1]}, "the part is (111, 112)"),
    ],
)
def test_what_cannot_be_planted_is_said_in_a_sentence(changes: dict[str, object], words: str) -> None:
    given = {"image": CLOTH, "kind": "scratch", "extent": 0.1, "strength": 0.5, "part": None} | changes
    with pytest.raises(PadimEdgeError, match=r".") as error:
        plant(given.pop("image"), given.pop("kind"), np.random.default_rng(0), **given)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("kinds", "extents", "words"),
    [
        ((), (0.01, 0.3), "no kind of defect is given"),
        (("stain", "rust"), (0.01, 0.3), "there is no kind of defect 'rust'"),
        (("stain",), (0.2, 0.1), "the extents are 0.2 to 0.1"),
        (("stain",), (0.0, 0.1), "the extents are 0 to 0.1"),
    ],
)
def test_a_series_refuses_what_does_not_exist(kinds: tuple[str, ...], extents: tuple[float, float], words: str) -> None:
    with pytest.raises(PadimEdgeError, match=words):
        list(plants([(0, CLOTH)], 1, 0, kinds=kinds, extents=extents))
