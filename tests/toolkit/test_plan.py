"""The needs of a fit are told before it begins, and refused where they do not fit."""

from __future__ import annotations

import dataclasses
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from small_models import dataset, fitted, rounded_to_nearest, small, weave

from padim_edge import plan
from padim_edge.fitted import ExportOptions, fit_dataset
from padim_edge.gather import gather
from padim_edge.start import begin
from padim_edge_artifact import Memory, PadimEdgeError
from padim_edge_artifact.kept import Kept
from padim_edge_artifact.method import Bank, Method, Precision
from padim_edge_model.memory import nearest_of
from padim_edge_runtime.progress import SILENT, Feedback

METHOD = small("edge")
PART = dataset(weave(12))
GB = 10**9
ENGINES = 10**8
"""Bytes that are planned for engines on small frames, at most."""


def remembering() -> Method:
    """A memory on small frames."""
    return dataclasses.replace(small("free"), bank=Bank(prototypes=300))


@pytest.fixture(scope="module")
def empty() -> Kept:
    return begin(PART, METHOD)


def test_the_statistics_are_told_to_the_byte(empty: Kept) -> None:
    found = plan.needs(empty, Precision(), 12)
    statistics = empty.statistics
    assert found.statistics == statistics.mean.nbytes + statistics.scatter.nbytes
    assert (found.patches, found.dims) == (len(statistics.mean), statistics.dims)
    assert found.memory > found.statistics + found.model


@pytest.mark.parametrize("precision", [Precision(), Precision("fp16"), Precision("int8"), Precision(rank=4)], ids=str)
def test_a_model_takes_no_more_than_was_told(tmp_path: Path, precision: Precision) -> None:
    told: list[str] = []
    method = small("edge", precision=precision)
    with rounded_to_nearest():
        found = fit_dataset(PART, method, feedback=Feedback(SILENT.report, told.append))
    model = found.export_with(tmp_path / "m.onnx", ExportOptions(), SILENT)
    needed = plan.needs(found.kept, precision, 12)
    assert 0.3 * needed.model < model.bytes <= needed.model
    assert told == [str(needed)]
    assert told[0].startswith("needs about ")


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("bank", [Bank(prototypes=50), Bank(prototypes=None, share=0.9)], ids=["few", "most"])
def test_the_memory_of_prototypes_is_told_at_most_a_few_times_too_large(bank: Bank, *, turned: bool) -> None:
    """Counted by numpy's own allocations while candidates and prototypes are chosen; engines and torch come on top."""
    method = dataclasses.replace(remembering(), bank=dataclasses.replace(bank, turned=turned))
    empty = begin(PART, method)
    needed = plan.needs(empty, Precision(), 12)
    tracemalloc.start()
    try:
        kept, _ = gather(empty, PART.good)
        assert isinstance(kept.statistics, Memory)
        form = nearest_of(kept.statistics, method)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    memory = kept.statistics
    held = memory.mean.nbytes + memory.scatter.nbytes + sum(each.nbytes for each in (*memory.vectors, *memory.weights))
    assert held <= needed.statistics <= 1.5 * held
    assert len(form.prototypes) <= (needed.prototypes or 0)
    assert peak <= needed.memory - plan._PROGRAM <= ENGINES + 3 * peak


def test_candidates_of_many_images_are_told_by_their_share() -> None:
    """A number of prototypes stays the same; a share of the patches grows with the images."""
    empty = begin(PART, remembering())
    number, share = Bank(prototypes=50), Bank(prototypes=None, share=0.1)

    def told(bank: Bank, images: int) -> plan.Needs:
        method = dataclasses.replace(empty.recipe.method, bank=bank)
        return plan.needs(
            dataclasses.replace(empty, recipe=dataclasses.replace(empty.recipe, method=method)), Precision(), images
        )

    assert told(number, 1000).statistics == told(number, 10_000).statistics
    assert told(share, 10_000).statistics == pytest.approx(10 * told(share, 1000).statistics, rel=0.05)
    assert told(share, 10_000).prototypes == pytest.approx(10 * (told(share, 1000).prototypes or 0))
    assert told(share, 10_000).model > 5 * told(share, 1000).model


def test_what_does_not_fit_into_memory_is_refused_before_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def gather(*_: object, **__: object) -> None:
        raise AssertionError("the fit has begun")

    monkeypatch.setattr(plan, "available_memory", lambda: 300_000_000)
    monkeypatch.setattr("padim_edge.fitted.gather", gather)
    with pytest.raises(
        PadimEdgeError, match=r"needs about .* GB of memory .* 300 MB of memory are free here; .*--dims.*--layers"
    ):
        fitted(PART, METHOD)
    with pytest.raises(
        PadimEdgeError, match=r"candidates for prototypes with 20 dim.* are free here; .*--dims.* fewer --prototypes"
    ) as refused:
        fitted(PART, remembering())
    assert "--layers" not in str(refused.value)


def test_what_does_not_fit_onto_the_disk_is_refused_before_the_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gather(*_: object, **__: object) -> None:
        raise AssertionError("the fit has begun")

    room = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda _: room._replace(free=1000))
    monkeypatch.setattr("padim_edge.fitted.gather", gather)
    with pytest.raises(PadimEdgeError, match=r"free on the disk .* --rank"):
        fit_dataset(PART, METHOD, room_for=plan.Outputs(tmp_path / "m.onnx"), feedback=SILENT)
    with pytest.raises(PadimEdgeError, match=r"free on the disk .* --precision int8, .* --prototypes") as refused:
        fit_dataset(PART, remembering(), room_for=plan.Outputs(tmp_path / "m.onnx"), feedback=SILENT)
    assert "--rank" not in str(refused.value)


def test_what_does_not_fit_onto_the_disk_is_refused(
    empty: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda _: room._replace(free=1000))
    with pytest.raises(PadimEdgeError, match=r"free on the disk .* --rank"):
        plan.require_room(plan.needs(empty, Precision(), 12), plan.Outputs(tmp_path / "m.onnx"))


def test_where_nobody_says_how_much_is_free_nothing_is_refused(empty: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "available_memory", lambda: None)
    huge = dataclasses.replace(plan.needs(empty, Precision(), 12), memory=10**15)
    plan.require_memory(huge)


def test_the_paper_s_widest_model_is_told_truly(empty: Kept) -> None:
    """WR50-Rd550 at 224: 3136 patches of 550 dimensions, 3.8 GB in float32 (Table VIII), 7.6 in float64."""
    shape = dataclasses.replace(plan.needs(empty, Precision(), 12), statistics=8 * 3136 * 550 * 551, memory=12 * GB)
    assert "12.0 GB of memory (7.6 GB of them statistics" in str(shape)


def test_activations_grow_with_the_frame(empty: Kept) -> None:
    wide = dataclasses.replace(METHOD, preprocessing=dataclasses.replace(METHOD.preprocessing, resize=(128, 128)))
    larger = begin(PART, wide)
    ratio = np.divide(*(plan._largest_activation(plan.of_kept(each)) for each in (larger, empty)))
    assert ratio == pytest.approx(4, rel=0.05)
