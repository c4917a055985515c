"""Data sets of videos: which are found, what a user is told about damaged ones, and a model made from one."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import run
from PIL import Image
from videos import SIZE, Encoding, av, image, number_of, write

from padim_edge import datasets
from padim_edge.datasets import thinning
from padim_edge_artifact import ImageError, PadimEdgeError, read_verified

FIRST = {"movflags": "+faststart"}
"""Option that puts the index of an MP4 before its frames, so that it survives when the end is missing."""


def numbers(items: tuple[datasets.Item, ...]) -> list[int]:
    return [number_of(np.asarray(item.read().image)) for item in items]


def shorten(path: Path, share: float) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def test_all_frames_of_a_video_are_good_images(tmp_path: Path) -> None:
    path = write(tmp_path / "belt: 50% ü.MP4", count=12)  # FFmpeg would take the colon for a protocol
    dataset = datasets.from_folder(path, None)
    assert datasets.class_names(path) == (dataset.class_name,) == ("belt: 50% ü",)
    assert datasets.from_folder(path, "belt").class_name == "belt"
    assert (dataset.test, dataset.notes) == ((), ())
    assert numbers(dataset.good) == list(range(12))
    assert {(item.kind, item.mask) for item in dataset.good} == {(datasets.GOOD, None)}
    assert dataset.good[7].name == f"frame 7 of {path}"
    assert dataset.good[7].key == "belt: 50% ü.MP4/7"


def test_videos_in_a_folder_are_one_class_and_images_come_first(tmp_path: Path) -> None:
    folder = tmp_path / "scene"
    folder.mkdir()
    write(folder / "b.mkv", count=4)
    write(folder / "a.avi", count=3)
    (folder / ".hidden.mp4").write_bytes(b"")
    dataset = datasets.from_folder(folder, None)
    assert datasets.class_names(folder) == (dataset.class_name,) == ("scene",)
    assert [item.key for item in dataset.good] == ["a.avi/0", "a.avi/1", "a.avi/2", *(f"b.mkv/{n}" for n in range(4))]
    assert numbers(dataset.good) == [0, 1, 2, 0, 1, 2, 3]
    Image.fromarray(image(1)).save(folder / "preview.png")
    assert [item.key for item in datasets.from_folder(folder, None).good] == ["preview.png"]


def test_the_training_videos_of_shanghaitech_need_not_be_extracted(tmp_path: Path) -> None:
    videos, clip = tmp_path / "training/videos", tmp_path / "testing/frames/01_0014"
    for folder in (videos, clip, tmp_path / "testing/test_frame_mask"):
        folder.mkdir(parents=True)
    write(videos / "01_001.avi", count=3)
    write(videos / "01_002.avi", count=2)
    for number in range(2):
        Image.fromarray(image(number)).save(clip / f"{number:03}.png")
    np.save(tmp_path / "testing/test_frame_mask/01_0014.npy", np.array([0, 1], np.int8))
    dataset = datasets.from_folder(tmp_path, "campus")
    assert [item.key for item in dataset.good][2:4] == ["training/videos/01_001.avi/2", "training/videos/01_002.avi/0"]
    assert numbers(dataset.good) == [0, 1, 2, 0, 1]
    assert [item.kind for item in dataset.test] == ["good", "anomaly"]
    extracted = tmp_path / "training/frames/01_001"
    extracted.mkdir(parents=True)
    Image.fromarray(image(5)).save(extracted / "000.png")
    assert numbers(datasets.from_folder(tmp_path, "campus").good) == [5]


@pytest.mark.parametrize(
    ("name", "codec", "container", "said"),
    [
        ("a.mp4", "mpeg4", FIRST, r"breaks off, so only \d+ of its 40 frames are used"),
        ("a.mov", "libx264", FIRST, r"breaks off, so only \d+ of its 40 frames are used"),
        ("a.mkv", "libx264", {}, r"breaks off, so only the first \d\.\d of its 1\.6 seconds are used"),
        ("a.webm", "libvpx-vp9", {}, r"breaks off, so only the first \d\.\d of its 1\.6 seconds are used"),
    ],
)
def test_a_video_that_breaks_off_gives_what_is_there_and_a_note(
    tmp_path: Path, name: str, codec: str, container: dict[str, str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / name, codec, 40, encoding=Encoding(container=container))
    assert datasets.from_folder(path, None).notes == ()
    dataset = datasets.from_folder(shorten(path, 0.7), None)
    found = numbers(dataset.good)
    assert 5 < len(found) < 40
    assert found[:5] == [0, 1, 2, 3, 4]
    assert found == sorted(set(found))  # with gaps at the end, since a B-frame is stored behind a later frame
    (note,) = dataset.notes
    assert re.search(said, note)
    assert capfd.readouterr() == ("", "")  # FFmpeg prints nothing either


def test_videos_are_thinned_by_time_and_say_so(tmp_path: Path) -> None:
    """By default 3 frames a second, of videos of 25 Hz every 8th, as long as 30 frames are left."""
    path = write(tmp_path / "a.mp4", count=100)
    found = datasets.from_folder(path, None)
    assert numbers(found.good) == list(range(0, 100, 3))  # every 8th would leave 13
    assert found.notes[0].startswith("a.mp4: 100 frames, every 3rd taken: 34; --every 1 takes all")
    for every in (1, 8, 500):
        found = datasets.from_folder(path, None, every=every)
        assert numbers(found.good) == list(range(0, 100, every))
    assert found.notes == ("a.mp4: 100 frames, every 500th taken: 1; --every 1 takes all (every=1 in Python)",)
    assert datasets.from_source(path, every=1).notes == ()
    with pytest.raises(PadimEdgeError, match="every is 0, expected 1 or more"):
        datasets.from_folder(path, None, every=0)
    write(tmp_path / "b.mkv", count=125)
    found = datasets.from_folder(tmp_path, None)
    assert found.notes[0].startswith("2 videos: 225 frames, every 7th taken: 33;")


@pytest.mark.parametrize(
    ("every", "rate", "total", "step"),
    [
        (None, 30.0, 300, 10),
        (None, 30.0, 3000, 10),
        (None, 30.0, 59, 1),
        (None, 1.0, 3000, 1),
        (None, 200.0, 60000, 67),
        (None, None, 3000, 10),
        (4, 30.0, 10, 4),
    ],
)
def test_the_step_follows_the_time_and_leaves_enough(
    every: int | None, rate: float | None, total: int, step: int
) -> None:
    assert thinning.step(every, rate, total) == step


def test_extracted_frames_are_thinned_like_videos(tmp_path: Path) -> None:
    for clip, count in (("01", 70), ("02", 50)):
        (tmp_path / f"training/frames/{clip}").mkdir(parents=True)
        for number in range(count):
            Image.fromarray(image(number)).save(tmp_path / f"training/frames/{clip}/{number}.png")
    found = datasets.from_folder(tmp_path, None)
    assert [item.key for item in found.good][:4] == [f"training/frames/01/{number}.png" for number in (0, 4, 8, 12)]
    assert found.notes[0].startswith("2 videos: 120 frames, every 4th taken: 31;")
    assert len(datasets.from_folder(tmp_path, None, every=1).good) == 120
    for group in ("video", "folder"):
        grouped = datasets.from_folder(tmp_path, None, group=group)
        assert {item.group for item in grouped.good} == {"training/frames/01", "training/frames/02"}


def test_the_frames_of_a_video_are_a_group_when_asked(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mkv"):
        write(tmp_path / name, count=3)
    assert [item.group for item in datasets.from_folder(tmp_path, None, group="video").good] == ["a.mp4"] * 3 + [
        "b.mkv"
    ] * 3
    with pytest.raises(PadimEdgeError, match=r"--group video puts all 3 good images into one group, 'a\.mp4'"):
        datasets.from_folder(tmp_path / "a.mp4", None, group="video")


def test_videos_of_another_shape_are_named(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        write(tmp_path / name, count=3)
    write(tmp_path / "c.mp4", frames=[np.zeros((48, 128, 3), np.uint8)] * 3)
    (note,) = datasets.from_folder(tmp_path, None).notes
    assert "1 of 3 good images have another shape" not in note
    assert "1 of 3 videos" in note
    assert "c.mp4 (128x48)" in note


def test_videos_beside_images_are_named(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", count=3)
    Image.fromarray(image(1)).save(tmp_path / "0.png")
    (note,) = datasets.from_folder(tmp_path, None).notes
    assert "passed over: 1 file (.mp4)" in note


def sound(path: Path) -> None:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 16000
        output.mux(stream.encode(frame))
        output.mux(stream.encode())


def image_file(path: Path) -> None:
    Image.fromarray(image(0)).save(path, "PNG")


NO_VIDEOS = {
    "empty": (lambda path: path.write_bytes(b""), r"is empty \(0 bytes\); expected a whole \.avi, \.mkv"),
    "text": (lambda path: path.write_text("no video\n" * 99), r"cannot be opened as a video \(Invalid data"),
    "without its end": (lambda path: shorten(write(path), 0.5), "cannot be opened as a video"),
    "without frames": (
        lambda path: shorten(write(path, "libx264", encoding=Encoding(container=FIRST)), 0.1),
        "no frame that can be decod",
    ),
    "image": (image_file, "is no video of a known kind; expected a whole"),
    "playlist": (
        lambda path: path.write_text("#EXTM3U\n#EXTINF:9,\nother.mp4\n#EXT-X-ENDLIST\n"),
        "cannot be opened|no video",
    ),
    "sound": (sound, "holds no images; expected a video"),
}


@pytest.mark.parametrize("make", NO_VIDEOS)
def test_what_is_no_video_gets_one_sentence(tmp_path: Path, make: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.mp4"
    NO_VIDEOS[make][0](path)
    with pytest.raises(ImageError, match=rf"{path} .*({NO_VIDEOS[make][1]})") as caught:
        datasets.from_folder(path, None)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_video_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    write(tmp_path / "b.mp4", count=3)
    (tmp_path / "a.mp4").write_bytes(b"no video")
    (tmp_path / "c.mp4").symlink_to(tmp_path / "nowhere.mp4")
    dataset = datasets.from_folder(tmp_path, None)
    assert numbers(dataset.good) == [0, 1, 2]
    assert [note[: note.index(";")] for note in dataset.notes] == [
        f"left out: {tmp_path / 'a.mp4'} cannot be opened as a video (Invalid data found when processing input)",
        f"left out: {tmp_path / 'c.mp4'} does not exist",
    ]
    (tmp_path / "b.mp4").unlink()
    with pytest.raises(PadimEdgeError, match=r"a\.mp4 cannot be opened"):
        datasets.from_folder(tmp_path, None)


def test_a_video_that_vanishes_is_an_error_of_its_frames(tmp_path: Path) -> None:
    dataset = datasets.from_folder(write(tmp_path / "a.mp4"), None)
    (tmp_path / "a.mp4").unlink()
    with pytest.raises(ImageError, match=r"a\.mp4 does not exist"):
        dataset.good[3].read()


def test_without_pyav_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.mp4", count=3)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(PadimEdgeError, match=r'takes PyAV.*pip install "padim-edge\[video\]"'):
        datasets.from_folder(path, None)


def test_pyav_is_imported_for_videos_only(tmp_path: Path) -> None:
    for number in range(2):
        Image.fromarray(image(number)).save(tmp_path / f"{number}.png")
    code = (
        "import sys, pathlib; from padim_edge_runtime.cli import app; from padim_edge import datasets; "
        "datasets.from_folder(pathlib.Path(sys.argv[1]), None).good[0].read(); print('av' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_model_is_made_of_what_is_there_of_a_video(tmp_path: Path) -> None:
    path = shorten(write(tmp_path / "belt.mp4", "libx264", 40, encoding=Encoding(container=FIRST)), 0.8)
    there = 0
    for item in datasets.from_folder(path, None).good:
        with contextlib.suppress(ImageError):
            there += item.read().image.size == SIZE
    options = ("--backbone", "builtin", "--size", 64, "--dims", 10, "--json", "--output", tmp_path / "belt.onnx")
    stdout, stderr = run("export", "--data", path, *options)
    assert 20 < json.loads(stdout)["images"] == there < 40
    assert "belt.mp4 breaks off, so only" in stderr
    assert read_verified(tmp_path / "belt.onnx").class_name == "belt"
    path.write_bytes(b"no video")
    _, stderr = run("export", "--data", path, *options, code=1)
    assert "belt.mp4 cannot be opened as a video" in stderr
