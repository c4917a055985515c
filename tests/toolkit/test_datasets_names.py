"""Names of folders and labels mean the same everywhere, and what is not used is named."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from commands import run
from PIL import Image
from rights import closed, enterable

from padim_edge import datasets
from padim_edge.datasets.labels import is_defective, is_good, is_of_time_or_place
from padim_edge_artifact import ImageError, PadimEdgeError

GOOD = ["good", "Good", "GOOD", "OK", "ok_2", "normal", "Normal", "normal images", "good parts", "defect-free", "i.O."]
DEFECTIVE = ["NG", "ng", "n.i.O.", "bad", "Defect", "defective", "KO", "not_good", "No Good", "Anomaly"]
NEITHER = ["scratch", "broken_large", "goodyear", "line", "B", "good_scratch", "bottle", ""]


def draw(path: Path, value: int = 90, size: tuple[int, int] = (12, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)
    return path


def keys(items: tuple[datasets.Item, ...]) -> list[str]:
    return [item.key for item in items]


@pytest.mark.parametrize(("names", "good", "bad"), [(GOOD, True, False), (DEFECTIVE, False, True), (NEITHER, 0, 0)])
def test_usual_names_are_known_in_any_case(names: list[str], good: bool, bad: bool) -> None:
    assert [(is_good(name), is_defective(name)) for name in names] == [(good, bad)] * len(names)


@pytest.mark.parametrize(
    ("names", "known"),
    [
        (
            ["monday", "Tue", "2026-11-28", "20261128T1200", "night 2", "camera 2", "cam1", "shift_a", "line 3", "007"],
            True,
        ),
        (["scratch", "line", "cam", "front scratch", "monday_defects", "A", "crack 2", ""], False),
    ],
)
def test_names_of_times_and_places_are_known(names: list[str], known: bool) -> None:
    assert [is_of_time_or_place(name) for name in names] == [known] * len(names)


@pytest.mark.parametrize("name", ["Good", "GOOD", "OK", "normal", "defect-free"])
def test_a_name_of_good_images_means_the_same_in_every_place(tmp_path: Path, name: str) -> None:
    """In the folder to fit on, in the test, in VisA's folders, beside others in a plain folder, and in a table."""
    part = tmp_path / "part"
    draw(part / "Train" / name / "0.png")
    draw(part / "TEST" / name / "1.png")
    draw(part / "TEST" / "NG" / "2.png")
    found = datasets.from_folder(part, None)
    assert keys(found.good) == [f"Train/{name}/0.png"]
    assert {item.key: item.kind for item in found.test} == {f"TEST/{name}/1.png": "good", "TEST/NG/2.png": "NG"}
    assert found.notes == ()

    for number in range(5):
        draw(tmp_path / "visa/Data/Images" / name / f"{number}.png")
    draw(tmp_path / "visa/Data/Images/NG/0.png")
    assert [item.kind for item in datasets.from_folder(tmp_path / "visa", None).test] == ["good", "anomaly"]

    draw(tmp_path / "plain" / name / "0.png")
    draw(tmp_path / "plain/NG/1.png")
    assert keys(datasets.from_folder(tmp_path / "plain", None).good) == [f"{name}/0.png"]

    table = tmp_path / "list.csv"
    table.write_text(f"path,label\nplain/{name}/0.png,{name}\nplain/NG/1.png,NG\n")
    found = datasets.from_folder(table, None)
    assert (len(found.good), [item.kind for item in found.test]) == (1, ["NG"])


def test_good_images_lie_in_sub_folders_too(tmp_path: Path) -> None:
    """Folders of any depth and name, in natural order."""
    names = ["0.png", "day 2/1.png", "day 10/1.png", "Müller/x/y/z.png"]
    for name in names:
        draw(tmp_path / "a/train/good" / name)
        draw(tmp_path / "a/test/crack" / name)
        draw(tmp_path / "a/ground_truth/crack" / Path(name).with_name(f"{Path(name).stem}_mask.png"), 255)
    found = datasets.from_folder(tmp_path / "a", None)
    assert sorted(keys(found.good)) == sorted(f"train/good/{name}" for name in names)
    assert [key for key in keys(found.good) if "day" in key] == [f"train/good/{name}" for name in names[1:3]]
    assert all(item.mask is not None for item in found.test)
    assert len(found.test) == 4
    assert found.notes == ()
    draw(tmp_path / "b/train/ok/monday/0.png")
    assert keys(datasets.from_folder(tmp_path / "b", None).good) == ["train/ok/monday/0.png"]
    assert len(datasets.from_folder(tmp_path / "a/train/good", None).good) == 4, "a folder that is called good"


