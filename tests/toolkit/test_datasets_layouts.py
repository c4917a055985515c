"""Every layout is recognised by its signs, and its images, labels and masks are found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from padim_edge import datasets
from padim_edge.datasets.layouts import LAYOUTS
from padim_edge.datasets.masks import read_mask
from padim_edge_artifact import ImageError, PadimEdgeError


def draw(path: Path, value: int = 90, size: tuple[int, int] = (12, 10)) -> Path:
    """Save an image of `(width, height)` pixels in one grey; make its folder if it does not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)
    return path


def mask(path: Path, value: int = 255) -> Path:
    """Save a mask with one defective pixel, in column 3 of row 2."""
    draw(path, 0)
    with Image.open(path) as image:
        image.putpixel((3, 2), value)
        image.save(path)
    return path


def mvtec(folder: Path) -> None:
    for number in range(2):
        draw(folder / f"train/good/{number:03}.png")
    draw(folder / "test/good/000.png")
    draw(folder / "test/crack/000.png")
    mask(folder / "ground_truth/crack/000_mask.png")


def btad(folder: Path) -> None:
    for number in range(2):
        draw(folder / f"train/ok/{number:04}.bmp")
    draw(folder / "test/ok/0000.bmp")
    draw(folder / "test/ko/0000.bmp")
    mask(folder / "ground_truth/ko/0000.png")


def visa(folder: Path, good: int = 12) -> None:
    for number in range(good):
        draw(folder / f"Data/Images/Normal/{number:04}.JPG")
    draw(folder / "Data/Images/Anomaly/000.JPG")
    mask(folder / "Data/Masks/Anomaly/000.png", 3)


def video(folder: Path) -> None:
    for number in range(3):
        draw(folder / f"training/frames/01_001/{number:03}.jpg")


def plain(folder: Path) -> None:
    draw(folder / "a.png")
    draw(folder / "b.png")


WITH_CLASSES = {"MVTec AD": mvtec, "BTAD": btad, "VisA": visa}
MAKERS = {**WITH_CLASSES, "video": video, "plain": plain}


def kinds(dataset: datasets.Dataset) -> list[str]:
    return sorted(item.kind for item in dataset.test)


@pytest.mark.parametrize("make", WITH_CLASSES.values(), ids=WITH_CLASSES)
def test_a_root_and_a_class_folder_are_the_same_data_set(tmp_path: Path, make: Callable[[Path], None]) -> None:
    for name in ("02", "01 größe"):
        make(tmp_path / name)
    draw(tmp_path / "preview.png")  # lies beside the classes and is no class
    (tmp_path / ".hidden" / "train" / "good").mkdir(parents=True)
    assert datasets.class_names(tmp_path) == ("01 größe", "02")
    assert datasets.class_names(tmp_path / "02") == ("02",)
    whole, own = datasets.from_folder(tmp_path, "01 größe"), datasets.from_folder(tmp_path / "01 größe", None)
    assert whole.class_name == own.class_name == "01 größe"
    assert [item.name for item in whole.good + whole.test] == [item.name for item in own.good + own.test]
    assert [item.key for item in whole.good + whole.test] == [item.key for item in own.good + own.test]
    assert datasets.from_folder(tmp_path / "02", "part").class_name == "part"
    for wrong, sentence in ((None, "holds several classes"), ("03", "has no class '03'")):
        with pytest.raises(PadimEdgeError, match=f"{sentence}; choose one of them with --class: 01 größe, 02"):
            datasets.from_folder(tmp_path, wrong)


@pytest.mark.parametrize("make", WITH_CLASSES.values(), ids=WITH_CLASSES)
def test_the_only_class_need_not_be_named(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "only")
    assert datasets.from_folder(tmp_path, None).class_name == "only"


