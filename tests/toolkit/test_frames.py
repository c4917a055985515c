"""A frame of a video is the same in whatever order frames are read."""

from __future__ import annotations

import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from videos import SIZE, Encoding, av, decoded, number_of, write

from padim_edge.datasets import frames
from padim_edge.datasets.frames import FAR, OPEN, RECENT, Reader, scan
from padim_edge_artifact import ImageError
from padim_edge_runtime.prefetch import in_order

COUNT = 60
OPEN_GOP = {"x264-params": "open-gop=1:bframes=3:scenecut=0:keyint=20:min-keyint=20"}
REFRESHED = {"x264-params": "intra-refresh=1:keyint=20"}
"""Encoder options for keyframes that are none: the image builds up over 20 frames."""


def cut_by_a_list(path: Path) -> Path:
    """Write an MP4 whose first 17 frames are stored but not shown."""
    whole = write(path.with_name("whole.mp4"), "libx264", COUNT + 17, encoding=Encoding(options=OPEN_GOP))
    with (
        av.open(str(path), "w", container_options={"avoid_negative_ts": "disabled"}) as output,
        av.open(whole) as given,
    ):
        stream = output.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.pts -= int(17 / 25 / packet.time_base)
                packet.dts -= int(17 / 25 / packet.time_base)
                packet.stream = stream
                output.mux(packet)
    return path


KINDS: dict[str, Callable[[Path], Path]] = {
    "h264.mp4": lambda path: write(path, "libx264", COUNT, encoding=Encoding(options=OPEN_GOP)),
    "h264-uneven-late.mkv": lambda path: write(
        path, "libx264", COUNT, encoding=Encoding(options=OPEN_GOP, uneven=True, start=7000)
    ),
    "h264-refreshed.mkv": lambda path: write(path, "libx264", COUNT, encoding=Encoding(options=REFRESHED, b_frames=0)),
    "h264.avi": lambda path: write(path, "libx264", COUNT),
    "mpeg4-uneven.mov": lambda path: write(path, "mpeg4", COUNT, encoding=Encoding(uneven=True, start=300)),
    "mpeg4.avi": lambda path: write(path, "mpeg4", COUNT),
    "mpeg4-intra.avi": lambda path: write(path, "mpeg4", COUNT, encoding=Encoding(gop=1, b_frames=0)),
    "vp9.webm": lambda path: write(
        path, "libvpx-vp9", COUNT, encoding=Encoding(options={"deadline": "realtime", "cpu-used": "8"})
    ),
    "edited.mp4": cut_by_a_list,
}


@pytest.fixture(scope="module", params=KINDS)
def video(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[np.ndarray]]:
    """Write a video; return it and its frames, decoded from first to last."""
    path = KINDS[request.param](tmp_path_factory.mktemp("videos") / request.param)
    expected = decoded(path)
    first = 17 if request.param == "edited.mp4" else 0
    assert [number_of(frame) for frame in expected] == list(range(first, first + COUNT))
    return path, expected


def test_a_frame_is_the_same_in_any_order(video: tuple[Path, list[np.ndarray]]) -> None:
    path, expected = video
    clip = scan(path)
    assert (clip.count, clip.cut) == (COUNT, "")
    reader = Reader()  # one for all examples: earlier reads must not matter

    @settings(deadline=None, max_examples=12)
    @given(st.lists(st.integers(0, COUNT - 1), max_size=12))
    def law(numbers: list[int]) -> None:
        for number in numbers:
            np.testing.assert_array_equal(np.asarray(reader.read(clip, number).image), expected[number])

    law()


def test_a_frame_is_the_same_backwards_and_in_leaps(video: tuple[Path, list[np.ndarray]]) -> None:
    path, expected = video
    clip, reader = scan(path), Reader()
    for number in (*range(COUNT - 1, -1, -7), *range(0, COUNT, 11), 0, COUNT - 1, 0):
        np.testing.assert_array_equal(np.asarray(reader.read(clip, number).image), expected[number])


def test_a_frame_is_the_same_for_threads_that_read_ahead_twice(video: tuple[Path, list[np.ndarray]]) -> None:
    path, expected = video
    clip, reader = scan(path), Reader()
    for _ in range(2):
        read = in_order(lambda number: np.asarray(reader.read(clip, number).image), range(clip.count), workers=4)
        for found, wanted in zip(read, expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_threads_that_read_here_and_there_get_what_they_asked_for(tmp_path: Path) -> None:
    clips = [scan(write(tmp_path / f"{i}.mp4", count=20 + i)) for i in range(OPEN + 2)]
    reader = Reader()
    wanted = [(clip, number) for number in range(20) for clip in clips]
    np.random.default_rng(1).shuffle(wanted)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda each: number_of(np.asarray(reader.read(*each).image)), wanted))
    assert found == [number for _, number in wanted]
    assert len(reader._decoders) == OPEN


