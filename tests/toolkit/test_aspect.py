"""The frame takes the aspect of the good images where nobody names a size, at about the same number of pixels."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import commands
import drawn_images
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import padim_edge
from padim_edge import datasets
from padim_edge.aspect import MOST, SHORTEST, STEP, frame_of
from padim_edge.datasets.perturb import perturbed
from padim_edge.presets import PRESETS, preset
from padim_edge.settled import settled
from padim_edge.start import begin
from padim_edge_artifact import read_verified
from padim_edge_runtime.progress import SILENT

SQUARES = st.integers(2, 32).map(lambda count: STEP * count)
TALL = (60, 24)
"""(height, width) of the drawn images, 2.5 to 1."""
AT_TALL = "352x128"


class TestFrame:
    """The size alone, of an aspect and a number of pixels."""

    @settings(deadline=None)
    @given(st.floats(1 / 40, 40), SQUARES)
    def test_is_made_of_whole_steps_and_costs_little_more(self, aspect: float, side: int) -> None:
        height, width = frame_of(aspect, side * side)
        assert height % STEP == width % STEP == 0
        assert min(height, width) >= SHORTEST
        assert height * width <= MOST * side * side or height == width == SHORTEST

    @settings(deadline=None)
    @given(st.floats(0.94, 1.06), SQUARES)
    def test_square_images_keep_the_square(self, aspect: float, side: int) -> None:
        assert frame_of(1, side * side) == (side, side)
        if side <= 224:
            assert frame_of(aspect, side * side) == (side, side)

    @settings(deadline=None)
    @given(st.floats(1 / 20, 20))
    def test_lying_images_get_the_standing_ones_frame_turned(self, aspect: float) -> None:
        assert frame_of(aspect, 224 * 224) == frame_of(1 / aspect, 224 * 224)[::-1]

    @settings(deadline=None)
    @given(st.floats(1 / 7, 7))
    def test_is_near_the_aspect_and_the_pixels(self, aspect: float) -> None:
        height, width = frame_of(aspect, 224 * 224)
        assert 1 / 1.2 < width / height / aspect < 1.2
        assert 0.85 < height * width / 224**2 < MOST

    @pytest.mark.parametrize(
        ("image", "frame"),
        [
            ((480, 640), (192, 256)),
            ((1080, 1920), (160, 288)),
            ((1240, 500), (352, 128)),
            ((2048, 2000), (224, 224)),
            ((4000, 100), (960, 64)),
        ],
    )
    def test_of_usual_images(self, image: tuple[int, int], frame: tuple[int, int]) -> None:
        assert frame_of(image[1] / image[0], 224 * 224) == frame


def tall(number: int) -> Image.Image:
    return drawn_images.good(number, TALL)


def encoded(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def written(folder: Path, count: int = 3) -> Path:
    for number in range(count):
        tall(number).save(folder / f"{number}.png")
    return folder


def listed(folder: Path) -> Path:
    rows = "".join(f"{path.name},good\n" for path in sorted(written(folder).iterdir()))
    (folder / "list.csv").write_text(f"path,label\n{rows}", encoding="utf-8")
    return folder / "list.csv"


WAYS: dict[str, Callable[[Path], Any]] = {
    "folder": written,
    "list of files": lambda folder: sorted(written(folder).iterdir()),
    "CSV table": listed,
    "arrays": lambda _: [np.asarray(tall(number)) for number in range(3)],
    "grey arrays": lambda _: [np.asarray(tall(number).convert("L")) for number in range(3)],
    "Pillow images": lambda _: [tall(number) for number in range(3)],
    "encoded": lambda _: [encoded(tall(number)) for number in range(3)],
}


class TestSettled:
    """The method that the fit runs with."""

    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("name", ["edge", "accurate"])
    def test_is_the_one_with_that_size_named(self, tmp_path: Path, way: str, name: str) -> None:
        dataset = datasets.from_source(WAYS[way](tmp_path), "part")
        told: list[str] = []
        found = settled(dataset, preset(name), told.append)
        assert found == preset(name, size=AT_TALL)
        assert settled(dataset, found, told.append) == found
        (sentence,) = told
        assert "part: the model's frame has 352x128 pixels (height x width), about the aspect of the good" in sentence
        assert "--size 224 takes a square, --size HxW any other size" in sentence

    def test_videos_tell(self, tmp_path: Path) -> None:
        videos = pytest.importorskip("videos")
        videos.write(tmp_path / "clip.mp4", count=8)
        found = settled(datasets.from_source(tmp_path / "clip.mp4", "part"), preset())
        assert found == preset(size="192x256")  # of 64 x 48 pixels

    @pytest.mark.parametrize("method", [preset("paper"), preset(size=224), preset("accurate", size="96x64")])
    def test_a_size_that_was_named_stays(self, tmp_path: Path, method: Any) -> None:
        told: list[str] = []
        assert settled(datasets.from_source(written(tmp_path), "part"), method, told.append) == method
        assert not told

    def test_a_size_that_was_built_stays(self, tmp_path: Path) -> None:
        how = replace(preset().preprocessing, resize=(64, 64), keep_aspect=False)
        method = replace(preset(), preprocessing=how)
        assert settled(datasets.from_source(written(tmp_path), "part"), method) == method

    def test_square_images_change_nothing_but_the_question(self) -> None:
        told: list[str] = []
        dataset = datasets.from_source([np.asarray(drawn_images.good(number)) for number in range(3)], "part")
        assert settled(dataset, preset(), told.append) == preset(size=224)
        assert preset(size=224) == replace(
            PRESETS["edge"], preprocessing=replace(PRESETS["edge"].preprocessing, keep_aspect=False)
        )
        assert not told

    def test_most_images_count_and_not_the_first(self) -> None:
        images = [drawn_images.good(0), drawn_images.good(1), *(tall(number) for number in range(3))]
        assert settled(datasets.from_source(images, "part"), preset()) == preset(size=AT_TALL)

    def test_images_count_as_they_are_shown(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6  # a quarter turn
        for number in range(3):
            tall(number).save(tmp_path / f"{number}.png", exif=exif)
        assert settled(datasets.from_source(tmp_path, "part"), preset()) == preset(size="128x352")

    def test_only_heads_of_files_are_read(self, tmp_path: Path) -> None:
        for number in range(3):
            (tmp_path / f"{number}.png").write_bytes(encoded(tall(number))[:60])
        assert settled(datasets.from_source(tmp_path, "part"), preset()) == preset(size=AT_TALL)

    def test_without_a_readable_image_the_fit_has_the_word(self, tmp_path: Path) -> None:
        (tmp_path / "torn.png").write_bytes(b"torn")
        assert settled(datasets.from_source(tmp_path, "part"), preset()) == preset(size=224)

    def test_turned_and_cropped_images_keep_their_aspect(self, tmp_path: Path) -> None:
        dataset = perturbed(datasets.from_source(written(tmp_path), "part"), seed=0)
        assert settled(dataset, preset()) == preset(size=AT_TALL)

    def test_the_cameras_frames_decide_where_the_model_takes_them(self, tmp_path: Path) -> None:
        told: list[str] = []
        dataset = datasets.from_source(written(tmp_path), "part")
        found = settled(dataset, preset(frame="1080x1920"), told.append)
        assert found == preset(frame="1080x1920", size="160x288")
        assert "about the aspect of the camera's frames" in told[0]

    def test_an_own_smoothing_grows_with_the_area(self) -> None:
        dataset = datasets.from_source([tall(number) for number in range(3)], "part")
        found = settled(dataset, replace(preset(), sigma=1.0)).sigma
        assert found == pytest.approx((352 * 128) ** 0.5 / 224)


def test_statistics_have_the_size_and_no_question() -> None:
    """The recipe holds the frame that was chosen, so whatever continues from it takes the same one."""
    dataset = datasets.from_source([tall(number) for number in range(4)], "part")
    method = preset(backbone="builtin", dims=5)
    fitted = padim_edge.fit(dataset, method, progress=False)
    assert fitted.method.preprocessing.size == fitted.kept.recipe.method.preprocessing.size == (352, 128)
    assert not fitted.kept.recipe.method.preprocessing.keep_aspect
    assert not begin(dataset, method).recipe.method.preprocessing.keep_aspect
    same = begin(dataset, settled(dataset, method), report=SILENT.report).same
    assert same == begin(dataset, preset(backbone="builtin", dims=5, size=AT_TALL)).same == fitted.kept.same


def test_the_command_says_which_frame_it_took(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    written(images, 4)
    how = ("--data", images, "--class", "part", "--backbone", "builtin", "--dims", 5)
    _, told = commands.run("fit", *how, "--output", tmp_path / "part.npz")
    assert "part: the model's frame has 352x128 pixels" in told
    _, told = commands.run("export", "--fast", *how, "--output", tmp_path / "part.onnx")
    assert told.count("part: the model's frame has 352x128 pixels") == 1
    assert read_verified(tmp_path / "part.onnx").size == (352, 128)
    _, told = commands.run("export", "--fast", *how, "--size", 64, "--output", tmp_path / "square.onnx")
    assert "the model's frame" not in told
    assert read_verified(tmp_path / "square.onnx").size == (64, 64)
