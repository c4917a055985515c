"""The range of the good images' pixel values: they tell it, or the fit is refused with the option that does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import commands
import deep_files
import drawn_images
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from padim_edge import datasets
from padim_edge.datasets.items import Stored
from padim_edge.datasets.perturb import perturbed
from padim_edge.frames import readable_frames
from padim_edge.levels import LOOKED_AT, range_of
from padim_edge.presets import preset
from padim_edge.settled import settled
from padim_edge_artifact import ImageError, PadimEdgeError
from padim_edge_artifact.preprocessing import Levels
from padim_edge_runtime import Detector
from padim_edge_runtime.pixel_values import Extent

SIZE = (48, 64)
METHOD = preset(backbone="builtin", size=64)


def of_bits(number: int, bits: int) -> npt.NDArray[np.uint16]:
    """`(H, W, 3)` as a camera of so many bits gives it."""
    return np.round(np.asarray(drawn_images.good(number, SIZE)) / 255 * ((1 << bits) - 1)).astype(np.uint16)


def extents(*highest: float, ceiling: int | None = 65_535, lowest: float = 0) -> list[Extent]:
    return [Extent(lowest, each, ceiling) for each in highest]


class TestRange:
    """The fewest bits that hold all values, where nothing speaks against it."""

    @pytest.mark.parametrize(
        ("highest", "end"),
        [
            ((255, 180), 255),
            ((256, 200), 1023),
            ((1023, 900), 1023),
            ((1024, 700), 4095),
            ((4095, 3000), 4095),
            ((4096, 3000), 16_383),
            ((16_384, 9000), 65_535),
            ((65_535, 60_000), 65_535),
        ],
    )
    def test_of_whole_numbers(self, highest: tuple[int, ...], end: int) -> None:
        for ceiling in (65_535, 32_767, 2**31 - 1):
            assert range_of(extents(*highest, ceiling=ceiling), "part") == (0, end)

    def test_of_floats(self) -> None:
        assert range_of(extents(0.3, 0.2, ceiling=None), "part") == (0, 1)

    def test_one_image_that_fills_its_container_is_enough(self) -> None:
        assert range_of(extents(60_000), "part") == (0, 65_535)

    @pytest.mark.parametrize(
        ("found", "sentence"),
        [
            (extents(1023), "one image of more than 8 bits does not tell its range"),
            (extents(50, 40), "too dark to tell"),
            (extents(65_535, 1000, 990), "half of them end at 1000, as if of another camera or format"),
            (extents(100, 90, lowest=-5), "from -5 to 100, expected 0 to 65535"),
            (extents(70_000, 60_000, ceiling=2**31 - 1), "from 0 to 70000, expected 0 to 65535"),
            (extents(255, 200, ceiling=None), "not only floating-point numbers from 0 to 1"),
            (extents(0.5, 0.5, lowest=-0.1, ceiling=None), "not only floating-point numbers from 0 to 1"),
            (extents(0.5, ceiling=None) + extents(60_000), "not only floating-point numbers from 0 to 1"),
        ],
    )
    def test_what_is_ambiguous_is_refused_with_the_option_that_settles_it(
        self, found: list[Extent], sentence: str
    ) -> None:
        with pytest.raises(PadimEdgeError, match=sentence) as caught:
            range_of(found, "part")
        assert "state the range with --levels MIN:MAX, such as --levels 0:1023 for 10 bits" in str(caught.value)
        assert "\n" not in str(caught.value)


class TestSettled:
    """The method that the fit runs with."""

    def test_images_of_8_bits_need_no_range_and_are_not_decoded(self, tmp_path: Path) -> None:
        for number in range(3):
            content = deep_files.png(np.asarray(drawn_images.good(number, SIZE)))
            (tmp_path / f"{number}.png").write_bytes(content[:60])  # a header, and nothing to decode
        assert settled(datasets.from_source(tmp_path, None), METHOD) == METHOD

    @pytest.mark.parametrize("bits", [10, 12, 14, 16])
    def test_deep_images_tell(self, tmp_path: Path, bits: int) -> None:
        for number in range(3):
            (tmp_path / f"{number}.png").write_bytes(deep_files.png(of_bits(number, bits)))
        told: list[str] = []
        found = settled(datasets.from_source(tmp_path, "part"), METHOD, told.append)
        end = (1 << bits) - 1
        assert found == replace(METHOD, preprocessing=replace(METHOD.preprocessing, levels=(0, end)))
        (sentence,) = told
        assert f"0 to {end} is taken as the range of the camera, and --levels MIN:MAX sets another one" in sentence

    def test_the_methods_own_range_stays(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(deep_files.png(of_bits(0, 10)))
        method = preset(backbone="builtin", size=64, levels=(0, 4095))
        assert settled(datasets.from_source(tmp_path, None), method) == method

    @pytest.mark.parametrize(
        ("levels", "sentence"),
        [
            ((0, 255), "those outside of 0 to 255, the range that was given, are clipped"),
            ((0, 65_535), "so little of 0 to 65535, the range that was given, that few grey levels are left"),
            ((0, 4095), None),
        ],
    )
    def test_a_range_that_does_not_fit_is_told(self, tmp_path: Path, levels: Levels, sentence: str | None) -> None:
        (tmp_path / "a.png").write_bytes(deep_files.png(of_bits(0, 10)))
        told: list[str] = []
        settled(datasets.from_source(tmp_path, None), preset(backbone="builtin", size=64, levels=levels), told.append)
        assert [sentence in each for each in told if sentence] == ([True] if sentence else [])
        assert bool(told) == bool(sentence)

    def test_images_of_8_and_of_10_bits_may_be_mixed(self, tmp_path: Path) -> None:
        for number in range(2):
            (tmp_path / f"{number}.png").write_bytes(deep_files.png(of_bits(number, 10)))
            drawn_images.good(number, SIZE).save(tmp_path / f"{number}.bmp")
        dataset = datasets.from_source(tmp_path, None)
        found = settled(dataset, METHOD).preprocessing
        frames = list(readable_frames(sorted(dataset.good, key=lambda item: item.key), found, {}))
        assert found.levels == (0, 1023)
        assert np.array_equal(frames[0], frames[1])
        assert np.array_equal(frames[2], frames[3])

    def test_many_images_are_looked_at_evenly(self) -> None:
        seen: list[int] = []

        def one(number: int) -> datasets.Item:
            def extent() -> Extent:
                seen.append(number)
                return Extent(0, 1000, 65_535)

            stored = Stored(lambda _: pytest.fail("decoded"), extent)
            return datasets.Item(str(number), datasets.GOOD, lambda: pytest.fail("read"), None, "", stored)

        settled(datasets.Dataset("part", tuple(map(one, range(1000))), ()), METHOD)
        assert LOOKED_AT / 2 < len(seen) <= LOOKED_AT
        assert np.diff(sorted(seen)).max() == np.diff(sorted(seen)).min()

    def test_unreadable_images_are_left_to_the_fit(self, tmp_path: Path) -> None:
        for number in range(2):
            (tmp_path / f"{number}.png").write_bytes(deep_files.png(of_bits(number, 10)))
        (tmp_path / "torn.png").write_bytes(b"torn")
        assert settled(datasets.from_source(tmp_path, None), METHOD).preprocessing.levels == (0, 1023)


class TestItems:
    """Every way to give images keeps their depth until the range is known."""

    def given(self, folder: Path, way: str) -> Any:
        pixels = [of_bits(number, 10) for number in range(2)]
        for number, each in enumerate(pixels):
            (folder / f"{number}.png").write_bytes(deep_files.png(each))
        paths = sorted(folder.iterdir())
        if way == "opened":
            return [Image.open(path) for path in paths]
        return {
            "folder": folder,
            "paths": paths,
            "arrays": pixels,
            "generator": iter(pixels),
            "bytes": [path.read_bytes() for path in paths],
        }[way]

    @pytest.mark.parametrize("way", ["folder", "paths", "arrays", "generator", "bytes", "opened"])
    def test_the_frames_are_those_of_8_bits(self, tmp_path: Path, way: str) -> None:
        dataset = datasets.from_source(self.given(tmp_path, way), None)
        preprocessing = settled(dataset, METHOD).preprocessing
        assert preprocessing.levels == (0, 1023)
        unreadable: dict[str, str] = {}
        found = list(readable_frames(dataset.good, preprocessing, unreadable))
        plain = datasets.from_source([np.asarray(drawn_images.good(number, SIZE)) for number in range(2)], None)
        assert not unreadable
        assert np.array_equal(found, list(readable_frames(plain.good, METHOD.preprocessing, {})))

    def test_a_generator_may_use_its_buffer_again(self) -> None:
        buffer = of_bits(0, 10)

        def camera() -> Iterator[npt.NDArray[np.uint16]]:
            for number in range(2):
                buffer[:] = of_bits(number, 10)
                yield buffer

        dataset = datasets.from_source(camera(), None)
        first, second = (np.asarray(item.decoded((0, 1023)).image) for item in dataset.good)
        assert np.array_equal(first, np.asarray(drawn_images.good(0, SIZE)))
        assert np.array_equal(second, np.asarray(drawn_images.good(1, SIZE)))

    def test_perturbed_images_keep_their_range(self, tmp_path: Path) -> None:
        dataset = datasets.from_source(self.given(tmp_path, "folder"), "part")
        plain = datasets.from_source([np.asarray(drawn_images.good(number, SIZE)) for number in range(2)], "part")
        named = tuple(replace(item, key=f"{number}.png") for number, item in enumerate(plain.good))
        wanted = perturbed(replace(plain, good=named), seed=3)
        for found, same in zip(perturbed(dataset, seed=3).good, wanted.good, strict=True):
            assert np.array_equal(np.asarray(found.decoded((0, 1023)).image), np.asarray(same.read().image))

    def test_without_a_range_they_are_refused(self, tmp_path: Path) -> None:
        for item in datasets.from_source(self.given(tmp_path, "folder"), None).good:
            with pytest.raises(ImageError, match="--levels 0:1023 for 10 bits"):
                item.read()


class TestOption:
    """`--levels`, and `levels` in Python."""

    @pytest.mark.parametrize("levels", ["0:1023", "0:1023.0", (0, 1023), [0.0, 1023.0]])
    def test_is_read(self, levels: Any) -> None:
        assert preset(backbone="builtin", levels=levels).preprocessing.levels == (0, 1023)

    def test_may_be_negative(self) -> None:
        assert preset(backbone="builtin", levels="-100:1e3").preprocessing.levels == (-100, 1000)

    @pytest.mark.parametrize("levels", ["", "10", "0:", "5:1", "3:3", "0:1:2", "a:b", "nan:1", "0:inf", (1,), 7])
    def test_is_refused(self, levels: Any) -> None:
        with pytest.raises(PadimEdgeError, match=r"--levels is .*, expected the lowest and the highest value"):
            preset(backbone="builtin", levels=levels)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The same images in 8 and in 10 bits."""
    made = {bits: tmp_path_factory.mktemp(f"bits{bits}") for bits in (8, 10)}
    for number in range(24):
        part = ("train/good" if number < 20 else "test/good", f"{number}.png")
        for bits, folder in made.items():
            path = folder.joinpath(*part)
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.asarray(drawn_images.good(number, SIZE)) if bits == 8 else of_bits(number, bits)
            path.write_bytes(deep_files.png(pixels))
    return made