def test_reading_in_order_decodes_each_frame_once(
    video: tuple[Path, list[np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, reader, count = scan(video[0]), Reader(), 0

    def counted(*arguments: object) -> object:
        nonlocal count
        for frame in plain(*arguments):
            count += 1
            yield frame

    plain = frames._decoded
    monkeypatch.setattr(frames, "_decoded", counted)
    for number in range(clip.count):
        reader.read(clip, number)
        reader.read(clip, max(0, number - RECENT + 1))  # as a slower thread does
    assert count == COUNT
    (decoder,) = reader._decoders.values()
    assert decoder._opened is None  # closed when finished


def test_a_far_frame_is_leapt_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip, reader = scan(write(tmp_path / "long.mp4", count=FAR + 40)), Reader()
    reader.read(clip, 0)
    reader.read(clip, FAR + 20)
    (decoder,) = reader._decoders.values()
    assert not decoder._whole
    monkeypatch.setattr(frames, "_open", None)  # it decodes on from there
    assert number_of(np.asarray(reader.read(clip, FAR + 30).image)) == FAR + 30


def test_decoded_frames_are_freed_at_once(tmp_path: Path) -> None:
    """PyAV's frames may refer to themselves. The garbage collector would find them only after hundreds."""
    clip, reader = scan(write(tmp_path / "a.mp4")), Reader()

    def kept() -> int:
        return sum(type(each) is av.VideoFrame for each in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = kept()
        for number in range(clip.count):
            reader.read(clip, number)
        assert kept() < before + 2 * RECENT
    finally:
        gc.enable()


# The nine numbers of a display matrix are stored by rows, with a fixed point after 16 or 30 bits.
TURNS = {
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}


@pytest.mark.parametrize("matrix", TURNS)
def test_a_turned_or_mirrored_video_is_upright(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    path = write(tmp_path / "a.mp4", count=3)
    lying = Reader().read(scan(path), 2).image
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 44
    a, b, c, d = matrix
    content[at : at + 36] = np.array([a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30], ">i4").tobytes()
    path.write_bytes(content)
    assert Reader().read(scan(path), 2).image == lying.transpose(TURNS[matrix])


@pytest.mark.parametrize("pixels", ["yuv420p", "yuvj420p", "gray"])
def test_black_and_white_stay_black_and_white(tmp_path: Path, pixels: str) -> None:
    """Video uses the levels 16 to 235 of 8 bits, or all of them."""
    shown = [np.full((48, 64, 3), value, np.uint8) for value in (0, 255)]
    clip = scan(
        write(
            tmp_path / "a.mkv",
            "ffv1" if pixels == "gray" else "libx264",
            frames=shown,
            encoding=Encoding(pixels=pixels),
        )
    )
    for number, value in enumerate((0, 255)):
        found = np.asarray(Reader().read(clip, number).image).astype(int)
        assert np.abs(found - value).max() <= 3


def test_frames_that_are_tiny_are_refused(tmp_path: Path) -> None:
    clip = scan(write(tmp_path / "a.mp4", frames=[np.zeros((4, 4, 3), np.uint8)] * 3))
    with pytest.raises(ImageError, match=r"frame 1 of .*a\.mp4 has 4x4 pixels, expected at least 8 a side"):
        Reader().read(clip, 1)


@pytest.mark.parametrize("kind", ["h264.mp4", "h264-uneven-late.mkv", "mpeg4.avi"])
def test_of_a_damaged_video_the_same_frames_are_missing_in_any_order(tmp_path: Path, kind: str) -> None:
    path = KINDS[kind](tmp_path / kind)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 300] = bytes(300)
    path.write_bytes(content)
    clip = scan(path)

    def there(reader: Reader, number: int) -> bool:
        try:
            return reader.read(clip, number).image.size == SIZE
        except ImageError:
            return False

    reader = Reader()
    found = [there(reader, number) for number in range(clip.count)]
    assert COUNT // 4 < sum(found) < clip.count
    with pytest.raises(
        ImageError, match=rf"frame {found.index(False)} of .* cannot be decoded; expected a whole video"
    ):
        reader.read(clip, found.index(False))
    again = Reader()
    assert [there(again, number) for number in range(clip.count - 1, -1, -1)] == found[::-1]


def test_what_is_missing_is_not_looked_for_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise half a video of zeros would be decoded again and again."""
    path = KINDS["h264.mp4"](tmp_path / "a.mp4")
    content = bytearray(path.read_bytes())
    start, stop = content.index(b"mdat"), content.index(b"moov")
    middle = (start + stop) // 2
    content[middle : stop - 4] = bytes(stop - 4 - middle)
    path.write_bytes(content)
    clip, reader, opened = scan(path), Reader(), 0
    plain = frames._open

    def counted(path: Path) -> object:
        nonlocal opened
        opened += 1
        return plain(path)

    monkeypatch.setattr(frames, "_open", counted)
    missing = 0
    for number in range(clip.count):
        try:
            reader.read(clip, number)
        except ImageError:
            missing += 1
    assert clip.count == COUNT
    assert missing > 10
    assert opened == 1
