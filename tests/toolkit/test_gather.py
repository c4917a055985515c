"""From good images to kept statistics: the same whether interrupted, sharded or whole; and the model made of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_models import dataset, export_once, judged, small, trunk_of, weave

from padim_edge import gather
from padim_edge.build import build, build_from
from padim_edge.datasets import Dataset, Item
from padim_edge.gather import Checkpoint
from padim_edge_artifact import ImageError, PadimEdgeError, Statistics, kept
from padim_edge_artifact.kept import Kept
from padim_edge_learn import accumulate
from padim_edge_model.precision import Precision
from padim_edge_runtime import Detector

COUNT = 40
PRESET = small("edge")


@pytest.fixture(scope="module", autouse=True)
def exported_once() -> Iterator[None]:
    with export_once("builtin", PRESET):
        yield


@pytest.fixture(scope="module")
def part() -> Dataset:
    return dataset(weave(COUNT))


@pytest.fixture
def empty(part: Dataset) -> Kept:
    return gather.begin(part, PRESET, trunk_of("builtin"), seed=3)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accumulate, "BATCH", 8)


class UnpluggedError(Exception):
    pass


def unplugged_after(steps: int) -> object:
    """A progress callback under which the power fails after so many images."""
    seen = [0]

    def advance(count: int) -> None:
        seen[0] += count
        if seen[0] > steps:
            raise UnpluggedError

    return advance


def assert_same_bits(a: Statistics, b: Statistics) -> None:
    assert a.count == b.count
    assert np.array_equal(a.mean, b.mean)
    assert np.array_equal(a.scatter, b.scatter)


def test_an_interrupted_fit_goes_on_to_the_same_bits(part: Dataset, empty: Kept, tmp_path: Path) -> None:
    torn = list(part.good)
    torn[5] = dataclasses.replace(torn[5], read=_torn)
    torn[30] = dataclasses.replace(torn[30], read=_torn)
    whole, unreadable = gather.gather(gather.begin(part, PRESET, trunk_of("builtin"), seed=3), torn)
    assert list(unreadable) == ["5", "30"]
    checkpoint = Checkpoint(tmp_path / "c.npz", seconds=0)
    with pytest.raises(UnpluggedError):
        gather.gather(empty, torn, checkpoint=checkpoint, advance=unplugged_after(20))  # type: ignore[arg-type]
    begun = kept.load(checkpoint.path)
    assert begun.progress is not None
    assert 0 < begun.statistics.count == begun.seen.count < begun.progress.done < COUNT
    again = gather.begin(part, PRESET, trunk_of("builtin"), seed=3)
    steps: list[int] = []
    resumed, still = gather.gather(again, torn, checkpoint=checkpoint, resume=True, advance=steps.append)
    assert_same_bits(resumed.statistics, whole.statistics)
    assert resumed.progress is None
    assert resumed.seen.reference() == whole.seen.reference()
    assert still == unreadable


def _torn() -> None:
    raise ImageError("it is torn")


def test_without_resume_a_checkpoint_is_not_looked_at(part: Dataset, empty: Kept, tmp_path: Path) -> None:
    (tmp_path / "c.npz").write_bytes(b"rubbish")
    found, _ = gather.gather(empty, part.good, checkpoint=Checkpoint(tmp_path / "c.npz"))
    assert found.statistics.count == COUNT


def test_a_finished_fit_may_be_resumed(part: Dataset, empty: Kept, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "c.npz", seconds=0)
    whole, _ = gather.gather(empty, part.good, checkpoint=checkpoint)
    again = gather.begin(part, PRESET, trunk_of("builtin"), seed=3)
    assert_same_bits(
        gather.gather(again, part.good, checkpoint=checkpoint, resume=True)[0].statistics, whole.statistics
    )


def test_a_checkpoint_of_other_images_or_options_is_refused(part: Dataset, empty: Kept, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "c.npz", seconds=0)
    gather.gather(empty, part.good, checkpoint=checkpoint)
    again = gather.begin(part, PRESET, trunk_of("builtin"), seed=3)
    with pytest.raises(PadimEdgeError, match="left by a fit with other images"):
        gather.gather(again, part.good[1:], checkpoint=checkpoint, resume=True)
    with pytest.raises(PadimEdgeError, match="left by a fit with other options"):
        gather.gather(dataclasses.replace(again, graph=b""), part.good, checkpoint=checkpoint, resume=True)
    (tmp_path / "c.npz").write_bytes(b"rubbish")
    with pytest.raises(PadimEdgeError, match="not a readable statistics file"):
        gather.gather(again, part.good, checkpoint=checkpoint, resume=True)


def test_four_shards_add_up_to_one_pass(part: Dataset) -> None:
    def fitted(items: tuple[Item, ...]) -> Kept:
        return gather.gather(gather.begin(part, PRESET, trunk_of("builtin"), seed=3), items)[0]

    whole = fitted(part.good)
    shards = [fitted(part.good[first : first + 10]) for first in range(0, COUNT, 10)]
    total = shards[0]
    for each in shards[1:]:
        total = kept.merge(total, each)
    assert total.statistics.count == COUNT
    assert _away(total.statistics.mean, whole.statistics.mean) < 1e-6
    assert _away(total.statistics.scatter, whole.statistics.scatter) < 1e-6
    assert total.seen.reference() == whole.seen.reference()


def _away(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize("numbers", ["fp32", "fp16", "int8"])
def test_kept_statistics_give_the_model_that_building_gives(part: Dataset, tmp_path: Path, numbers: str) -> None:
    precision = Precision(numbers)
    built = build(part, tmp_path / "a.onnx", PRESET, trunk_of("builtin"), seed=3, precision=precision)
    kept.save(tmp_path / "a.npz", built.kept)
    found = kept.load(tmp_path / "a.npz")
    again = build_from(found, part, tmp_path / "b.onnx")
    assert again.metadata.statistics == built.metadata.statistics == found.statistics.digest()
    assert dataclasses.replace(again.metadata, digests=built.metadata.digests) == built.metadata
    for name in ("a.onnx", "b.onnx"):
        assert Detector.load(tmp_path / name, "cpu").self_test().passed
    frames = np.stack([Detector.load(tmp_path / "a.onnx", "cpu").prepare(image) for image in judged()])
    one, other = (Detector.load(tmp_path / name, "cpu")(frames).patch_distance for name in ("a.onnx", "b.onnx"))
    assert np.array_equal(one, other)


def test_a_few_of_the_images_are_enough_to_calibrate(part: Dataset, tmp_path: Path) -> None:
    built = build(part, tmp_path / "a.onnx", PRESET, trunk_of("builtin"), seed=3)
    some = dataclasses.replace(part, good=part.good[:12])
    again = build_from(built.kept, some, tmp_path / "b.onnx", precision=Precision("fp32", rank=5))
    assert (again.metadata.images, again.metadata.calibration.images, again.metadata.rank) == (COUNT, 12, 5)


def test_what_kept_statistics_cannot_give_is_refused(part: Dataset, tmp_path: Path) -> None:
    built = build(part, tmp_path / "a.onnx", PRESET, trunk_of("builtin"), seed=3)
    with pytest.raises(PadimEdgeError, match="fitted in fp32 for cpu, so the model cannot be in int8"):
        build_from(built.kept, part, tmp_path / "b.onnx", precision=Precision("int8"))
    torn = dataclasses.replace(part, good=(dataclasses.replace(part.good[0], read=_torn),))
    with pytest.raises(PadimEdgeError, match="none of the good images can be read"):
        build_from(built.kept, torn, tmp_path / "b.onnx")
    lonely = dataclasses.replace(built.kept, statistics=dataclasses.replace(built.statistics, count=1))
    with pytest.raises(PadimEdgeError, match="expected at least 2"):
        build_from(lonely, part, tmp_path / "b.onnx")
    assert not (tmp_path / "b.onnx").exists()


def test_images_may_have_any_size() -> None:
    mixed = [Image.fromarray(np.asarray(image)[:70, : 60 + i]) for i, image in enumerate(weave(6))]
    found, unreadable = gather.gather(
        gather.begin(dataset(mixed), PRESET, trunk_of("builtin"), seed=3), dataset(mixed).good
    )
    assert (found.statistics.count, unreadable) == (6, {})
