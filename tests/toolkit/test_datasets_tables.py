"""Data sets listed in a CSV file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from padim_edge import datasets
from padim_edge_artifact import PadimEdgeError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (folder := tmp_path / "my pärts" / "sub dir").mkdir(parents=True)
    for name in ("a.png", "b.png", "ç d.PNG", "bad.png"):
        Image.new("RGB", (12, 10)).save(folder / name)
    mask = np.zeros((10, 12), np.uint8)
    mask[2, 3] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    return folder.parent


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "list.csv"
    path.write_text(text, encoding=encoding)
    return path


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_without_a_split_the_good_are_for_fitting_and_the_others_for_the_test(
    folder: Path, separator: str, encoding: str, newline: str
) -> None:
    lines = ["path,label,mask", "sub dir/a.png,good,", "sub dir/b.png,OK,", "sub dir/ç d.PNG,0,", ""]
    lines += ["sub dir/bad.png,scratch,sub dir/mask.png"]
    table = write(folder, newline.join(lines).replace(",", separator), encoding)
    dataset = datasets.from_folder(table, None)
    assert dataset.class_name == "list"
    assert datasets.class_names(table) == ("list",)
    assert datasets.from_folder(table, "screw").class_name == "screw"
    assert [item.key for item in dataset.good] == ["sub dir/a.png", "sub dir/b.png", "sub dir/ç d.PNG"]
    assert dataset.good[2].read().image.size == (12, 10)
    (bad,) = dataset.test
    assert bad.kind == "scratch"
    assert bad.mask is not None
    assert np.argwhere(bad.mask()).tolist() == [[2, 3]]
    assert "no column split" in dataset.notes[0]


def test_classes_and_splits(folder: Path) -> None:
    table = write(
        folder,
        "Split,Class,Path,Label,remark\n"
        'train,screw,sub dir/a.png,good,"not, read"\n'
        "TEST,screw,sub dir\\b.png,normal,from Windows\n"
        f"test,screw,{folder / 'sub dir' / 'bad.png'},1,absolute\n"
        "test,nut,sub dir/ç d.PNG,good,\n",
    )
    assert datasets.class_names(table) == ("nut", "screw")
    screw = datasets.from_folder(table, "screw")
    assert [Path(item.name).name for item in screw.good] == ["a.png"]
    assert [(item.kind, item.mask) for item in screw.test] == [("good", None), ("1", None)]
    assert screw.test[0].key == "sub dir/b.png"
    assert screw.notes == ()
    nut = datasets.from_folder(table, "nut")  # only test images, which is enough to evaluate
    assert (len(nut.good), len(nut.test)) == (0, 1)
    with pytest.raises(PadimEdgeError, match="holds several classes; choose one of them with --class: nut, screw"):
        datasets.from_folder(table, None)
    with pytest.raises(PadimEdgeError, match="has no class 'bolt'"):
        datasets.from_folder(table, "bolt")


def test_a_good_image_whose_mask_has_defects_stays_good_and_is_noted(folder: Path) -> None:
    table = write(folder, "path,label,mask,split\nsub dir/a.png,good,sub dir/mask.png,train\n")
    dataset = datasets.from_folder(table, None)
    assert dataset.good[0].mask is None
    assert "1 good image has a mask with defects" in dataset.notes[0]


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("", "line 1 of .* has the columns none, expected path, label and mask.*no path and no label"),
        ("path,kind\n", "line 1 of .* has the columns path, kind, .*no label"),
        ("path,label,mask\n", "lists no images"),
        ("path,label,mask\n\nsub dir/a.png,good,\nsub dir/x.png,good,\n", "line 4 of .* names sub dir/x.png, which"),
        ("path,label,mask\nsub dir/bad.png,hole,m.png\n", "line 2 of .* names m.png, which does not exist"),
        ("path,label,mask\nsub dir/a.png,good\n", "line 2 of .* has 2 fields, expected 3"),
        ("path,label,mask\nsub dir/a.png,,\n", "line 2 of .* has no label"),
        ("path,label,mask\n,good,\n", "line 2 of .* has no path"),
        ("path,label,class\nsub dir/a.png,good,\n", "line 2 of .* has no class"),
        ("path,label,split\nsub dir/a.png,good,val\n", "line 2 of .* has the split 'val', expected train or test"),
        ("path,label,split\nsub dir/a.png,good,\n", "line 2 of .* has the split ''"),
        ("path,label,split\nsub dir/bad.png,hole,train\n", "line 2 of .* has split train and label 'hole'"),
        ("path,label\nsub dir/a.png,good\nsub dir/a.png,hole\n", "line 3 of .* as line 2 of .*; expected each image"),
        ('path,label\n"sub dir/a.png"x,good\n', "line 2 of .* is no CSV"),
        ('path,label\n"sub dir/a.png,good\n', "line 2 of .* is no CSV"),
    ],
)
def test_the_line_that_is_wrong_is_named(folder: Path, lines: str, sentence: str) -> None:
    with pytest.raises(PadimEdgeError, match=sentence) as caught:
        datasets.from_folder(write(folder, lines), None)
    assert "\n" not in str(caught.value)


def test_another_encoding_is_named(folder: Path) -> None:
    with pytest.raises(PadimEdgeError, match="is not in UTF-8"):
        datasets.from_folder(write(folder, "path,label\nç d.PNG,good\n", "latin-1"), None)
