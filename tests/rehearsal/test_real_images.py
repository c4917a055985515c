"""Rehearsals of models of real parts: blind ones are called blind, seeing ones are not."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import padim_edge
from padim_edge.datasets import from_source
from padim_edge.rehearsal.result import Rehearsal
from padim_edge.rehearsal.verdict import BLIND

SHARED = Path(os.environ.get("PADIM_EDGE_SHARED", Path(__file__).parents[3] / "shared"))
DATA = SHARED / "data" / "mvtec_ad"
WEIGHTS = SHARED / "weights" / "resnet18-imagenet1k-v1-trunk.safetensors"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (DATA.is_dir() and WEIGHTS.is_file()),
        reason=f"needs the real weights and images in {SHARED} (or PADIM_EDGE_SHARED)",
    ),
]


def rehearsed(class_name: str, images: int, folder: Path) -> tuple[Rehearsal, float]:
    """The rehearsal of a model of a few good images, with real defects on its chart; and its true miss rate."""
    dataset = from_source(DATA, class_name)
    chosen = np.sort(np.random.default_rng(0).choice(len(dataset.good), images, replace=False))
    few = replace(dataset, good=tuple(dataset.good[i] for i in chosen))
    fitted = padim_edge.fit(few, "edge", weights=WEIGHTS, progress=False)
    model = fitted.export(folder / f"{class_name}.onnx", progress=False)
    found = padim_edge.rehearse(model, replace(dataset, good=()), defects=dataset, progress=False)
    miss = padim_edge.evaluate(model, dataset, progress=False).miss_rate
    assert miss is not None
    return found, miss


def test_a_model_of_twenty_screws_is_called_blind(tmp_path: Path) -> None:
    """Screws lie at any angle, and a model of positions with 20 of them finds nothing."""
    found, miss = rehearsed("screw", 20, tmp_path)
    assert miss > 0.6
    assert found.level == BLIND


def test_a_model_of_many_bottles_is_not_and_its_chart_foretells(tmp_path: Path) -> None:
    found, miss = rehearsed("bottle", 120, tmp_path)
    assert miss < 0.1
    assert found.level != BLIND
    assert found.foretold is not None
    assert found.foretold.difference is not None
    assert found.foretold.difference <= 0.2  # .15 is promised of the mean over data sets
