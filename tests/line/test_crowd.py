"""Images that wait have a core each, and the distances of a single image bit for bit."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import golden
import numpy as np
import pytest
from kserve_requests import frame

from padim_edge_line import crowd
from padim_edge_line.config import ProductConfig
from padim_edge_line.crowd import Crowd
from padim_edge_line.products import Product, load
from padim_edge_runtime.detector import Detector


@pytest.fixture(autouse=True)
def loads(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """Threads of each model that a crowd loads, on a machine with cores for it."""
    found: list[int | None] = []
    real = Detector.load

    def counted(*given: Any, threads: int | None = None, **others: Any) -> Detector:
        found.append(threads)
        return real(*given, threads=threads, **others)

    monkeypatch.setattr(crowd.Detector, "load", counted)
    monkeypatch.setattr(crowd, "cores", lambda: 4)
    return found


def product(folder: Path, threads: int | None = 2) -> Product:
    model = golden.copy(golden.WHOLE, folder)
    return load(ProductConfig(name="bottle", model=model, device="cpu"), model, threads)


def test_an_image_that_is_alone_has_all_cores(loads: list[int | None], tmp_path: Path) -> None:
    made = product(tmp_path)
    loads.clear()
    judge = Crowd(made, lambda: 1)
    np.testing.assert_array_equal(judge(frame(1)).anomaly_map, made.detector(frame(1)).anomaly_map)
    assert not loads


def test_many_images_have_one_core_each_and_the_same_bits(loads: list[int | None], tmp_path: Path) -> None:
    made = product(tmp_path)
    loads.clear()
    judge, frames = Crowd(made, lambda: 8), [frame(seed) for seed in range(24)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda each: judge(each, threshold=2.5), frames))
    assert loads == [1], "the model is loaded once more, however many ask for it"
    for each, image in zip(found, frames, strict=True):
        alone = made.detector(image, threshold=2.5)
        for name in ("score", "anomaly_map", "patch_distance", "p_value", "anomalous"):
            np.testing.assert_array_equal(getattr(each, name), getattr(alone, name))


@pytest.mark.parametrize("threads", [1, 2])
def test_where_a_second_model_gains_nothing_there_is_none(
    loads: list[int | None], tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = product(tmp_path, threads)
    if threads == 2:
        monkeypatch.setattr(crowd, "cores", lambda: 1)
    loads.clear()
    Crowd(made, lambda: 8)(frame(1))
    assert not loads


def test_other_values_or_another_file_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made, wanted = product(tmp_path), frame(1)
    expected = made.detector(wanted)

    class Other:
        metadata = made.detector.metadata

        def __call__(self, images: Any, *, threshold: float | None = None) -> Any:
            found = made.detector(images, threshold=threshold)
            return replace(found, anomaly_map=np.nextafter(found.anomaly_map, np.float32(np.inf)))

    monkeypatch.setattr(crowd.Detector, "load", lambda *_, **__: Other())
    judge = Crowd(made, lambda: 8)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            np.testing.assert_array_equal(judge(wanted).anomaly_map, expected.anomaly_map)
    assert len(caplog.records) == 1
    assert "gives other values" in caplog.text


def test_a_model_that_is_gone_or_replaced_goes_on_as_it_was_loaded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = product(tmp_path)
    expected = made.detector(frame(1)).anomaly_map
    made.model.unlink()
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(Crowd(made, lambda: 8)(frame(1)).anomaly_map, expected)
    assert "images of bottle that wait share the cores" in caplog.text
    golden.copy(golden.CROPPED, tmp_path).rename(made.model)  # another model under the same name
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(Crowd(made, lambda: 8)(frame(1)).anomaly_map, expected)
    assert "has changed since" in caplog.text