@pytest.fixture(scope="module")
def models(folders: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A model of each, and the way there on the command line."""
    folder, made = tmp_path_factory.mktemp("models"), {}
    for bits, data in folders.items():
        made[bits] = folder / f"{bits}.onnx"
        _, said = commands.run(
            "export", "--fast", "--data", data, "--backbone", "builtin", "--size", "64", "--output", made[bits]
        )
        assert ("0 to 1023 is taken as the range" in said) == (bits == 10)
    return made


def levels_of(model: Path) -> Levels | None:
    return Detector.load(model, "cpu").metadata.preprocessing.levels


def test_a_model_of_10_bits_is_the_model_of_8_bits(models: dict[int, Path], folders: dict[int, Path]) -> None:
    """Thresholds and scores are equal, since the frames are."""
    eight, ten = (Detector.load(models[bits], "cpu") for bits in (8, 10))
    assert levels_of(models[8]) is None
    assert levels_of(models[10]) == (0, 1023)
    assert ten.metadata.threshold == eight.metadata.threshold
    for path in sorted((folders[10] / "test/good").iterdir()):
        wanted = eight.inspect(folders[8] / "test/good" / path.name)
        for source in (path, path.read_bytes(), of_bits(int(path.stem), 10)):
            found = ten.inspect(source)
            assert (found.score, found.notes) == (wanted.score, ())
        same = ten.inspect(folders[8] / "test/good" / path.name)
        assert same.score == wanted.score
        assert same.notes == ("8 bits a pixel, taken from 0 to 255, where the model's range is 0 to 1023",)
        assert np.array_equal(np.asarray(ten.inspect(path).overlay()), np.asarray(wanted.overlay()))


def test_a_model_of_8_bits_refuses_10_bits(models: dict[int, Path], folders: dict[int, Path]) -> None:
    _, said = commands.run("infer", models[8], folders[10] / "test/good/20.png", code=1)
    assert "its values end at" in said
    assert "--levels 0:1023 for 10 bits" in said


def test_inspect_shows_the_range(models: dict[int, Path]) -> None:
    shown, _ = commands.run("inspect", models[10])
    assert "values from 0 to 1023 in images of more than 8 bits a channel" in " ".join(shown.split())
    assert "values from" not in commands.run("inspect", models[8])[0]