def test_a_folder_that_says_the_opposite_is_left_out_and_named(tmp_path: Path) -> None:
    draw(tmp_path / "train/good/0.png")
    draw(tmp_path / "train/good/NG/1.png")
    draw(tmp_path / "test/crack/good/2.png")
    found = datasets.from_folder(tmp_path, None)
    assert (keys(found.good), found.test) == (["train/good/0.png"], ())
    assert "left out: 1 image in NG (1), whose names say defective" in found.notes[0]
    assert "left out: 1 image in good (1), whose names say good" in found.notes[1]


def test_a_plain_folder_takes_sub_folders_by_their_names_and_says_which(tmp_path: Path) -> None:
    for name in (
        "0.png",
        "monday/1.png",
        "2026-11-28/cam 2/2.png",
        "scratch/3.png",
        "monday/scratch/4.png",
        "NG/5.png",
    ):
        draw(tmp_path / name)
    found = datasets.from_folder(tmp_path, None)
    assert keys(found.good) == ["0.png", "2026-11-28/cam 2/2.png", "monday/1.png"]
    taken, left = found.notes
    assert "2 images in 2026-11-28/cam 2 (1), monday (1)" in taken
    assert "not taken: 3 images in NG (1), monday/scratch (1), scratch (1), which may hold defects" in left
    draw(tmp_path / "good/6.png")  # now a name says it, so times and places are no longer taken for it
    assert keys(datasets.from_folder(tmp_path, None).good) == ["0.png", "good/6.png"]