@pytest.mark.parametrize("make", WITH_CLASSES.values(), ids=WITH_CLASSES)
def test_masks_are_found_and_good_images_have_none(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "part")
    dataset = datasets.from_folder(tmp_path, "part")
    assert {item.kind for item in dataset.good} == {datasets.GOOD}
    (bad,) = (item for item in dataset.test if item.kind != datasets.GOOD)
    assert bad.mask is not None
    assert np.argwhere(bad.mask()).tolist() == [[2, 3]]
    assert bad.read().image.size == (12, 10)
    assert all(item.mask is None for item in dataset.test if item.kind == datasets.GOOD)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_keys_do_not_depend_on_where_the_data_set_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    for place in ("here", "over/there"):
        make(tmp_path / place / "part")
    monkeypatch.chdir(tmp_path / "over")
    here, there = (datasets.from_folder(place, None) for place in (tmp_path / "here" / "part", Path("there/part")))
    keys = [item.key for item in here.good + here.test]
    assert keys == [item.key for item in there.good + there.test]
    assert len(set(keys)) == len(keys)
    assert not any(key.startswith("/") for key in keys)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_linked_folders_and_images_are_followed(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "store" / "x1")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "part").symlink_to(tmp_path / "store" / "x1", target_is_directory=True)
    linked = datasets.from_folder(tmp_path / "root" / "part", None)
    assert linked.class_name == "part"
    first = Path(linked.good[0].name)
    (first.parent / "zz.png").symlink_to(first)
    assert Path(datasets.from_folder(tmp_path / "root" / "part", None).good[-1].name).name == "zz.png"
    assert linked.good[-1].read().image.size == (12, 10)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_the_current_folder_has_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "part")
    monkeypatch.chdir(tmp_path / "part")
    assert datasets.class_names(Path()) == ("part",)
    assert datasets.from_folder(Path(), None).class_name == "part"


def test_a_link_to_nowhere_is_reported_when_read_and_not_passed_over(tmp_path: Path) -> None:
    plain(tmp_path)
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (item,) = (item for item in datasets.from_folder(tmp_path, None).good if item.name.endswith("gone.png"))
    with pytest.raises(ImageError, match="does not exist"):
        item.read()


def test_a_test_without_good_images_masks_or_anything_is_fine(tmp_path: Path) -> None:
    draw(tmp_path / "part/train/good/0.png")
    assert datasets.from_folder(tmp_path, "part").test == ()
    draw(tmp_path / "part/test/crack/0.png")
    (tmp_path / "part/test/.cache").mkdir()
    (item,) = datasets.from_folder(tmp_path, "part").test
    assert (item.kind, item.mask) == ("crack", None)


def test_the_first_layout_whose_sign_is_there_is_taken(tmp_path: Path) -> None:
    """Signs are added one by one, from the weakest to the clearest. Each changes the data set."""
    found = []
    for make in (plain, video, visa, btad, mvtec):
        make(tmp_path / "part")
        found.append(Path(datasets.from_folder(tmp_path / "part", None).good[0].key).parent.as_posix())
    assert found == [".", "training/frames/01_001", "Data/Images/Normal", "train/ok", "train/good"]
    assert (
        len(LAYOUTS) == len(found) + 2
    )  # MVTec AD and BTAD are one; the others are tables, videos, and folders of videos


def test_an_empty_class_is_named_with_what_was_expected(tmp_path: Path) -> None:
    for name, folder in (("a", "train/good"), ("b", "train/ok"), ("c", "Data/Images/Normal")):
        (tmp_path / name / folder).mkdir(parents=True)
        with pytest.raises(
            PadimEdgeError, match=rf"holds no images in {folder}; expected files ending in \.avif, \.bmp"
        ):
            datasets.from_folder(tmp_path / name, None)


def test_an_unknown_layout_is_met_with_the_known_ones(tmp_path: Path) -> None:
    draw(tmp_path / "train/defective/0.png")
    for call in (datasets.class_names, lambda data: datasets.from_folder(data, None)):
        with pytest.raises(PadimEdgeError, match=r"holds no images and no data set.*train/good.*train/ok.*VisA"):
            call(tmp_path)
    with pytest.raises(PadimEdgeError, match=r"is neither a CSV file nor a video by its ending; expected"):
        datasets.from_folder(draw(tmp_path / "a.png"), None)


