"""The geometry of the preprocessing: where in the image the model looks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from padim_edge_artifact import ArtifactError, Preprocessing
from padim_edge_artifact.preprocessing import INTERPOLATIONS, MOST_BINNED

ROUNDING = 1e-9
"""Pixels: float64 carries positions up to 1e5 pixels to 1e-11."""

sides = st.integers(1, 4000)


@st.composite
def preprocessings(draw: st.DrawFn) -> Preprocessing:
    height, width = draw(sides), draw(sides)
    return Preprocessing((height, width), draw(st.none() | st.tuples(st.integers(1, height), st.integers(1, width))))


@given(preprocessings(), sides, sides)
def test_the_judged_box_is_inside_the_image_and_not_empty(p: Preprocessing, width: int, height: int) -> None:
    box = p.judged_box(width, height)
    assert 0 <= box.left < box.right <= width + ROUNDING
    assert 0 <= box.top < box.bottom <= height + ROUNDING


@given(sides, sides, sides, sides)
def test_without_a_crop_the_whole_image_is_judged(rows: int, columns: int, width: int, height: int) -> None:
    box = Preprocessing((rows, columns)).judged_box(width, height)
    assert (box.left, box.top) == (0, 0)
    assert (box.right, box.bottom) == pytest.approx((width, height), abs=ROUNDING)


@given(preprocessings(), sides, sides, st.integers(2, 9))
def test_an_image_scaled_has_its_box_scaled(p: Preprocessing, width: int, height: int, times: int) -> None:
    small, large = p.judged_box(width, height), p.judged_box(times * width, times * height)
    for edge in ("left", "top", "right", "bottom", "width", "height"):
        assert getattr(large, edge) == pytest.approx(times * getattr(small, edge), abs=ROUNDING * times)


@given(preprocessings(), sides, sides)
def test_the_crop_is_central(p: Preprocessing, width: int, height: int) -> None:
    """The margins on both sides differ by at most one pixel of the resized image, the odd one."""
    box = p.judged_box(width, height)
    assert abs(box.left - (width - box.right)) <= width / p.resize[1] + ROUNDING
    assert abs(box.top - (height - box.bottom)) <= height / p.resize[0] + ROUNDING


@given(preprocessings(), sides, sides)
def test_the_box_covers_the_share_that_the_crop_is(p: Preprocessing, width: int, height: int) -> None:
    box = p.judged_box(width, height)
    assert box.width / width == pytest.approx(p.size[1] / p.resize[1])
    assert box.height / height == pytest.approx(p.size[0] / p.resize[0])


def test_the_papers_protocol() -> None:
    """Resize to 256, centre crop of 224: of an image of 1024 pixels, 64 are hidden on each side."""
    p = Preprocessing((256, 256), (224, 224))
    box = p.judged_box(1024, 512)
    assert p.size == (224, 224)
    assert p.offset == (16, 16)
    assert (box.left, box.top, box.right, box.bottom) == (64, 32, 960, 480)


@pytest.mark.parametrize(
    ("resize", "crop", "interpolation"),
    [
        ((0, 10), None, "bicubic"),
        ((10, -1), None, "bicubic"),
        ((10, 10), (0, 5), "bicubic"),
        ((10, 10), (11, 10), "bicubic"),
        ((10, 10), (10, 11), "bicubic"),
        ((10, 10), None, "nearest"),
        ((10, 10), None, "Bicubic"),
        ((10, 10), None, "binned"),
        ((10, 10), None, "binned-nearest"),
    ],
)
def test_impossible_preprocessing_is_refused(
    resize: tuple[int, int], crop: tuple[int, int] | None, interpolation: str
) -> None:
    with pytest.raises(ArtifactError, match="preprocessing"):
        Preprocessing(resize, crop, interpolation)


@given(sides, sides, sides, sides, st.sampled_from(INTERPOLATIONS))
def test_blocks_leave_as_many_pixels_as_are_wanted(
    rows: int, columns: int, height: int, width: int, interpolation: str
) -> None:
    """They are the largest that do, up to the limit; without binning, no pixels are averaged."""
    bins = Preprocessing((rows, columns), interpolation=interpolation).bins(height, width)
    for block, given_side, wanted in zip(bins, (height, width), (rows, columns), strict=True):
        if not interpolation.startswith("binned-"):
            assert block == 1
        elif block == MOST_BINNED:
            assert given_side >= block * wanted
        else:
            assert block == 1 or given_side >= block * wanted
            assert given_side < (block + 1) * wanted


def test_blocks_are_chosen_for_the_frame_before_the_crop() -> None:
    p = Preprocessing((256, 256), (224, 224), "binned-bicubic")
    assert p.bins(1024, 1023) == (4, 3)
    assert p.bins(511, 8192) == (1, 8)
    assert p.kernel == "bicubic"


def test_where_the_graph_bins_the_host_only_brings_images_to_the_cameras_size() -> None:
    p = Preprocessing((256, 256), None, "binned-bilinear", camera=(1080, 1920))
    assert p.bins(1080, 1920) == (1, 1)
    assert p.bins(2160, 3840) == (2, 2)
    assert p.on_host.bins(1080, 1920) == (4, 7)


def test_where_the_graph_resizes_the_camera_decides_what_goes_in_and_nothing_else() -> None:
    host = Preprocessing((256, 256), (224, 224))
    graph = Preprocessing((256, 256), (224, 224), camera=(1080, 1920))
    assert host.input_size == host.size == graph.size == (224, 224)
    assert graph.input_size == (1080, 1920)
    assert graph.judged_box(1920, 1080) == host.judged_box(1920, 1080)
    assert graph.on_host == host
    assert host.on_host == host


def test_a_camera_without_pixels_is_refused() -> None:
    with pytest.raises(ArtifactError, match="expected positive ones"):
        Preprocessing((256, 256), camera=(0, 1920))
