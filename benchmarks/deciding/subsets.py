"""Fits on many choices of the same images: each image is embedded once, and the code that ships does all the rest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import SimpleNamespace
from unittest import mock

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from padim_edge.datasets import GOOD, Dataset, Item
from padim_edge.frames import readable_frames
from padim_edge.network import exported
from padim_edge.settled import settled
from padim_edge.start import prepared
from padim_edge_artifact import PadimEdgeError, names
from padim_edge_artifact.calibration import Calibration
from padim_edge_artifact.kept import Kept
from padim_edge_artifact.method import Method
from padim_edge_learn import held_out
from padim_edge_learn.accumulate import batches, side_by_side
from padim_edge_model.calibration import calibrate, threshold
from padim_edge_model.comparable import Observed
from padim_edge_model.fused import map_stage
from padim_edge_model.graph import joined, of_kept
from padim_edge_model.leave_one_out import distance_of, leave_one_out
from padim_edge_model.repeats import Recorder
from padim_edge_model.statistics import absorb
from padim_edge_model.whitening import Form, form_of
from padim_edge_runtime.devices.providers import open_session
from padim_edge_runtime.prefetch import cores

__all__ = ["Embedded", "Numbers", "Subset", "embed"]

Numbers = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Embedded:
    """Embedded images of one class: the good images first, then the test images."""

    items: tuple[Item, ...]
    """The images."""
    good: int
    """Number of good images to fit on; the images behind them are test images."""
    empty: Kept
    """Statistics of no image."""
    frames: npt.NDArray[np.uint8]
    """`(N, H, W, 3)` images in the model's frame."""
    vectors: npt.NDArray[np.float32]
    """`(N, D, h, w)` embeddings."""

    @property
    def fittable(self) -> Numbers:
        """Numbers of the good images to fit on."""
        return np.arange(self.good)

    def test(self, *, defective: bool) -> Numbers:
        """Return the numbers of the defective test images, or of the good ones."""
        kinds = [each.kind != GOOD for each in self.items[self.good :]]
        return self.good + np.flatnonzero(np.array(kinds) == defective)

    @cached_property
    def places(self) -> Mapping[bytes, int]:
        """Number of an image by the digest of its frame."""
        return {_digest(frame): number for number, frame in enumerate(self.frames)}


def embed(dataset: Dataset, method: Method, weights: str, *, test: bool = False) -> Embedded:
    """Compute the embeddings of the good images, with the product's graph in onnxruntime.

    Args:
        dataset: Data set with good images.
        method: Method of the fits.
        weights: `auto`, or the path of a weights file.
        test: Whether the test images are embedded as well.

    Raises:
        PadimEdgeError: An image cannot be read.
    """
    method = settled(dataset, method)
    empty = prepared(dataset, method, exported(method, weights))
    session = open_session(joined(of_kept(empty)).SerializeToString(), "cpu").session
    items = (*dataset.good, *(dataset.test if test else ()))
    unreadable: dict[str, str] = {}
    frames = np.stack(list(readable_frames(items, method.preprocessing, unreadable)))
    if unreadable:
        raise PadimEdgeError(f"an image cannot be read ({next(iter(unreadable.values()))}); repair the data set")
    together = batches(frames, side_by_side(method.preprocessing.input_size))
    vectors = [session.run([names.EMBEDDING], {names.IMAGE: np.stack(batch)})[0] for batch in together]
    return Embedded(items, len(dataset.good), empty, frames, np.concatenate(vectors))


