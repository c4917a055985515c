"""A model file, loaded: uint8 images in, scores, maps and decisions out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import ArtifactError, DeviceError, ImageError, Metadata, names, read_verified
from padim_edge_artifact.self_test import probe_image, sample_points
from padim_edge_runtime import image_files
from padim_edge_runtime.devices import providers, tensorrt

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Detector", "Result", "SelfTestOutcome"]

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Result:
    """What the model says of N images."""

    score: Float32
    """`(N,)` maximum of the anomaly map; a raw distance, neither clamped nor rescaled."""
    anomaly_map: Float32
    """`(N, H, W)` in the model's frame; `Preprocessing.judged_box` says where that lies in the image."""
    patch_distance: Float32
    """`(N, h, w)` Mahalanobis distance of each patch."""
    p_value: npt.NDArray[np.float64]
    """`(N,)` share of good images expected to score at least as high, in (0, 1]; see `Calibration`."""
    anomalous: npt.NDArray[np.bool_]
    """`(N,)` score above the threshold."""
    threshold: float
    device: str
    """Where it ran: a key of `providers.DEVICES`."""


@dataclass(frozen=True)
class SelfTestOutcome:
    """The self-test image on this machine against the machine that made the model."""

    passed: bool
    difference: float
    """Largest relative difference of score and sampled map values."""
    tolerance: float
    score: float
    expected_score: float


@dataclass(frozen=True, eq=False)
class Detector:
    """A loaded model. Make one with `Detector.load`; call it with images in the model's frame."""

    metadata: Metadata
    device: str
    """Where it really runs, by the session's own word: a key of `providers.DEVICES`."""
    refused: tuple[str, ...]
    """Why `auto` passed over better devices, one sentence each."""
    session: Any
    """The onnxruntime session."""
    placement: str = ""
    """Which nodes of the graph run where, in words."""
    largest: int | None = None
    """Batch size that it takes at most; `None` for any. TensorRT's engines have one."""

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: str = "auto",
        *,
        threads: int | None = None,
        batches: tensorrt.Batches | None = None,
        tell: Callable[[str], object] = lambda _: None,
    ) -> Detector:
        """Load a model file.

        Args:
            path: The `.onnx` file; its `.data` file, if it has one, must be beside it.
            device: `auto`, `cpu`, `cuda` or `tensorrt`; all but `auto` are strict.
            threads: CPU threads for one image; `None` leaves it to onnxruntime.
            batches: Sizes that an engine of TensorRT shall take; `None` takes those of `padim-edge warm`, or 1 to 8.
            tell: Given a sentence before TensorRT builds an engine, which may take minutes.

        Raises:
            ArtifactError: The file is missing, damaged, foreign, or of another format version.
            DeviceError: The device is not there.
        """
        path = Path(path)
        metadata = read_verified(path)
        engines = partial(tensorrt.engine, path, metadata, batches, tell)
        opened = providers.open_session(path, device, threads=threads, engines=engines)
        _check_contract(opened.session, metadata, path)
        return cls(metadata, opened.device, opened.refused, opened.session, opened.placement, opened.largest)

    def prepare(self, image: Image.Image | str | Path) -> npt.NDArray[np.uint8]:
        """An image of any size and mode as `(H, W, 3)` uint8, as the model takes it (`Metadata.input_size`).

        Raises:
            ImageError: The image cannot be read, or has floating point or 32-bit pixels.
        """
        decoded = (
            image_files.read(Path(image))
            if isinstance(image, (str, Path))
            else image_files.upright_rgb(image, "the image")
        )
        return image_files.prepare(decoded.image, self.metadata.preprocessing)

    def __call__(self, images: npt.NDArray[np.uint8], *, threshold: float | None = None) -> Result:
        """Judge images.

        Args:
            images: `(N, H, W, 3)` uint8 RGB, N at least 1, in the model's frame (see `prepare`). One image
                `(H, W, 3)` is taken as a batch of one.
            threshold: Used instead of the model's own.

        Raises:
            ImageError: Another dtype or shape.
            DeviceError: The device failed while it ran, or takes no batch of this size.
        """
        batch = images[None] if images.ndim == 3 else images
        if (
            batch.dtype != np.uint8
            or batch.ndim != 4
            or batch.shape[1:] != (*self.metadata.input_size, 3)
            or not len(batch)
        ):
            height, width = self.metadata.input_size
            raise ImageError(
                f"the images are {images.dtype} {images.shape}, expected uint8 (N, {height}, {width}, 3) in RGB; "
                "bring them to that with Detector.prepare"
            )
        self.require(len(batch))
        try:
            outputs = self.session.run(list(names.OUTPUTS), {names.IMAGE: np.ascontiguousarray(batch)})
        except Exception as error:  # onnxruntime's exceptions have no common base besides Exception
            raise DeviceError(
                f"the device {self.device!r} failed while it ran ({' '.join(str(error).split())})"
            ) from error
        score, anomaly_map, patch_distance = cast("list[Float32]", outputs)
        limit = self.metadata.threshold if threshold is None else threshold
        return Result(
            score=score,
            anomaly_map=anomaly_map,
            patch_distance=patch_distance,
            p_value=self.metadata.calibration.p_value(score),
            anomalous=score.astype(np.float64) > limit,  # or numpy would round the threshold to float32
            threshold=limit,
            device=self.device,
        )

    def require(self, batch: int) -> None:
        """Refuse a batch size that the device was not prepared for: an engine of TensorRT never grows in mid-run.

        Raises:
            DeviceError: It is larger than `largest`.
        """
        if self.largest is not None and batch > self.largest:
            raise DeviceError(
                f"a batch of {batch} is too large for the engine, which was built for 1 to {self.largest}; build "
                f"another one with padim-edge warm MODEL --device {self.device} --batch 1,{batch}"
            )

    def self_test(self) -> SelfTestOutcome:
        """Judge the self-test image and compare with what the metadata says."""
        expected = self.metadata.self_test
        result = self(probe_image(self.metadata.input_size))
        samples = result.anomaly_map[0][sample_points(self.metadata.size)]
        found = np.array([result.score[0], *samples], np.float64)
        wanted = np.array([expected.score, *expected.map_samples])
        difference = float(np.max(np.abs(found - wanted) / np.abs(wanted).clip(1e-6)))
        passed = difference <= expected.tolerance  # False for NaN
        return SelfTestOutcome(passed, difference, expected.tolerance, float(result.score[0]), expected.score)


def _check_contract(session: Any, metadata: Metadata, path: Path) -> None:
    """The graph's own inputs and outputs against what the metadata and the format promise."""
    (height, width), (h, w) = metadata.size, metadata.grid
    promised = {
        names.IMAGE: ("tensor(uint8)", [*metadata.input_size, 3]),
        names.SCORE: ("tensor(float)", []),
        names.ANOMALY_MAP: ("tensor(float)", [height, width]),
        names.PATCH_DISTANCE: ("tensor(float)", [h, w]),
    }
    there = {each.name: (each.type, list(each.shape[1:])) for each in (*session.get_inputs(), *session.get_outputs())}
    if there != promised:
        raise ArtifactError(f"{path} has the tensors {there}, expected {promised}; export it again")
