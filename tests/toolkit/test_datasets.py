"""Data sets as users have them, from folders and from the sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from padim_edge import datasets, sample
from padim_edge_artifact import ImageError, PadimEdgeError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data sét")
    for name in sample.CLASSES:
        sample.write(sample.images(name, size=48, train=3, test_good=2, per_defect=1), folder)
    return folder


def test_a_root_and_a_class_folder_are_the_same_data_set(root: Path) -> None:
    by_root, by_folder = datasets.from_folder(root, "bottle"), datasets.from_folder(root / "bottle", None)
    assert by_root.class_name == by_folder.class_name == "bottle"
    assert [item.name for item in by_root.good] == [item.name for item in by_folder.good]
    assert len(by_root.good) == 3
    assert len(by_root.test) == 2 + len(sample.DEFECTS["bottle"])


def test_masks_belong_to_their_images(root: Path) -> None:
    for item in datasets.from_folder(root, "weave").test:
        if item.kind == datasets.GOOD:
            assert item.mask is None
        else:
            assert item.mask is not None
            _, expected = sample.draw_defect("weave", item.kind, 0, size=48)
            np.testing.assert_array_equal(item.mask(), expected)


def test_a_plain_folder_holds_good_images_whatever_their_ending(tmp_path: Path) -> None:
    for name in ("a.PNG", "b.jpg", "c.Tif", ".hidden.png", "notes.txt"):
        if name.endswith("txt"):
            (tmp_path / name).write_text("no image")
        else:
            Image.new("RGB", (32, 32)).save(tmp_path / name)
    (tmp_path / "bad").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "bad" / "d.png")
    dataset = datasets.from_folder(tmp_path, "part")
    assert [Path(item.name).name for item in dataset.good] == ["a.PNG", "b.jpg", "c.Tif"]
    assert dataset.test == ()
    assert datasets.from_folder(tmp_path, None).class_name == tmp_path.name


def test_the_sample_is_a_data_set(tmp_path: Path) -> None:
    drawn = datasets.from_sample("bottle")
    sample.write(sample.images("bottle", train=2), tmp_path)
    written = datasets.from_folder(tmp_path, "bottle")
    assert [item.kind for item in drawn.test if item.kind != "good"] == [
        i.kind for i in written.test if i.kind != "good"
    ]
    by_name = {Path(item.name).parts[-3:]: item for item in (*written.good, *written.test)}
    for item in (*drawn.good[:2], *drawn.test[::9]):
        same = by_name[Path(item.name).parts[-3:]]
        np.testing.assert_array_equal(np.asarray(item.read().image), np.asarray(same.read().image))
        assert (item.mask is None) == (same.mask is None)


@pytest.mark.parametrize(
    ("where", "class_name", "sentence"),
    [
        ("nothing", "bottle", "there is no folder"),
        ("", "botle", "has no class 'botle'; choose one of them with --class: bottle, weave"),
        ("", None, "holds several classes; choose one of them with --class: bottle, weave"),
        ("bottle/ground_truth", "bottle", "holds no images"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(root: Path, where: str, class_name: str | None, sentence: str) -> None:
    with pytest.raises(PadimEdgeError, match=sentence):
        datasets.from_folder(root / where, class_name)


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    (tmp_path / "part" / "train" / "good").mkdir(parents=True)
    with pytest.raises(PadimEdgeError, match="holds no images in train/good"):
        datasets.from_folder(tmp_path, "part")


def test_a_damaged_mask_is_named(tmp_path: Path) -> None:
    (folder := tmp_path / "part" / "train" / "good").mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(folder / "0.png")
    for kind in ("test", "ground_truth"):
        (tmp_path / "part" / kind / "crack").mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(tmp_path / "part" / "test" / "crack" / "0.png")
    (tmp_path / "part" / "ground_truth" / "crack" / "0_mask.png").write_bytes(b"no mask")
    (item,) = datasets.from_folder(tmp_path, "part").test
    assert item.mask is not None
    with pytest.raises(ImageError, match=r"the mask .* is not an image"):
        item.mask()
