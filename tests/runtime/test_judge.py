"""Many images at a time: the same results as one after another, in order, in bounded memory."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import images
import numpy as np
import pytest
from PIL import Image

from padim_edge_artifact import DeviceError, ImageError, Preprocessing
from padim_edge_model.comparable import Reference, compare, shift, thumbnail
from padim_edge_runtime import Detector, image_files
from padim_edge_runtime import judge as module
from padim_edge_runtime.judge import Judged, Unreadable, judge, side_by_side

COUNT = 12


@pytest.fixture
def files(tmp_path: Path) -> list[tuple[Path, Path]]:
    """Good and defective parts of several sizes and formats, colour and grey; (path, name)."""
    folder = tmp_path / "parts"
    folder.mkdir()
    found = []
    for i in range(COUNT):
        size = (80 + 7 * i, 110 - 5 * i)
        image = images.defective(i, size)[0] if i % 3 == 2 else images.good(i, size)
        name = Path(f"{i:02}.{('png', 'jpg', 'bmp')[i % 3]}")
        (image.convert("L") if i % 2 else image).save(folder / name)
        found.append((folder / name, name))
    return found


@pytest.fixture
def detector(golden: Path, device: str) -> Detector:
    return Detector.load(golden, device)


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cores", lambda: 4)


class Counting:
    """A detector that counts how many images are in it at a time."""

    def __init__(self, inner: Detector, device: str, work: Callable[[], None] = lambda: time.sleep(0.005)) -> None:
        self.inner, self.metadata, self.device, self.work = inner, inner.metadata, device, work
        self.now = self.most = self.calls = 0
        self.lock = threading.Lock()

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        with self.lock:
            self.calls += 1
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            self.work()
            return self.inner(*arguments, **keywords)
        finally:
            with self.lock:
                self.now -= 1


def timeless(results: Iterator[Judged | Unreadable]) -> list[dict[str, Any]]:
    return [{**result.to_json(), "milliseconds": 0} for result in results]


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize("at_once", [1, 4])
def test_results_are_those_of_one_image_after_another_to_the_last_digit(
    golden: Path, files: list[tuple[Path, Path]], at_once: int
) -> None:
    """However many images are in the model at a time, on however many threads."""
    detector, one_thread = Detector.load(golden, "cpu", threads=3), Detector.load(golden, "cpu", threads=1)
    found = [each for each in judge(one_thread, files, at_once=at_once) if isinstance(each, Judged)]
    assert [each.path for each in found] == [path for path, _ in files]
    assert 0 < sum(each.anomalous for each in found) < COUNT
    for each in found:
        result = detector(detector.prepare(each.path))
        assert (each.score, each.p_value, each.anomalous) == (result.score[0], result.p_value[0], result.anomalous[0])
        with Image.open(each.path) as image:
            assert (each.width, each.height) == image.size


@pytest.mark.usefixtures("four_cores")
def test_one_bad_image_stays_in_its_place_and_stops_nothing(detector: Detector, files: list[tuple[Path, Path]]) -> None:
    for i in (0, 5, COUNT - 1):
        files[i][0].write_bytes(b"no image")
    found = list(judge(detector, files, at_once=4))
    assert [isinstance(each, Unreadable) for each in found] == [i in (0, 5, COUNT - 1) for i in range(COUNT)]
    assert [each.path for each in found] == [path for path, _ in files]


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize(("device", "at_once", "most"), [("cpu", 3, 3), ("cpu", 1, 1), ("cuda", 3, 1)])
def test_so_many_images_are_in_the_model_at_a_time(
    golden: Path, files: list[tuple[Path, Path]], device: str, at_once: int, most: int
) -> None:
    """On a CPU as many as told. Another device has one of its own, which images would only queue for."""
    counting = Counting(Detector.load(golden, "cpu"), device)
    meeting = threading.Barrier(most)
    counting.work = lambda: None if meeting.broken else _meet(meeting)
    found = list(judge(counting, files, at_once=at_once))  # type: ignore[arg-type]
    assert len(found) == counting.calls == COUNT
    assert counting.most == most


def _meet(meeting: threading.Barrier) -> None:
    """Wait until as many others are in the model as are allowed to be, which shows that they may be."""
    meeting.wait(10)


@pytest.mark.usefixtures("four_cores")
def test_waiting_for_a_turn_in_the_model_is_not_time_in_the_model(golden: Path, files: list[tuple[Path, Path]]) -> None:
    slow = Counting(Detector.load(golden, "cpu"), "cuda", lambda: time.sleep(0.05))
    found = [each.milliseconds for each in judge(slow, files) if isinstance(each, Judged)]  # type: ignore[arg-type]
    assert min(found) >= 50
    assert sorted(found)[COUNT // 2] < 150, "three others wait at a time, which would be 200"


@pytest.mark.usefixtures("four_cores")
def test_no_more_images_than_threads_are_in_memory(
    detector: Detector, files: list[tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slowly the results are used."""
    alive: set[int] = set()
    most = 0
    lock = threading.Lock()
    read = image_files.read

    class Held(image_files.Decoded):
        def __del__(self) -> None:
            alive.discard(id(self))

    def counted(path: Path, *, keep_grey: bool) -> image_files.Decoded:
        nonlocal most
        image = read(path, keep_grey=keep_grey)
        held = Held(image.image, image.notes)
        with lock:
            alive.add(id(held))
            most = max(most, len(alive))
        return held

    monkeypatch.setattr(image_files, "read", counted)
    for _ in judge(detector, files * 3, at_once=4):
        time.sleep(0.002)
    assert 1 <= most <= 4


