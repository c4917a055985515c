"""Detector: a loaded model that inspects images, or judges arrays in the model's own frame."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import ArtifactError, DeviceError, ImageError, Metadata, PadimEdgeError, names
from padim_edge_artifact.calibration import check_threshold
from padim_edge_artifact.container import verified
from padim_edge_artifact.schema import reason_of, shown
from padim_edge_artifact.self_test import probe_image, sample_points
from padim_edge_model.calibration import p_value
from padim_edge_runtime import image_files, pipeline
from padim_edge_runtime.channel_order import ordered
from padim_edge_runtime.data_guard import DataGuard, guard_of, require_unchanged
from padim_edge_runtime.devices import engines, providers
from padim_edge_runtime.devices.tensorrt import Batches
from padim_edge_runtime.image_files import ImageLike
from padim_edge_runtime.inspection import Inspection, Result, Source, Unreadable
from padim_edge_runtime.pipeline import Choice, Hook
from padim_edge_runtime.profile import Clock
from padim_edge_runtime.wrong_kinds import not_frames, require_several

__all__ = ["Detector", "Result", "SelfTestOutcome"]

Float32 = npt.NDArray[np.float32]

_TRIES = 5
"""Number of times that a model is read anew because another process gave its name to a new one in the meantime."""


@dataclass(frozen=True)
class SelfTestOutcome:
    """Answer to the self-test image on this machine against the machine that made the model."""

    passed: bool
    """Whether the difference is within the tolerance."""
    difference: float
    """Largest relative difference of score and sampled map values."""
    tolerance: float
    """Largest relative difference that the model's precision allows."""
    score: float
    """Score on this machine."""
    expected_score: float
    """Score on the machine that made the model."""


