"""Metadata with every field filled, and small models and statistics around them: what attacks begin with."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np

from padim_edge_artifact import Metadata, Preprocessing
from padim_edge_artifact.calibration import Calibration
from padim_edge_artifact.combination import REHEARSED, Combination
from padim_edge_artifact.metadata import Backbone, Digests, PastThreshold, Reduction, SelfTest, to_json
from padim_edge_artifact.method import Bank, Method, Precision
from padim_edge_artifact.reference import Reference

__all__ = ["COMPLETE", "as_json"]

_FRAME = Preprocessing((72, 80), (64, 48), "binned-bicubic", (480, 640), (0.0, 1023.0))
_SHARED: dict[str, Any] = {"seed": 7, "pooling": 3, "pool_patches": False, "ridge": 0.003, "sigma": 1.0}
_MEMORY = Method("free", _FRAME, "toy", ("b",), "random", dims=4, shares=(1.0,), bank=Bank(20), **_SHARED)
_PLANE = base64.b64encode(bytes(range(12))).decode()
_SCORES = Calibration(3, (1.0, 2.0, 3.5))

COMPLETE = Metadata(
    class_name="bottle",
    created_by="padim-edge 0.2.0",
    method=Method(
        "auto",
        _FRAME,
        "toy",
        ("a", "b"),
        "random",
        dims=6,
        shares=(0.5, 0.5),
        precision=Precision("fp32", "cpu", 3),
        beside=_MEMORY,
        **_SHARED,
    ),
    backbone=Backbone((4, 8), "drawn", "0f" * 32, "Apache-2.0"),
    reduction=Reduction((0, 2, 3, 5, 7, 11), (3, 3)),
    grid=(4, 3),
    images=30,
    threshold=4.5,
    threshold_rule="good images",
    false_alarm_rate=0.01,
    extrapolated=True,
    calibration=_SCORES,
    reference=Reference(_PLANE, (90.0, 110.0), (20.0, 30.0), 2, _PLANE, (0.6, 0.0, 0.6), 3.0),
    roi=(100, 64 * 48 - 100),
    digests=Digests("ab" * 32, "cd" * 32, "bottle.onnx.0123abcd.data", 4096),
    self_test=SelfTest(3.25, (1.0, 2.0) * 8, 0.001),
    revision=2,
    parent="ef" * 32,
    statistics="fa" * 32,
    independent=29,
    fingerprints=base64.b64encode(zlib.compress(np.arange(30 * 64, dtype="<u2").tobytes())).decode(),
    drift=1.25,
    history=(PastThreshold(4.0, "good images", 0.05, "2026-11-30", "recalibrate", _SCORES),),
    prototypes=20,
    combination=Combination(0.5, (1.0, 2.0), REHEARSED, 30, 20, (0.9, 0.8), 0.25),
)
"""A model of both kinds of distance after an update, every optional field given."""


def as_json(metadata: Metadata = COMPLETE) -> dict[str, Any]:
    """Return metadata as the object that a file holds."""
    content = json.loads(to_json(metadata))
    assert isinstance(content, dict)
    return content