@pytest.mark.usefixtures("four_cores")
def test_a_device_that_fails_is_told_after_the_images_before_it(golden: Path, files: list[tuple[Path, Path]]) -> None:
    def fail() -> None:
        if counting.calls > 5:
            raise DeviceError("the device 'cpu' failed while it ran")

    counting = Counting(Detector.load(golden, "cpu"), "cpu", fail)
    told: list[Path] = []

    def tell() -> None:
        for result in judge(counting, files, at_once=4):  # type: ignore[arg-type]
            told.append(result.path)  # noqa: PERF401 - what came before the error is what matters

    with pytest.raises(DeviceError, match="failed while it ran"):
        tell()
    assert len(told) <= 5
    assert told == [path for path, _ in files[: len(told)]]


@pytest.mark.usefixtures("four_cores")
def test_leaving_early_judges_no_more_than_was_begun(golden: Path, files: list[tuple[Path, Path]]) -> None:
    """As after Ctrl-C."""
    counting = Counting(Detector.load(golden, "cpu"), "cpu")
    threads = threading.active_count()
    results = judge(counting, files * 5, at_once=4)  # type: ignore[arg-type]
    next(results)
    results.close()
    assert counting.calls <= 2 * 4 + 1
    assert threading.active_count() == threads


@pytest.mark.parametrize(("largest", "most"), [(10**9, 2), (1, 1)])
def test_large_images_are_drawn_one_at_a_time(
    detector: Detector,
    files: list[tuple[Path, Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    largest: int,
    most: int,
) -> None:
    """Drawing takes some hundred bytes a pixel."""
    monkeypatch.setattr(module, "cores", lambda: 2)
    monkeypatch.setattr(module, "DRAWN_TOGETHER", largest)
    draw, lock, now, seen = module._draw, threading.Lock(), [0], [0]

    @contextmanager
    def counted() -> Iterator[None]:
        with lock:
            now[0] += 1
            seen[0] = max(seen[0], now[0])
        try:
            yield
        finally:
            with lock:
                now[0] -= 1

    def slow(*arguments: Any) -> None:
        with counted():
            time.sleep(0.02)
            draw(*arguments)

    monkeypatch.setattr(module, "_draw", slow)
    list(judge(detector, files, heatmaps=tmp_path / "heat", at_once=2))
    assert seen[0] == most
    assert len(list((tmp_path / "heat").iterdir())) == COUNT


def test_overlays_of_grey_images_are_those_of_the_same_in_rgb(detector: Detector, tmp_path: Path) -> None:
    grey = images.defective(3)[0].convert("L")
    grey.save(tmp_path / "grey.png")
    grey.convert("RGB").save(tmp_path / "rgb.png")
    given = [(tmp_path / name, Path(name)) for name in ("grey.png", "rgb.png")]
    list(judge(detector, given, heatmaps=tmp_path / "heat"))
    first, second = (np.asarray(Image.open(tmp_path / "heat" / name)) for name in ("grey.png", "rgb.png"))
    assert first.shape == (96, 96, 3)
    assert np.array_equal(first, second)


@pytest.mark.parametrize(
    ("cores", "count", "expected"),
    [(1, 100, 1), (2, 1, 1), (2, 2, 2), (4, 3, 1), (4, 100, 4), (64, 100, 8), (64, 7, 1)],
)
def test_images_share_the_cores_where_there_are_enough_of_them(
    monkeypatch: pytest.MonkeyPatch, cores: int, count: int, expected: int
) -> None:
    monkeypatch.setattr(module, "cores", lambda: cores)
    assert side_by_side(count) == expected


def test_an_unreadable_frame_is_reported_like_an_unreadable_file(
    detector: Detector, files: list[tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ImageError("no frame of that")

    monkeypatch.setattr(image_files, "prepare", refuse)
    assert list(judge(detector, files[:1])) == [Unreadable(files[0][0], "no frame of that")]


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(
    "size", [(300, 200), (64, 64), (31, 97), (1000, 33)], ids=["smaller", "the same", "larger", "both"]
)
def test_grey_images_give_the_same_frame_whether_kept_grey_or_not(
    tmp_path: Path, size: tuple[int, int], interpolation: str
) -> None:
    """Models are fitted on the one and run on the other."""
    noise = images.noise(5, size)[..., 0]
    Image.fromarray(noise).save(tmp_path / "8.png")
    Image.fromarray(noise.astype(np.uint16) * 200).save(tmp_path / "16.png")
    Image.fromarray(noise).save(tmp_path / "8.jpg")
    turned = Image.fromarray(noise)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    for preprocessing in (
        Preprocessing((64, 64), None, interpolation),
        Preprocessing((72, 80), (64, 48), interpolation),
    ):
        for path in tmp_path.iterdir():
            kept, usual = image_files.read(path, keep_grey=True), image_files.read(path)
            assert kept.image.mode == "L"
            assert usual.image.mode == "RGB"
            assert kept.image.size == usual.image.size == (size if "turned" in path.name else size[::-1])
            assert kept.notes == usual.notes
            frame = image_files.prepare(usual.image, preprocessing)
            assert np.array_equal(image_files.prepare(kept.image, preprocessing), frame), path


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "1"])
def test_images_of_other_modes_become_rgb_also_where_grey_is_kept(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tif"
    images.good(1).convert(mode).save(path)
    assert image_files.read(path, keep_grey=True).image.mode == "RGB"


def test_references_are_not_mixed_up(detector: Detector) -> None:
    """Their spectra are kept from one image to the next."""
    own = detector.metadata.reference
    grid = detector.metadata.grid
    frames = [np.roll(detector.prepare(images.good(i)), 8 * i, axis=1) for i in range(3)]
    others = [_reference_of(frame, grid, own) for frame in frames]
    for _ in range(2):
        for reference, mean in zip(others, frames, strict=True):
            for frame in frames:
                # The reference holds its mean in whole grey levels.
                rounded = thumbnail(mean, grid).round()
                assert compare(frame, reference, grid).shift == shift(thumbnail(frame, grid), rounded)


def _reference_of(frame: Any, grid: tuple[int, int], like: Reference) -> Reference:
    import base64

    mean = thumbnail(frame, grid).round().astype(np.uint8)
    return dataclasses.replace(like, mean=base64.b64encode(mean.tobytes()).decode())