@pytest.mark.parametrize("names", [("scratch", "crack"), ("0", "1"), ("bottle", "screw")])
def test_a_folder_of_folders_that_say_nothing_is_refused_with_their_names(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    for name in names:
        draw(tmp_path / name / "0.png")
    with pytest.raises(PadimEdgeError, match=rf"not taken: 2 images in .*{names[0]} \(1\).*folder named good"):
        datasets.from_folder(tmp_path, None)


def test_images_in_places_that_a_layout_has_not_are_named(tmp_path: Path) -> None:
    for name in ("train/good/0.png", "train/1.png", "train/bent/2.png", "test/3.png", "validation/good/4.png", "p.png"):
        draw(tmp_path / name)
    (note,) = datasets.from_folder(tmp_path, None).notes
    assert note.startswith("not used: 5 images in ")
    for place in ("train (1)", "train/bent (1)", "test (1)", "validation (1)", ". (1)"):
        assert place in note


def test_test_folders_named_by_time_are_doubted(tmp_path: Path) -> None:
    draw(tmp_path / "train/good/0.png")
    draw(tmp_path / "test/monday/0.png")
    found = datasets.from_folder(tmp_path, None)
    assert [item.kind for item in found.test] == ["monday"]
    assert "test/monday counts as defective" in found.notes[0]


def test_files_that_may_hold_images_are_named_and_texts_are_not(tmp_path: Path) -> None:
    draw(tmp_path / "0.png")
    (tmp_path / "1.raw").write_bytes(b"\0\xff" * 50)
    (tmp_path / "notes.txt").write_text("no image")
    (note,) = datasets.from_folder(tmp_path, None).notes
    assert "passed over: 1 file (.raw)" in note
    draw(tmp_path / "part/train/good/0.png")
    (tmp_path / "part/train/good/1.heic").write_bytes(b"\0\xff" * 50)
    assert "passed over: 1 file (.heic)" in datasets.from_folder(tmp_path / "part", None).notes[0]


def test_linked_folders_are_read_and_circles_are_named(tmp_path: Path) -> None:
    draw(tmp_path / "store/1.png")
    draw(tmp_path / "part/train/good/0.png")
    draw(tmp_path / "part/test/crack/2.png")
    good = tmp_path / "part/train/good"
    (good / "friday").symlink_to(tmp_path / "store", target_is_directory=True)
    (good / "up").symlink_to(tmp_path / "part", target_is_directory=True)
    found = datasets.from_folder(tmp_path / "part", None)
    assert keys(found.good) == ["train/good/0.png", "train/good/friday/1.png"]
    (note,) = found.notes
    assert note.startswith("a link leads back to folders that were searched already or hold this one, first ")


@pytest.mark.parametrize("place", ["train/good/gone", "gone"])
def test_a_folder_that_cannot_be_opened_stops_the_fit(tmp_path: Path, place: str) -> None:
    """A part of the evidence would be missing. A link to nowhere stands for a share that is not mounted."""
    draw(tmp_path / ("train/good/0.png" if "train" in place else "0.png"))
    (tmp_path / place).symlink_to(tmp_path / "nowhere", target_is_directory=True)
    with pytest.raises(PadimEdgeError, match=r"gone cannot be opened \(No such file or directory\)"):
        datasets.from_folder(tmp_path, None)


@pytest.mark.parametrize("place", ["part", "part/train", "part/train/good", "part/train/good/monday"])
def test_a_folder_without_rights_stops_the_fit(tmp_path: Path, place: str) -> None:
    draw(tmp_path / "part/train/good/0.png")
    draw(tmp_path / "part/train/good/monday/1.png")
    datasets.from_folder(enterable(tmp_path) / "part", None)  # loads what nobody may not load
    with closed(tmp_path / place), pytest.raises(PadimEdgeError, match=r"cannot be opened \(Permission denied\)"):
        datasets.from_folder(tmp_path / "part", None)


@pytest.mark.parametrize("mark", ["_mask.png", "_MASK.PNG", "_gt.png", ".bm.png", ".png", "_Gt.bmp"])
@pytest.mark.parametrize("place", ["ground_truth/chip", "Ground_Truth/CHIP", "ground_truth"])
def test_masks_are_found_by_usual_names(tmp_path: Path, mark: str, place: str) -> None:
    draw(tmp_path / "train/good/0.png")
    draw(tmp_path / "test/good/7.png")
    draw(tmp_path / "test/chip/7.png")
    draw(tmp_path / place / f"7{mark}", 255)
    found = datasets.from_folder(tmp_path, None)
    assert [item.mask is not None for item in found.test] == [True, False]
    assert found.notes == ()


def test_a_mask_that_could_belong_to_two_images_belongs_to_none(tmp_path: Path) -> None:
    draw(tmp_path / "train/good/0.png")
    for kind in ("chip", "crack"):
        draw(tmp_path / f"test/{kind}/7.png")
    draw(tmp_path / "ground_truth/7_mask.png", 255)
    found = datasets.from_folder(tmp_path, None)
    assert [item.mask for item in found.test] == [None, None]
    (note,) = found.notes
    assert "1 mask belongs to no image and is not used, first " in note
    assert "ground_truth/7_mask.png" in note
    assert "<image>_mask.png, <image>_gt.png, <image>.bm.png and <image>.png, in ground_truth/<kind of defect>" in note


def test_masks_that_are_not_used_are_counted(tmp_path: Path) -> None:
    draw(tmp_path / "train/good/0.png")
    draw(tmp_path / "test/chip/1.png")
    draw(tmp_path / "ground_truth/chip/1_mask.png", 255)
    for name in ("chip/1_seg.png", "hole/3_mask.png", "1_gt.png"):
        draw(tmp_path / "ground_truth" / name, 255)
    found = datasets.from_folder(tmp_path, None)
    assert found.test[0].mask is not None
    assert "3 masks belong to no image" in found.notes[0]


def test_names_that_differ_in_capitals_keep_their_own_masks(tmp_path: Path) -> None:
    draw(tmp_path / "train/good/0.png")
    for name, value in (("a", 255), ("A", 0)):
        draw(tmp_path / f"test/chip/{name}.png")
        draw(tmp_path / f"ground_truth/chip/{name}_mask.png", value)
    if len(list((tmp_path / "test/chip").iterdir())) == 1:
        pytest.skip("this disk does not tell capitals apart")
    found = {item.key: item.mask for item in datasets.from_folder(tmp_path, None).test}
    for name, value in (("a", True), ("A", False)):
        mask = found[f"test/chip/{name}.png"]
        assert mask is not None
        assert bool(mask().all()) is value


def test_good_images_of_another_shape_are_named(tmp_path: Path) -> None:
    for number in range(8):
        draw(tmp_path / f"{number}.png", size=(32, 32) if number % 2 else (64, 66))
    assert datasets.from_folder(tmp_path, None).notes == (), "larger ones of the same shape are no other shape"
    draw(tmp_path / "8.png", size=(64, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # stands on its side
    Image.new("L", (20, 64)).save(tmp_path / "9.png", exif=exif)
    (tmp_path / "91.png").write_bytes(b"damaged")
    (note,) = datasets.from_folder(tmp_path, None).notes
    assert "2 of 10 good images have another shape than most" in note
    assert "8.png (64x20)" in note
    assert "9.png (64x20)" in note
    (note,) = datasets.from_source([tmp_path / "1.png", tmp_path / "3.png", tmp_path / "8.png"]).notes
    assert "1 of 3 good images" in note


@pytest.mark.parametrize("ending", [".pgm", ".ppm", ".jfif", ".jp2", ".tga", ".gif", ".JPG"])
def test_good_images_of_every_kind_are_found(tmp_path: Path, ending: str) -> None:
    draw(tmp_path / "0.png")
    Image.new("RGB", (12, 10)).save(tmp_path / f"1{ending}")
    for found in (
        datasets.from_folder(tmp_path, None),
        datasets.from_source([tmp_path / "0.png", tmp_path / f"1{ending}"]),
    ):
        assert [item.read().image.size for item in found.good] == [(12, 10)] * 2
        assert found.notes == ()


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_orientation_is_one_sentence_in_a_mask_too(tmp_path: Path) -> None:
    """And looking at the shapes does not stumble over it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    draw(tmp_path / "train/good/0.png")
    draw(tmp_path / "test/chip/0.png")
    (tmp_path / "ground_truth/chip").mkdir(parents=True)
    Image.new("L", (12, 10)).save(tmp_path / "whole.jpg", exif=exif)
    whole = (tmp_path / "whole.jpg").read_bytes()
    start = whole.index(b"Exif")
    for cut in range(start, start + 40):
        damaged = whole[:cut] + b"\xff" * 6 + whole[cut + 6 :]
        (tmp_path / "ground_truth/chip/0.jpg").write_bytes(damaged)
        (tmp_path / "train/good/0.jpg").write_bytes(damaged)
        mask = datasets.from_folder(tmp_path, None).test[0].mask
        assert mask is not None
        with contextlib.suppress(ImageError):
            mask()


class TestGroups:
    """Groups that the user names."""

    def table(self, folder: Path) -> Path:
        for name in ("a/0.png", "a/1.png", "b/0.png"):
            draw(folder / name)
        path = folder / "list.csv"
        path.write_text("path,label,Lot,split\na/0.png,good,L1,train\na/1.png,good,L2,train\nb/0.png,good,L1,test\n")
        return path

    def test_nobody_names_groups_by_default(self, tmp_path: Path) -> None:
        found = datasets.from_folder(self.table(tmp_path), None)
        assert {item.group for item in (*found.good, *found.test)} == {None}

    @pytest.mark.parametrize("column", ["Lot", "lot", " LOT "])
    def test_a_column_names_them(self, tmp_path: Path, column: str) -> None:
        found = datasets.from_folder(self.table(tmp_path), None, group=column)
        assert [item.group for item in (*found.good, *found.test)] == ["L1", "L2", "L1"]

    def test_folders_name_them(self, tmp_path: Path) -> None:
        for name in ("0.png", "monday/1.png", "monday/2.png"):
            draw(tmp_path / "train/good" / name)
        draw(tmp_path / "test/crack/3.png")
        found = datasets.from_source(tmp_path, group="folder")
        assert [item.group for item in found.good] == ["train/good", "train/good/monday", "train/good/monday"]
        assert [item.group for item in found.test] == ["test/crack"]
        paths = [tmp_path / item.key for item in found.good]
        assert [item.group for item in datasets.from_source(paths, group="folder").good] == [".", "monday", "monday"]

    @pytest.mark.parametrize(
        ("group", "sentence"),
        [
            ("video", "--group video needs videos"),
            ("lot", r"--group is 'lot', expected folder, video or a column of a CSV list"),
            ("folder", "puts all 2 good images into one group, '.', expected several"),
        ],
    )
    def test_a_wrong_word_gets_a_sentence(self, tmp_path: Path, group: str, sentence: str) -> None:
        for number in range(2):
            draw(tmp_path / f"{number}.png")
        with pytest.raises(PadimEdgeError, match=sentence):
            datasets.from_source(tmp_path, group=group)

    def test_a_wrong_or_empty_column_gets_a_sentence(self, tmp_path: Path) -> None:
        table = self.table(tmp_path)
        with pytest.raises(PadimEdgeError, match="has no column 'Charge', only path, label, lot, split; choose one"):
            datasets.from_source(table, group="Charge")
        table.write_text("path,label,lot\na/0.png,good,\n")
        with pytest.raises(PadimEdgeError, match=r"line 2 of .* has no lot, expected one"):
            datasets.from_source(table, group="lot")

    @pytest.mark.parametrize("source", [None, datasets.Dataset("a", (), ()), [np.zeros((32, 32), np.uint8)] * 2])
    @pytest.mark.parametrize("wish", [{"every": 2}, {"group": "folder"}])
    def test_a_wish_that_means_nothing_is_refused(self, source: datasets.Source, wish: dict[str, int]) -> None:
        with pytest.raises(PadimEdgeError, match=r"--(every|group)"):
            datasets.from_source(source, "weave", **wish)  # type: ignore[arg-type]

    def test_the_command_line_takes_both(self, tmp_path: Path) -> None:
        for number in range(2):
            draw(tmp_path / f"{number}.png")
        for command in ("export", "fit"):
            _, stderr = run(command, "--data", tmp_path, "--group", "lot", code=1)
            assert "--group is 'lot', expected folder, video or a column of a CSV list" in stderr
            _, stderr = run(command, "--data", tmp_path, "--every", 3, code=1)
            assert "--every 3 thins out videos, and the data are single images" in stderr
