"""The whole sample in the order of its files, and as files in the layout of MVTec AD."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from padim_edge.sample.draw import CLASSES, DEFECTS, Mask, Pixels, draw_defect, draw_good
from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_artifact.files import replacing

__all__ = ["SamplePicture", "pictures", "write"]


@dataclass(frozen=True)
class SamplePicture:
    """One picture of the sample."""

    path: PurePosixPath
    """Where it belongs inside the folder of its class, such as `train/good/000.png`."""
    pixels: Pixels
    """`(S, S, 3)` uint8, RGB."""
    mask: Mask | None
    """`(S, S)` bool, True where the defect is; None for a good picture."""

    @property
    def mask_path(self) -> PurePosixPath:
        """Where the mask of a picture with a defect belongs, such as `ground_truth/crack/000_mask.png`."""
        return PurePosixPath("ground_truth") / self.path.parent.name / f"{self.path.stem}_mask.png"


def pictures(
    class_name: str, *, seed: int = 0, size: int = 320, train: int = 120, test_good: int = 12, per_defect: int = 4
) -> Iterator[SamplePicture]:
    """Draws the sample of one class, each picture when it is asked for.

    Args:
        class_name: One of `CLASSES`.
        seed: Which sample, 0 or more.
        size: Side of the pictures in pixels, 32 or more.
        train: Good pictures to fit on.
        test_good: Good pictures to test on.
        per_defect: Pictures of each kind of defect.

    Returns:
        An iterator: first `train/good`, then `test/good`, then each kind of defect.

    Raises:
        PadimEdgeError: No such class, or a number out of range. Raised here, not at the first picture.
    """
    if class_name in CLASSES:  # otherwise draw_good below has the sentence
        for name, count in (("train", train), ("test_good", test_good), ("per_defect", per_defect)):
            if count < 0:
                raise PadimEdgeError(f"{name} is {count}, expected 0 or more; give how many pictures to draw")
    draw_good(class_name, 0, seed=seed, size=size)
    return _pictures(class_name, seed, size, train, test_good, per_defect)


def _pictures(
    class_name: str, seed: int, size: int, train: int, test_good: int, per_defect: int
) -> Iterator[SamplePicture]:
    """The drawing behind `pictures`."""
    for index in range(train):
        yield SamplePicture(_path("train", "good", index), draw_good(class_name, index, seed=seed, size=size), None)
    for index in range(test_good):
        pixels = draw_good(class_name, index, seed=seed, size=size, split="test")
        yield SamplePicture(_path("test", "good", index), pixels, None)
    for defect in DEFECTS[class_name]:
        for index in range(per_defect):
            pixels, mask = draw_defect(class_name, defect, index, seed=seed, size=size)
            yield SamplePicture(_path("test", defect, index), pixels, mask)


def _path(split: str, kind: str, index: int) -> PurePosixPath:
    """Such as `test/crack/003.png`."""
    return PurePosixPath(split, kind, f"{index:03d}.png")


def write(
    class_name: str,
    folder: Path,
    *,
    seed: int = 0,
    size: int = 320,
    train: int = 120,
    test_good: int = 12,
    per_defect: int = 4,
) -> int:
    """Writes the sample of one class as PNG files under `folder/<class_name>`, with the layout of MVTec AD.

    Pictures lie in `train/good`, `test/good` and `test/<defect>`, masks (0 or 255, one channel) in
    `ground_truth/<defect>`. Arguments beside `folder` and errors are those of `pictures`.

    Returns:
        How many pictures were written, masks not counted.
    """
    drawn = pictures(class_name, seed=seed, size=size, train=train, test_good=test_good, per_defect=per_defect)
    count = 0
    for picture in drawn:
        _save(Image.fromarray(picture.pixels), folder / class_name / picture.path)
        if picture.mask is not None:
            # Multiplying a bool by a uint8 stays uint8, which Pillow reads as mode L.
            _save(Image.fromarray(picture.mask.astype("uint8") * 255), folder / class_name / picture.mask_path)
        count += 1
    return count


def _save(image: Image.Image, path: Path) -> None:
    """Writes a PNG under another name and renames it, so that nobody ever reads half a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        # Noise hardly compresses: level 1 is several times faster than the default and the files are as large.
        image.save(unfinished, format="PNG", compress_level=1)