class Subset:
    """A fit on some of the images, by number and in this order; a number may come several times."""

    def __init__(self, images: Embedded, numbers: Sequence[int] | Numbers) -> None:
        self.images = images
        self.numbers = np.asarray(numbers, np.int64)
        method = images.empty.recipe.method
        self.to_map = map_stage(method.preprocessing.size, images.empty.statistics.grid, method.sigma)

    @cached_property
    def kept(self) -> Kept:
        """Statistics, look and fingerprints of the images."""
        empty, chosen = self.images.empty, self.images.vectors[self.numbers]
        statistics = empty.statistics
        mean, scatter = np.zeros_like(statistics.mean), np.zeros_like(statistics.scatter)
        with threadpool_limits(1, "blas"):  # as the fit does: BLAS threads would wait for each other at every patch
            absorb(mean, scatter, 0, chosen, workers=cores())
        observed, recorder = Observed(empty.seen), Recorder(empty.evidence)
        for frame in self.images.frames[self.numbers]:
            observed.add(frame)
            recorder.add(frame)
        fitted = replace(statistics, mean=mean, scatter=scatter, count=len(chosen))
        return replace(empty, statistics=fitted, seen=observed.seen, evidence=recorder.evidence)

    @cached_property
    def form(self) -> Form:
        """Constants of the distance."""
        return self.form_with(self.kept.recipe.method.ridge)

    def form_with(self, ridge: float) -> Form:
        """Compute the constants of the distance with another ridge."""
        return form_of(self.kept.statistics, ridge, of_kept(self.kept).parts, self.kept.recipe.method.precision)

    def distances(self, numbers: Sequence[int] | Numbers) -> npt.NDArray[np.float32]:
        """Compute the `(n, h, w)` patch distances of some of all images, by number, in the model's float32."""
        return distance_of(self.form, self.images.vectors[numbers]).astype(np.float32)

    def scores(self, numbers: Sequence[int] | Numbers) -> Float64:
        """Compute the scores `(n,)` of some of all images, by number."""
        return self._scores(self.distances(numbers))

    @cached_property
    def held(self) -> held_out.HeldOut:
        """Scores of its images outside the fit, as an export computes them."""
        frames, precision = self.images.frames[self.numbers], self.kept.recipe.method.precision

        def read(numbers: Sequence[int]) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
            yield from ((number, frames[number]) for number in numbers)

        session = _Remembered(self)
        shipped = held_out.Shipped(self.kept, session, None, precision, self.to_map, "cpu")
        good = held_out.GoodImages(read, len(frames))
        # The embeddings are known, so the backbone need not run again.
        with mock.patch.object(held_out, "open_session", return_value=SimpleNamespace(session=session)):
            return held_out.judged(shipped, good, Observed(self.kept.seen))

    @cached_property
    def calibration(self) -> Calibration:
        """Scores behind the threshold, as an export stores them."""
        return calibrate(self.held.scores, self.held.groups)

    def threshold(self, false_alarm_rate: float) -> float:
        """Return the threshold that an export stores."""
        return threshold(self.calibration, false_alarm_rate)

    @cached_property
    def plain(self) -> Float64:
        """Plain leave-one-out scores `(n,)`: repeats and neighbours stay in the fit."""
        return self._scores(leave_one_out(self.distances(self.numbers), len(self.numbers)))

    def _scores(self, distances: npt.NDArray[np.floating]) -> Float64:
        return np.array([float(self.to_map(each[None]).max()) for each in distances])


class _Remembered:
    """Stand-in for the sessions of an export that looks the embedding of an image up."""

    def __init__(self, subset: Subset) -> None:
        self._subset = subset

    def get_inputs(self) -> list[SimpleNamespace]:
        """Return the input, as a session describes it."""
        return [SimpleNamespace(name=names.IMAGE)]

    def run(self, outputs: Sequence[str], feed: Mapping[str, npt.NDArray[np.uint8]]) -> list[npt.NDArray[np.float32]]:
        """Return embeddings and patch distances of images that were embedded before."""
        places = self._subset.images.places
        numbers = [places[_digest(frame)] for frame in feed[names.IMAGE]]
        known = {
            names.EMBEDDING: lambda: self._subset.images.vectors[numbers],
            names.PATCH_DISTANCE: lambda: self._subset.distances(numbers),
        }
        return [known[output]() for output in outputs]


def _digest(frame: npt.NDArray[np.uint8]) -> bytes:
    return hashlib.sha256(frame.tobytes()).digest()
