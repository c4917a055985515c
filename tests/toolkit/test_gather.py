"""From good images to kept statistics: the same whether interrupted, sharded or whole."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_models import dataset, small, weave

from padim_edge.datasets import Dataset, Item
from padim_edge.gather import Checkpoint, gather
from padim_edge.start import begin
from padim_edge_artifact import ImageError, PadimEdgeError, Statistics
from padim_edge_artifact.kept import Kept, read_kept, write_kept
from padim_edge_artifact.method import Bank, Method
from padim_edge_learn import accumulate
from padim_edge_learn.merge import merge_kept
from padim_edge_model import memory
from padim_edge_model.comparable import reference_of

COUNT = 40
METHOD = small("edge")


def remembering(**bank: object) -> Method:
    """Method of a memory that must choose."""
    return dataclasses.replace(small("free"), bank=Bank(**{"prototypes": 60, **bank}))  # type: ignore[arg-type]


METHODS = {
    "gaussians": METHOD,
    "memory": remembering(),
    "share": remembering(prototypes=None, share=0.02, whitened=False),
    "turned": remembering(turned=True),
}


@pytest.fixture(scope="module")
def part() -> Dataset:
    return dataset(weave(COUNT))


@pytest.fixture
def empty(part: Dataset) -> Kept:
    return begin(part, METHOD)


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


@pytest.mark.parametrize(
    ("kind", "steps"), [("gaussians", 4), *((kind, 20) for kind in METHODS), ("memory", 33), ("turned", 12)]
)
def test_an_interrupted_fit_goes_on_to_the_same_bytes(
    part: Dataset, kind: str, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the middle of a fold whose patches have been thinned before."""
    monkeypatch.setattr(memory, "_BUFFER_IMAGES", 2)
    torn = list(part.good)
    torn[5] = dataclasses.replace(torn[5], read=_torn)
    torn[30] = dataclasses.replace(torn[30], read=_torn)
    whole, unreadable = gather(begin(part, METHODS[kind]), torn)
    assert list(unreadable) == ["images[5]", "images[30]"]
    checkpoint = Checkpoint(tmp_path / "c.npz", seconds=0)
    empty = begin(part, METHODS[kind])
    with pytest.raises(UnpluggedError):
        gather(empty, torn, checkpoint=checkpoint, advance=unplugged_after(steps))  # type: ignore[arg-type]
    if steps < 8:
        assert not checkpoint.path.exists()
    else:
        begun = read_kept(checkpoint.path)
        assert begun.progress is not None
        assert 0 < begun.statistics.count == begun.seen.count < begun.progress.done < COUNT
    again = begin(part, METHODS[kind])
    resumed, still = gather(again, torn, checkpoint=dataclasses.replace(checkpoint, resume=True))
    assert resumed.progress is None
    assert still == unreadable
    for name, kept in (("whole", whole), ("resumed", resumed)):
        write_kept(tmp_path / name, kept)
    assert (tmp_path / "resumed").read_bytes() == (tmp_path / "whole").read_bytes()


def _torn() -> None:
    raise ImageError("it is torn")


def test_without_resume_a_checkpoint_is_not_looked_at(part: Dataset, empty: Kept, tmp_path: Path) -> None:
    (tmp_path / "c.npz").write_bytes(b"rubbish")
    found, _ = gather(empty, part.good, checkpoint=Checkpoint(tmp_path / "c.npz"))
    assert found.statistics.count == COUNT


def test_a_finished_fit_may_be_resumed(part: Dataset, empty: Kept, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "c.npz", seconds=0)
    whole, _ = gather(empty, part.good, checkpoint=checkpoint)
    again = begin(part, METHOD)
    assert_same_bits(
        gather(again, part.good, checkpoint=dataclasses.replace(checkpoint, resume=True))[0].statistics,
        whole.statistics,
    )


def test_a_checkpoint_of_other_images_or_options_is_refused(part: Dataset, empty: Kept, tmp_path: Path) -> None:
    gather(empty, part.good, checkpoint=Checkpoint(tmp_path / "c.npz", seconds=0))
    checkpoint = Checkpoint(tmp_path / "c.npz", seconds=0, resume=True)
    again = begin(part, METHOD)
    with pytest.raises(PadimEdgeError, match="left by a fit with other images"):
        gather(again, part.good[1:], checkpoint=checkpoint)
    with pytest.raises(PadimEdgeError, match="left by a fit with other options"):
        gather(
            dataclasses.replace(again, graph=b""), part.good, checkpoint=dataclasses.replace(checkpoint, resume=True)
        )
    (tmp_path / "c.npz").write_bytes(b"rubbish")
    with pytest.raises(PadimEdgeError, match="not a readable statistics file"):
        gather(again, part.good, checkpoint=checkpoint)


def test_four_shards_add_up_to_one_pass(part: Dataset) -> None:
    def fitted(items: tuple[Item, ...]) -> Kept:
        return gather(begin(part, METHOD), items)[0]

    whole = fitted(part.good)
    shards = [fitted(part.good[first : first + 10]) for first in range(0, COUNT, 10)]
    total = shards[0]
    for each in shards[1:]:
        total = merge_kept(total, each)
    assert total.statistics.count == COUNT
    assert _away(total.statistics.mean, whole.statistics.mean) < 1e-6
    assert _away(total.statistics.scatter, whole.statistics.scatter) < 1e-6
    assert reference_of(total.seen) == reference_of(whole.seen)


def _away(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def test_images_may_have_any_size() -> None:
    mixed = [Image.fromarray(np.asarray(image)[:70, : 60 + i]) for i, image in enumerate(weave(6))]
    found, unreadable = gather(begin(dataset(mixed), METHOD), dataset(mixed).good)
    assert (found.statistics.count, unreadable) == (6, {})
