"""The whole sample in the order of its files, and as files in the layout of MVTec AD."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from padim_edge.sample.draw import CLASSES, DEFECTS, Mask, Pixels, draw_defect, draw_good
from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_artifact.files import replacing

__all__ = ["SampleImage", "images", "write"]


@dataclass(frozen=True)
class SampleImage:
    """One image of the sample."""

    path: PurePosixPath
    """Where it belongs inside the folder of its class, such as `train/good/000.png`."""
    pixels: Pixels
    """`(S, S, 3)` uint8, RGB."""
    mask: Mask | None
    """`(S, S)` bool, True where the defect is; None for a good image."""

    @property
    def mask_path(self) -> PurePosixPath:
        """Where the mask of an image with a defect belongs, such as `ground_truth/crack/000_mask.png`."""
        return PurePosixPath("ground_truth") / self.path.parent.name / f"{self.path.stem}_mask.png"


def images(
    class_name: str, *, seed: int = 0, size: int = 320, train: int = 120, test_good: int = 12, per_defect: int = 4
) -> Iterator[SampleImage]:
    """Draws the sample of one class, each image when it is asked for.

    Args:
        class_name: One of `CLASSES`.
        seed: Which sample, 0 or more.
        size: Side of the images in pixels, 32 or more.
        train: Good images to fit on.
        test_good: Good images to test on.
        per_defect: Images of each kind of defect.

    Returns:
        An iterator: first `train/good`, then `test/good`, then each kind of defect.

    Raises:
        PadimEdgeError: No such class, or a number out of range. Raised here, not at the first image.
    """
    if class_name in CLASSES:  # otherwise draw_good below has the sentence
        for name, count in (("train", train), ("test_good", test_good), ("per_defect", per_defect)):
            if count < 0:
                raise PadimEdgeError(f"{name} is {count}, expected 0 or more; give how many images to draw")
    draw_good(class_name, 0, seed=seed, size=size)
    return _images(class_name, seed, size, train, test_good, per_defect)


def _images(
    class_name: str, seed: int, size: int, train: int, test_good: int, per_defect: int
) -> Iterator[SampleImage]:
    """The drawing behind `images`."""
    for index in range(train):
        yield SampleImage(_path("train", "good", index), draw_good(class_name, index, seed=seed, size=size), None)
    for index in range(test_good):
        pixels = draw_good(class_name, index, seed=seed, size=size, split="test")
        yield SampleImage(_path("test", "good", index), pixels, None)
    for defect in DEFECTS[class_name]:
        for index in range(per_defect):
            pixels, mask = draw_defect(class_name, defect, index, seed=seed, size=size)
            yield SampleImage(_path("test", defect, index), pixels, mask)


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

    Images lie in `train/good`, `test/good` and `test/<defect>`, masks (0 or 255, one channel) in
    `ground_truth/<defect>`. Arguments beside `folder` and errors are those of `images`.

    Returns:
        How many images were written, masks not counted.
    """
    drawn = images(class_name, seed=seed, size=size, train=train, test_good=test_good, per_defect=per_defect)
    count = 0
    for image in drawn:
        _save(Image.fromarray(image.pixels), folder / class_name / image.path)
        if image.mask is not None:
            # Multiplying a bool by a uint8 stays uint8, which Pillow reads as mode L.
            _save(Image.fromarray(image.mask.astype("uint8") * 255), folder / class_name / image.mask_path)
        count += 1
    return count


def _save(image: Image.Image, path: Path) -> None:
    """Writes a PNG under another name and renames it, so that nobody ever reads half an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        # Noise hardly compresses: level 1 is several times faster than the default and the files are as large.
        image.save(unfinished, format="PNG", compress_level=1)
