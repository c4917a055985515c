"""What a fit needs is told before it begins, and refused where it cannot fit."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_models import dataset, export_once, small, trunk_of, weave

from padim_edge import gather, plan
from padim_edge.build import build
from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.kept import Kept
from padim_edge_model.precision import Precision

PRESET = small("edge")
PART = dataset(weave(12))
GB = 10**9


@pytest.fixture(scope="module")
def empty() -> Kept:
    with export_once("builtin", PRESET):
        return gather.begin(PART, PRESET, trunk_of("builtin"), seed=3)


def test_the_statistics_are_told_to_the_byte(empty: Kept) -> None:
    found = plan.needs(empty, Precision(), 12)
    statistics = empty.statistics
    assert found.statistics == statistics.mean.nbytes + statistics.scatter.nbytes
    assert (found.patches, found.dims) == (len(statistics.mean), statistics.dims)
    assert found.memory > found.statistics + found.model


@pytest.mark.parametrize("precision", [Precision(), Precision("fp16"), Precision("int8"), Precision(rank=4)], ids=str)
def test_a_model_takes_no_more_than_was_told(tmp_path: Path, precision: Precision) -> None:
    told: list[str] = []
    with export_once("builtin", PRESET):
        built = build(
            PART, tmp_path / "m.onnx", PRESET, trunk_of("builtin"), seed=3, precision=precision, tell=told.append
        )
        start = gather.begin(PART, PRESET, trunk_of("builtin"), seed=3, precision=precision)
    found = plan.needs(start, precision, 12)
    assert 0.3 * found.model < built.bytes <= found.model
    assert told == [str(found)]
    assert told[0].startswith("needs about ")


def test_what_does_not_fit_into_memory_is_refused_before_the_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "available_memory", lambda: 300_000_000)
    with (
        export_once("builtin", PRESET),
        pytest.raises(PadimEdgeError, match=r"needs about .* MB of memory .* 300 MB of memory are free here; .*--dims"),
    ):
        build(PART, tmp_path / "m.onnx", PRESET, trunk_of("builtin"), seed=3)
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_onto_the_disk_is_refused(
    empty: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda _: room._replace(free=1000))
    with pytest.raises(PadimEdgeError, match=r"free on the disk .* --rank"):
        plan.require(plan.needs(empty, Precision(), 12), tmp_path / "m.onnx")


def test_where_nobody_says_how_much_is_free_nothing_is_refused(
    empty: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "available_memory", lambda: None)
    huge = dataclasses.replace(plan.needs(empty, Precision(), 12), memory=10**15)
    plan.require(huge, tmp_path / "m.onnx")


def test_the_paper_s_widest_model_is_told_truly(empty: Kept) -> None:
    """WR50-Rd550 at 224: 3136 patches of 550 dimensions, 3.8 GB in float32 (Table VIII), 7.6 in float64."""
    shape = dataclasses.replace(plan.needs(empty, Precision(), 12), statistics=8 * 3136 * 550 * 551, memory=12 * GB)
    assert "12.0 GB of memory (7.6 GB of them statistics" in str(shape)


def test_this_machine_s_free_memory_is_read() -> None:
    found = plan.available_memory()
    if found is None:
        pytest.skip("this system does not say how much memory is free")
    assert 10**7 < found < 10**14


def test_a_container_s_limit_counts(tmp_path: Path) -> None:
    for name, text in (("memory.max", "1000\n"), ("memory.current", "700\n"), ("memory.stat", "inactive_file 200\n")):
        (tmp_path / name).write_text(text)
    assert plan._of_container(tmp_path) == 500
    (tmp_path / "memory.max").write_text("max\n")
    assert plan._of_container(tmp_path) is None
    assert plan._of_container(tmp_path / "none") is None
    (tmp_path / "meminfo").write_text("MemTotal: 10 kB\nMemAvailable:    7 kB\n")
    assert plan._of_machine(tmp_path / "meminfo") == 7 * 1024
    (tmp_path / "meminfo").write_text("nonsense")
    assert plan._of_machine(tmp_path / "meminfo") is None


def test_activations_grow_with_the_frame(empty: Kept) -> None:
    wide = dataclasses.replace(PRESET, preprocessing=dataclasses.replace(PRESET.preprocessing, resize=(128, 128)))
    larger = gather.begin(PART, wide, trunk_of("builtin"), seed=3)
    ratio = np.divide(*(plan._largest_activation(plan.of_kept(each)) for each in (larger, empty)))
    assert ratio == pytest.approx(4, rel=0.05)