@dataclass(frozen=True, eq=False)
class Detector:
    """A loaded model. Make one with `Detector.load`.

    One detector may be shared between threads: nothing in it changes, and an onnxruntime session takes calls from
    several threads at a time. Each call gives what it would give alone. A Pillow image or an array must not be changed
    by another thread while it is inspected.
    """

    metadata: Metadata
    """Metadata of the model."""
    opened: providers.Opened
    """The onnxruntime session, and where it runs."""
    guard: DataGuard | None = None
    """The open data file, whose content must not change; `None` without one."""

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: str = "auto",
        *,
        product: str | None = None,
        threads: int | None = None,
        batches: Batches | None = None,
        tell: Callable[[str], object] = lambda _: None,
    ) -> Detector:
        """Load a model file. One that is replaced while it is read is read again.

        Args:
            path: The `.onnx` file; its `.data` file, if it has one, must be beside it. Or a bundle.
            device: `auto`, `cpu`, `cuda` or `tensorrt`. Any value but `auto` fails if that device is unavailable.
            product: Name of the product in a bundle; `None` for a model file, or where the bundle has only one.
            threads: CPU threads for one image; `None` leaves it to onnxruntime (one per core). With 1, `inspect_many`
                has several images in the model at a time, which gives the most images a second.
            batches: Batch sizes of a TensorRT engine; `None` takes those of `padim-edge warm`, or 1 to 8.
            tell: Called with a sentence before TensorRT builds an engine, which may take minutes.

        Raises:
            ArtifactError: The file is missing, damaged, foreign, or of another format version.
            DeviceError: The device is not there.
        """
        path = Path(path)
        for _ in range(_TRIES):
            before = _state(path)
            try:
                return cls._loaded(path, product, device, threads=threads, batches=batches, tell=tell)
            except ArtifactError:
                if _state(path) == before:
                    raise
        raise ArtifactError(f"{path} is being replaced again and again; wait until that is over")

    @classmethod
    def _loaded(
        cls,
        path: Path,
        product: str | None,
        device: str,
        *,
        threads: int | None,
        batches: Batches | None,
        tell: Callable[[str], object],
    ) -> Detector:
        found = verified(path, product)
        metadata, guard = found.metadata, guard_of(found)
        try:
            check_threshold(metadata.threshold)
        except PadimEdgeError as error:
            raise ArtifactError(f"{path} cannot be used: {error}; set one with padim-edge threshold") from error
        engine = partial(engines.engine, path, metadata, batches, tell)
        source: providers.Model = path
        if found.graph is not None and found.data_path is not None:
            source = providers.Embedded(found.graph, found.data_path.parent)
        opened = providers.open_session(source, device, threads=threads, engines=engine)
        require_unchanged(path, found)
        _check_contract(opened.session, metadata, path)
        return cls(metadata, opened, guard)

    @property
    def session(self) -> Any:
        """The onnxruntime session."""
        return self.opened.session

    @property
    def device(self) -> str:
        """Device that the model runs on, by the session's own word: a key of `providers.DEVICES`."""
        return self.opened.device

    @property
    def refused(self) -> tuple[str, ...]:
        """Reasons why `auto` passed over better devices, one sentence each."""
        return self.opened.refused

    @property
    def placement(self) -> str:
        """Nodes of the graph by the device that they run on, in words."""
        return self.opened.placement

    @property
    def largest(self) -> int | None:
        """Largest batch size that the model takes here; `None` for any. TensorRT's engines have one."""
        return self.opened.largest

    @property
    def threads(self) -> int | None:
        """CPU threads for one image; `None` where onnxruntime chose."""
        return self.opened.threads

    def inspect(
        self, image: ImageLike, *, color: str = "rgb", threshold: float | None = None, min_area: int = 0
    ) -> Inspection:
        """Inspect one image of any size.

        Args:
            image: The path of a file, the bytes of an encoded file, a Pillow image, or an array. Arrays are uint8 or
                uint16 of the shape (H, W), (H, W, 1) or (H, W, 3).
            color: Order of an array's channels: `rgb`, or `bgr` as OpenCV gives it. Files and Pillow images know
                their own.
            threshold: Threshold to use instead of the model's own.
            min_area: Regions of less area, in square pixels of the image, are not reported. The verdict does not depend
                on them.

        Raises:
            ImageError: The image cannot be read, or is no such array.
            DeviceError: The device failed while it ran.
            PadimEdgeError: The color is neither `rgb` nor `bgr`, or the threshold is no distance.
        """
        source = Source.of(image)
        choice = Choice(color=color, threshold=threshold, min_area=min_area)
        return pipeline.inspect(self, image, choice).kept_as(source)

    def inspect_many(
        self,
        images: Iterable[ImageLike],
        *,
        color: str = "rgb",
        threshold: float | None = None,
        min_area: int = 0,
        hook: Hook | None = None,
        clock: Clock | None = None,
    ) -> Generator[Inspection | Unreadable, None, None]:
        """Inspect many images and give an `Inspection` or `Unreadable` for each, in their order.

        Images are decoded, judged and drawn in a few threads, so that the stages overlap. No more decoded images than
        threads are in memory. About twice as many images as threads are taken ahead: for a line that must answer
        before the next image comes, call `inspect`.

        Args:
            images: Anything that `inspect` takes, each; may be lazy and endless. An array must not be changed before
                its inspection has come.
            color: As for `inspect`.
            threshold: As for `inspect`.
            min_area: As for `inspect`.
            hook: Called with each inspection in its own thread, for example to save the overlay.
            clock: Counts the time that each stage takes.

        Raises:
            ImageError: The images are a single path, Pillow image or array.
            DeviceError: The device failed while it ran.
            PadimEdgeError: As for `inspect`.
        """
        require_several(images)
        choice = Choice(color=color, threshold=threshold, min_area=min_area)
        return pipeline.inspect_many(self, images, choice, hook=hook, clock=clock)

    def prepare(self, image: ImageLike, *, color: str = "rgb") -> npt.NDArray[np.uint8]:
        """Bring an image of any size to `(H, W, 3)` uint8 as the model takes it.

        Size and order of the channels are the model's own (`Metadata.input_size`, `Preprocessing.color`).

        Args:
            image: As for `inspect`.
            color: As for `inspect`.

        Raises:
            ImageError: As for `inspect`.
        """
        preprocessing = self.metadata.preprocessing
        decoded = image_files.decode(image, color=color, keep_grey=True, levels=preprocessing.levels)
        return ordered(image_files.prepare(decoded.pixels, preprocessing), preprocessing.color)

    def __call__(
        self, images: npt.NDArray[np.uint8], *, color: str | None = None, threshold: float | None = None
    ) -> Result:
        """Judge images in the model's frame.

        Args:
            images: `(N, H, W, 3)` uint8, N at least 1 (see `prepare`). One image `(H, W, 3)` is a batch of one.
            color: Order of their channels, `rgb` or `bgr`; `None` is the model's own, `Preprocessing.color`: RGB, or
                BGR for a model exported with `--color bgr`.
            threshold: Threshold to use instead of the model's own.

        Raises:
            ImageError: Another dtype or shape.
            DeviceError: The device failed while it ran, gave no finite numbers, or takes no batch of this size; or the
                data file was overwritten.
            PadimEdgeError: The threshold is no distance.
        """
        limit = self.metadata.threshold if threshold is None else check_threshold(threshold)
        score, anomaly_map, patch_distance = self._outputs(images, color)
        if not (np.isfinite(score).all() and np.isfinite(anomaly_map).all()):  # NaN above a threshold would be good
            raise DeviceError(
                f"the device {self.device!r} gave distances that are no finite numbers; run padim-edge verify, and try "
                "--device cpu"
            )
        return Result(
            score=score,
            anomaly_map=anomaly_map,
            patch_distance=patch_distance,
            p_value=p_value(self.metadata.calibration, score),
            anomalous=score.astype(np.float64) > limit,  # or numpy would round the threshold to float32
            threshold=limit,
            device=self.device,
        )

    def _outputs(self, images: npt.NDArray[np.uint8], color: str | None = None) -> tuple[Float32, Float32, Float32]:
        """Return score, anomaly map and patch distances of images, after their dtype and shape were checked."""
        own = self.metadata.preprocessing.color
        image_files.check_color(color or own)
        if not isinstance(images, np.ndarray):
            raise ImageError(not_frames(images, self.metadata.preprocessing))
        batch = images[None] if images.ndim == 3 else images
        if (
            batch.dtype != np.uint8
            or batch.ndim != 4
            or batch.shape[1:] != (*self.metadata.input_size, 3)
            or not len(batch)
        ):
            height, width = self.metadata.input_size
            raise ImageError(
                f"the images are {images.dtype} {images.shape}, expected uint8 (N, {height}, {width}, 3) in "
                f"{(color or own).upper()}; bring them to that with Detector.prepare"
            )
        if color not in (None, own):
            batch = ordered(batch, "bgr")  # which is RGB where they are BGR
        self.require(len(batch))
        if self.guard is not None:
            self.guard.check()  # before, because a file that was cut short would end the process
        try:
            outputs = self.session.run(
                list(names.OUTPUTS), {self.metadata.preprocessing.input_name: np.ascontiguousarray(batch)}
            )
        except Exception as error:  # onnxruntime's exceptions have no common base besides Exception
            raise DeviceError(f"the device {self.device!r} failed while it ran ({reason_of(error, 2000)})") from error
        if self.guard is not None:
            self.guard.check()
        score, anomaly_map, patch_distance = outputs
        return score, anomaly_map, patch_distance

    def require(self, batch: int) -> None:
        """Refuse a batch size that the device was not prepared for: an engine of TensorRT never grows in mid-run.

        Raises:
            DeviceError: The batch is larger than `largest`.
        """
        if self.largest is not None and batch > self.largest:
            raise DeviceError(
                f"a batch of {batch} is too large for the engine, which was built for 1 to {self.largest}; build "
                f"another one with padim-edge warm MODEL --device {self.device} --batch 1,{batch}"
            )

    def self_test(self) -> SelfTestOutcome:
        """Judge the self-test image and compare with the answer in the metadata."""
        expected = self.metadata.self_test
        score, anomaly_map, _ = self._outputs(probe_image(self.metadata.input_size))
        samples = anomaly_map[0][sample_points(self.metadata.size)]
        found = np.array([score[0], *samples], np.float64)
        wanted = np.array([expected.score, *expected.map_samples])
        difference = float(np.max(np.abs(found - wanted) / np.abs(wanted).clip(1e-6)))
        passed = difference <= expected.tolerance  # False for NaN
        return SelfTestOutcome(passed, difference, expected.tolerance, float(score[0]), expected.score)


def _state(path: Path) -> tuple[int, int, int] | None:
    """Return what tells the file under this name from the one that takes its place; `None` where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _check_contract(session: Any, metadata: Metadata, path: Path) -> None:
    """Compare the graph's own inputs and outputs with what the metadata and the format promise."""
    (height, width), (h, w) = metadata.size, metadata.grid
    promised = {
        metadata.preprocessing.input_name: ("tensor(uint8)", [*metadata.input_size, 3]),
        names.SCORE: ("tensor(float)", []),
        names.ANOMALY_MAP: ("tensor(float)", [height, width]),
        names.PATCH_DISTANCE: ("tensor(float)", [h, w]),
    }
    tensors = (*session.get_inputs(), *session.get_outputs())
    try:
        there = {each.name: (each.type, list(each.shape[1:])) for each in tensors}
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{path} has a tensor whose name is no text; export it again") from error
    if {name: shape for name, shape in there.items() if name not in names.FURTHER_OUTPUTS} != promised:
        raise ArtifactError(f"{path} has the tensors {shown(there, 1000)}, expected {promised}; export it again")