def test_a_good_image_whose_mask_has_defects_stays_good_and_is_noted(tmp_path: Path) -> None:
    mvtec(tmp_path)
    draw(tmp_path / "ground_truth/good/000_mask.png", 0)
    assert datasets.from_folder(tmp_path, None).notes == ()
    mask(tmp_path / "ground_truth/good/000_mask.png")
    dataset = datasets.from_folder(tmp_path, None)
    assert kinds(dataset) == ["crack", "good"]
    (note,) = dataset.notes
    assert "1 good image has a mask with defects" in note
    (tmp_path / "ground_truth/good/000_mask.png").write_bytes(b"no mask")
    assert "is not an image" in datasets.from_folder(tmp_path, None).notes[0]


def test_visa_without_its_split_holds_out_every_fifth_good_image(tmp_path: Path) -> None:
    visa(tmp_path / "candle")
    (tmp_path / "candle" / "image_anno.csv").write_text("image,label,mask\nno/such.JPG,normal,\n")
    dataset = datasets.from_folder(tmp_path, "candle")
    assert [Path(item.name).stem for item in dataset.test] == ["0004", "0009", "000"]
    assert len(dataset.good) == 10
    assert kinds(dataset) == ["anomaly", "good", "good"]
    assert "every 5th good image by name was held out for the test, 2 of 12" in dataset.notes[0]


def test_visa_follows_its_split(tmp_path: Path) -> None:
    for name in ("candle", "pcb1"):
        visa(tmp_path / name, good=3)
    (tmp_path / "split_csv").mkdir()
    lines = ["object,split,label,image,mask"]
    for name in ("candle", "pcb1"):
        lines += [f"{name},train,normal,{name}/Data/Images/Normal/{number:04}.JPG," for number in (2, 0)]
        lines.append(f"{name},test,normal,{name}/Data/Images/Normal/0001.JPG,")
        lines.append(f"{name},test,anomaly,{name}/Data/Images/Anomaly/000.JPG,{name}/Data/Masks/Anomaly/000.png")
    (tmp_path / "split_csv" / "1cls.csv").write_text("\n".join(lines))
    for dataset in (datasets.from_folder(tmp_path, "candle"), datasets.from_folder(tmp_path / "candle", None)):
        assert [Path(item.name).stem for item in dataset.good] == ["0002", "0000"]
        assert kinds(dataset) == ["anomaly", "good"]
        assert dataset.notes == ()
        assert dataset.test[-1].mask is not None
        assert dataset.test[-1].mask().sum() == 1
    (tmp_path / "link").symlink_to(tmp_path / "candle", target_is_directory=True)
    assert len(datasets.from_folder(tmp_path / "candle" / ".." / "candle", "x").good) == 2
    with pytest.raises(PadimEdgeError, match="has no lines for the object link"):
        datasets.from_folder(tmp_path, "link")


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16", "I", "F", "LA", "RGB", "RGBA", "PA", "CMYK"])
def test_whatever_its_mode_a_mask_is_defective_where_it_is_above_0(tmp_path: Path, mode: str) -> None:
    ending = "tif" if mode in ("CMYK", "F", "I", "PA") else "png"
    values = {"LA": (1, 255), "PA": (1, 255), "RGB": (0, 0, 1), "RGBA": (0, 0, 1, 255), "CMYK": (0, 0, 0, 0)}
    background = {"LA": (0, 255), "PA": (0, 255), "RGBA": (0, 0, 0, 255), "CMYK": (0, 0, 0, 255)}
    image = Image.new(mode, (6, 4), background.get(mode, 0))
    if mode in ("P", "PA"):  # the colours do not count: index 0 is white, index 1 is black
        image.putpalette([255, 255, 255, 0, 0, 0])
    image.putpixel((5, 1), values.get(mode, 1))
    image.save(tmp_path / f"m.{ending}")
    with Image.open(tmp_path / f"m.{ending}") as written:
        assert written.mode[0] == mode[0]
    assert np.argwhere(read_mask(tmp_path / f"m.{ending}")).tolist() == [[1, 5]]


def test_a_mask_is_turned_as_its_image_is(tmp_path: Path) -> None:
    image = Image.new("L", (6, 4))
    image.putpixel((5, 1), 255)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    image.save(tmp_path / "m.png", exif=exif)
    assert np.argwhere(read_mask(tmp_path / "m.png")).tolist() == [[5, 2]]
