"""The whole sample in the order of its files, and as files in the layout of MVTec AD."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from padim_edge.sample.draw import CLASSES, DEFECTS, Mask, Pixels, Split, check, draw_defect, draw_good
from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_artifact.files import replacing

__all__ = ["SampleImage", "images", "write"]


@dataclass(frozen=True)
class SampleImage:
    """One image of the sample. It is drawn when its pixels are asked for."""

    class_name: str
    """One of `CLASSES`."""
    split: Split
    """`train` or `test`."""
    defect: str | None
    """One of `DEFECTS[class_name]`; `None` for a good image."""
    index: int
    """Number among the images of the same split and defect, from 0."""
    seed: int
    """Number of the sample, 0 or more."""
    size: int
    """Side of the image in pixels."""

    @property
    def path(self) -> PurePosixPath:
        """Place inside the folder of its class, such as `train/good/000.png`."""
        return PurePosixPath(self.split, self.defect or "good", f"{self.index:03d}.png")

    @property
    def mask_path(self) -> PurePosixPath:
        """Place of the mask of an image with a defect, such as `ground_truth/crack/000_mask.png`."""
        return PurePosixPath("ground_truth", self.path.parent.name, f"{self.path.stem}_mask.png")

    @property
    def pixels(self) -> Pixels:
        """The image, `(size, size, 3)` uint8 RGB."""
        return self.draw()[0]

    @property
    def mask(self) -> Mask | None:
        """The ground truth, `(size, size)` bool, True where the defect is; `None` for a good image."""
        return None if self.defect is None else self.draw()[1]

    def draw(self) -> tuple[Pixels, Mask | None]:
        """Return pixels and mask."""
        if self.defect is not None:
            return draw_defect(self.class_name, self.defect, self.index, seed=self.seed, size=self.size)
        return draw_good(self.class_name, self.index, seed=self.seed, size=self.size, split=self.split), None


def images(
    class_name: str, *, seed: int = 0, size: int = 320, train: int = 120, test_good: int = 12, per_defect: int = 4
) -> tuple[SampleImage, ...]:
    """List the sample of one class. No image is drawn yet.

    Args:
        class_name: One of `CLASSES`.
        seed: Number of the sample, 0 or more.
        size: Side of the images in pixels, 32 or more.
        train: Number of good images to fit on.
        test_good: Number of good images to test on.
        per_defect: Number of images with each kind of defect.

    Returns:
        First `train/good`, then `test/good`, then each kind of defect.

    Raises:
        PadimEdgeError: There is no such class, or a number is out of range.
    """
    if class_name in CLASSES:  # otherwise `check` has the sentence
        for name, count in (("train", train), ("test_good", test_good), ("per_defect", per_defect)):
            if count < 0:
                raise PadimEdgeError(f"{name} is {count}, expected 0 or more; give how many images to draw")
    check(class_name, 0, seed, size)
    good: tuple[tuple[Split, int], ...] = (("train", train), ("test", test_good))
    return (
        *(SampleImage(class_name, split, None, index, seed, size) for split, count in good for index in range(count)),
        *(
            SampleImage(class_name, "test", defect, index, seed, size)
            for defect in DEFECTS[class_name]
            for index in range(per_defect)
        ),
    )


def write(drawn: Iterable[SampleImage], folder: Path) -> int:
    """Write images of the sample as PNG files, in the layout of MVTec AD: `folder/<class>/train/good/000.png`.

    Masks (0 or 255, one channel) go to `ground_truth/<defect>`.

    Args:
        drawn: The images, as from `images`.
        folder: The folder for all classes; made where it does not exist.

    Returns:
        The number of images written, masks not counted.
    """
    count = 0
    for image in drawn:
        pixels, mask = image.draw()
        _save(Image.fromarray(pixels), folder / image.class_name / image.path)
        if mask is not None:
            # Multiplying a bool by a uint8 stays uint8, which Pillow reads as mode L.
            _save(Image.fromarray(mask.astype("uint8") * 255), folder / image.class_name / image.mask_path)
        count += 1
    return count


def _save(image: Image.Image, path: Path) -> None:
    """Write a PNG under another name and rename it, so that nobody ever reads half an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        # Noise hardly compresses: level 1 is several times faster than the default and the files are as large.
        image.save(unfinished, format="PNG", compress_level=1)
