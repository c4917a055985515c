"""Many images at a time: the same results as one after another, in order, in bounded memory."""

from __future__ import annotations

import base64
import dataclasses
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import drawn_images
import numpy as np
import pytest
from PIL import Image

from padim_edge_artifact import DeviceError, ImageError, PadimEdgeError
from padim_edge_model.comparable import check_frame, shift, thumbnail
from padim_edge_runtime import Detector, Inspection, Unreadable, image_files
from padim_edge_runtime import pipeline as module
from padim_edge_runtime.pipeline import Choice, inspect_many, threads_for, workers_of

COUNT = 12


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Good and defective parts of several sizes and formats, colour and grey."""
    folder = tmp_path / "parts"
    folder.mkdir()
    found = []
    for i in range(COUNT):
        size = (80 + 7 * i, 110 - 5 * i)
        image = drawn_images.defective(i, size)[0] if i % 3 == 2 else drawn_images.good(i, size)
        path = folder / f"{i:02}.{('png', 'jpg', 'bmp')[i % 3]}"
        (image.convert("L") if i % 2 else image).save(path)
        found.append(path)
    return found


@pytest.fixture
def detector(golden: Path, device: str) -> Detector:
    return Detector.load(golden, device)


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cores", lambda: 4)


class Counting:
    """A detector that counts how many images are in it at a time."""

    def __init__(
        self,
        inner: Detector,
        device: str = "cpu",
        work: Callable[[], None] = lambda: time.sleep(0.005),
        threads: int | None = 1,
    ) -> None:
        self.inner, self.metadata, self.device, self.work = inner, inner.metadata, device, work
        self.threads = threads
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


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize("threads", [None, 1])
def test_results_are_those_of_one_image_after_another_to_the_last_digit(
    golden: Path, files: list[Path], threads: int | None
) -> None:
    """However many images are in the model at a time, on however many threads."""
    detector, several = Detector.load(golden, "cpu", threads=3), Detector.load(golden, "cpu", threads=threads)
    found = [each for each in several.inspect_many(files) if isinstance(each, Inspection)]
    assert [each.path for each in found] == files
    assert 0 < sum(each.anomalous for each in found) < COUNT
    for each in found:
        result = detector(detector.prepare(each.path))
        assert (each.score, each.p_value, each.anomalous) == (result.score[0], result.p_value[0], result.anomalous[0])
        with Image.open(each.path) as image:
            assert (each.width, each.height) == image.size


@pytest.mark.usefixtures("four_cores")
def test_one_bad_image_stays_in_its_place_and_stops_nothing(golden: Path, files: list[Path]) -> None:
    for i in (0, 5, COUNT - 1):
        files[i].write_bytes(b"no image")
    found = list(Detector.load(golden, "cpu", threads=1).inspect_many(files))
    assert [isinstance(each, Unreadable) for each in found] == [i in (0, 5, COUNT - 1) for i in range(COUNT)]
    assert [each.verdict == "unreadable" for each in found] == [i in (0, 5, COUNT - 1) for i in range(COUNT)]
    assert [each.path for each in found] == files


def test_paths_bytes_images_and_arrays_may_be_mixed(detector: Detector, files: list[Path]) -> None:
    """And what is none of them is unreadable, in its place."""
    path = files[2]
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
        given = [path, str(path), path.read_bytes(), image.copy(), pixels, pixels.astype(float), None, b""]
    found = list(detector.inspect_many(given))
    readable = [each for each in found if isinstance(each, Inspection)]
    assert len({each.score for each in readable}) == 1
    assert [each.path for each in found] == [path, path, *[None] * 6]
    assert [each.verdict for each in found[len(readable) :]] == ["unreadable"] * 3
    errors = [each.error for each in found if isinstance(each, Unreadable)]
    assert [each.split(";")[0] for each in errors] == [
        "the array holds float64, expected uint8 from 0 to 255",
        "the image is None, as cv2.imread gives for a file that it cannot read",
        "the encoded image is empty (0 bytes)",
    ]


@pytest.mark.usefixtures("four_cores")
def test_an_endless_iterable_is_taken_in_bounded_steps(detector: Detector) -> None:
    """A camera never ends, so it is never turned into a list."""
    taken = 0

    def camera() -> Iterator[np.ndarray]:
        nonlocal taken
        for taken in itertools.count(1):
            yield np.asarray(drawn_images.good(taken % 5))

    results = detector.inspect_many(camera())
    for used in range(1, 30):
        assert isinstance(next(results), Inspection)
        assert taken - (used - 1) <= 2 * workers_of(detector)
    results.close()


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        ({"color": "RGB"}, "the color is 'RGB', expected 'rgb' or 'bgr'"),
        ({"color": ""}, "the color is '', expected 'rgb' or 'bgr'"),
        ({"threshold": float("nan")}, "the threshold is nan, expected a distance of 0 or more"),
        ({"threshold": -1}, "the threshold is -1, expected a distance of 0 or more"),
    ],
)
def test_wrong_words_and_numbers_are_refused_at_once(
    detector: Detector, keywords: dict[str, Any], sentence: str
) -> None:
    """Before any image is read, and not as an unreadable image."""
    with pytest.raises(PadimEdgeError, match=sentence):
        detector.inspect_many([], **keywords)
    with pytest.raises(PadimEdgeError, match=sentence) as caught:
        detector.inspect(np.zeros((64, 64), np.uint8), **keywords)
    assert not isinstance(caught.value, ImageError)


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize(
    ("device", "threads", "most"), [("cpu", 1, 4), ("cpu", 2, 2), ("cpu", 9, 1), ("cpu", None, 1), ("cuda", 1, 1)]
)
def test_so_many_images_are_in_the_model_at_a_time(
    golden: Path, files: list[Path], device: str, threads: int | None, most: int
) -> None:
    """On a CPU as many as its threads leave cores for. Images would queue on another device."""
    counting = Counting(Detector.load(golden, "cpu"), device, threads=threads)
    meeting = threading.Barrier(most)
    counting.work = lambda: None if meeting.broken else _meet(meeting)
    found = list(inspect_many(counting, files, Choice()))
    assert len(found) == counting.calls == COUNT
    assert counting.most == most


def _meet(meeting: threading.Barrier) -> None:
    """Wait until as many others are in the model as are allowed to be, which shows that they may be."""
    meeting.wait(60)


@pytest.mark.usefixtures("four_cores")
def test_waiting_for_a_turn_in_the_model_is_not_time_in_the_model(golden: Path, files: list[Path]) -> None:
    slow = Counting(Detector.load(golden, "cpu"), "cuda", lambda: time.sleep(0.05))
    found = [each.milliseconds for each in inspect_many(slow, files, Choice()) if isinstance(each, Inspection)]
    assert min(found) >= 50
    assert sorted(found)[COUNT // 2] < 150, "three others wait at a time, which would be 200"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """(now, most) decoded images in memory."""
    alive: set[int] = set()
    counts = [0, 0]
    lock = threading.Lock()
    decode = image_files.decode

    class Held(Image.Image):
        def __del__(self) -> None:
            with lock:
                alive.discard(id(self))
                counts[0] = len(alive)

    def counted(*arguments: Any, **keywords: Any) -> image_files.Decoded:
        found = decode(*arguments, **keywords)
        held = Held()
        held.__dict__.update(found.image.__dict__)
        with lock:
            alive.add(id(held))
            counts[:] = len(alive), max(counts[1], len(alive))
        return image_files.Decoded(held, found.notes)

    monkeypatch.setattr(image_files, "decode", counted)
    return counts


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize("hook", [None, Inspection.overlay])
def test_no_more_decoded_images_than_threads_are_in_memory(
    golden: Path, files: list[Path], decoded: list[int], hook: Callable[[Inspection], object] | None
) -> None:
    """However slowly the results are used, and though all of them are kept."""
    detector = Detector.load(golden, "cpu", threads=1)
    found = []
    for each in detector.inspect_many(files * 3, hook=hook):
        time.sleep(0.002)
        found.append(each)
    assert decoded[0] == 0
    assert 1 <= decoded[1] <= 4
    found[-1].overlay()
    assert len(found) == 3 * COUNT


def test_a_hook_draws_without_decoding_again(detector: Detector, files: list[Path], decoded: list[int]) -> None:
    drawn = []
    for _ in detector.inspect_many(files[:1], hook=lambda each: drawn.append((each.overlay(), decoded[0]))):
        pass
    ((image, in_memory),) = drawn
    assert in_memory == 1
    assert np.array_equal(np.asarray(image), np.asarray(detector.inspect(files[0]).overlay()))


@pytest.mark.usefixtures("four_cores")
def test_the_hook_runs_in_the_threads_that_inspect_and_sees_no_unreadable_image(
    detector: Detector, files: list[Path]
) -> None:
    files[3].write_bytes(b"no image")
    seen: dict[Path | None, int] = {}
    results = list(detector.inspect_many(files, hook=lambda each: seen.setdefault(each.path, threading.get_ident())))
    assert set(seen) == set(files) - {files[3]}
    assert threading.get_ident() not in seen.values()
    assert len(results) == COUNT


def test_an_error_of_the_hook_comes_through(detector: Detector, files: list[Path]) -> None:
    def fail(_: Inspection) -> None:
        raise PadimEdgeError("the disk is full")

    with pytest.raises(PadimEdgeError, match="the disk is full"):
        list(detector.inspect_many(files, hook=fail))


@pytest.mark.usefixtures("four_cores")
def test_a_device_that_fails_is_told_after_the_images_before_it(golden: Path, files: list[Path]) -> None:
    def fail() -> None:
        if counting.calls > 5:
            raise DeviceError("the device 'cpu' failed while it ran")

    counting = Counting(Detector.load(golden, "cpu"), "cpu", fail)
    told: list[Path | None] = []

    def tell() -> None:
        for result in inspect_many(counting, files, Choice()):
            told.append(result.path)  # noqa: PERF401 - what came before the error is what matters

    with pytest.raises(DeviceError, match="failed while it ran"):
        tell()
    assert len(told) <= 5
    assert told == files[: len(told)]


@pytest.mark.usefixtures("four_cores")
def test_leaving_early_judges_no_more_than_was_begun(golden: Path, files: list[Path]) -> None:
    """Ctrl-C does the same."""
    counting = Counting(Detector.load(golden, "cpu"))
    threads = threading.active_count()
    results = inspect_many(counting, files * 5, Choice())
    next(results)
    results.close()
    assert counting.calls <= 2 * 4 + 1
    assert threading.active_count() == threads


@pytest.mark.parametrize(
    ("cores", "count", "expected"),
    [(1, 100, None), (2, 1, None), (2, 2, 1), (4, 3, None), (4, 100, 1), (64, 100, 1), (64, 7, None), (64, 8, 1)],
)
def test_images_share_the_cores_where_there_are_enough_of_them(
    monkeypatch: pytest.MonkeyPatch, cores: int, count: int, expected: int | None
) -> None:
    monkeypatch.setattr(module, "cores", lambda: cores)
    assert threads_for(count) == expected


@pytest.mark.parametrize(("cores", "workers"), [(1, 2), (2, 2), (4, 4), (64, 8)])
def test_threads_are_bounded_however_many_cores_there_are(
    golden: Path, monkeypatch: pytest.MonkeyPatch, cores: int, workers: int
) -> None:
    monkeypatch.setattr(module, "cores", lambda: cores)
    inner = Detector.load(golden, "cpu")
    assert {workers_of(Counting(inner, threads=threads)) for threads in (None, 1, 2)} == {workers}


@pytest.mark.usefixtures("four_cores")
def test_one_detector_serves_many_threads_with_the_very_same_results(detector: Detector, files: list[Path]) -> None:
    """Each thread begins with another image, so that different ones are in the model at a time."""
    alone = [detector.inspect(path) for path in files]
    ready, found = threading.Barrier(8), {}

    def work(number: int) -> None:
        ready.wait(10)
        order = [(number + i) % COUNT for i in range(COUNT)]
        found[number] = {i: detector.inspect(files[i]) for i in order}

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    for inspections in found.values():
        for i, expected in enumerate(alone):
            same = inspections[i]
            assert {**same.to_json(), "milliseconds": 0} == {**expected.to_json(), "milliseconds": 0}
            assert np.array_equal(same.view.frame_map, expected.view.frame_map)


def test_many_streams_share_one_detector(detector: Detector, files: list[Path]) -> None:
    first, second = detector.inspect_many(files), detector.inspect_many(files)
    for one, other in zip(first, second, strict=True):
        assert one.to_json()["score"] == other.to_json()["score"]


def test_an_unreadable_frame_is_reported_like_an_unreadable_file(
    detector: Detector, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ImageError("no frame of that")

    monkeypatch.setattr(image_files, "prepare", refuse)
    assert list(detector.inspect_many(files[:1])) == [Unreadable(files[0], "no frame of that")]


def test_references_are_not_mixed_up(detector: Detector) -> None:
    """Their spectra are kept from one image to the next."""
    own = detector.metadata.reference
    grid = detector.metadata.grid
    frames = [np.roll(detector.prepare(drawn_images.good(i)), 8 * i, axis=1) for i in range(3)]
    thumbnails = [thumbnail(frame, grid).round().astype(np.uint8) for frame in frames]
    others = [dataclasses.replace(own, mean=base64.b64encode(each.tobytes()).decode()) for each in thumbnails]
    for _ in range(2):
        for reference, mean in zip(others, frames, strict=True):
            for frame in frames:
                # The reference holds its mean in whole grey levels.
                rounded = thumbnail(mean, grid).round()
                assert check_frame(frame, reference, grid).shift == shift(thumbnail(frame, grid), rounded)
