"""TensorRT's own parser and builder take what we emit, and agree with the rule table. No GPU is needed: trt_rtx.py."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from padim_edge_artifact import read_metadata

pytestmark = pytest.mark.slow

KERNELS = 4_000_000
"""Bytes of compiled operators in an engine, which small models do not outweigh."""


def test_tensorrt_builds_every_kind_of_model_that_we_emit(judge, emitted: Path) -> None:
    (verdict,) = judge([emitted])
    assert verdict.built, verdict
    assert not verdict.errors


def test_tensorrt_builds_a_model_of_the_usual_size(judge, emitted_whole: Path) -> None:
    (verdict,) = judge([emitted_whole])
    assert verdict.built, verdict
    assert not verdict.errors
    stored = sum(path.stat().st_size for path in emitted_whole.parent.iterdir())
    # No constant of the Gaussians was widened, and no int8 prototype; that would make the engine three to four times as
    # large. Prototypes in float16 become float32 in every engine, because the squares of distances need it.
    assert verdict.engine_bytes < 1.5 * stored + KERNELS


def test_the_rule_table_and_tensorrt_accept_the_same(verdicts, accepted) -> None:
    assert verdicts[accepted].built, verdicts[accepted]
    assert not verdicts[accepted].errors


def test_the_rule_table_and_tensorrt_refuse_the_same(verdicts, refused) -> None:
    verdict = verdicts[refused]
    assert not verdict.built
    assert verdict.errors
    assert verdict.errors[0].op in ("", refused.op)  # the builder, and the import of constants, name none


def test_this_tensorrt_takes_what_only_the_older_one_refuses(verdicts, narrower) -> None:
    """If this fails, move the example to those that both refuse."""
    assert verdicts[narrower].built


def test_a_missing_data_file_is_refused(judge, emitted: Path, tmp_path: Path) -> None:
    """This shows that the constants really are read."""
    if read_metadata(emitted).digests.data_file is None:
        pytest.skip("all of its constants are in the model")
    shutil.copy(emitted, tmp_path / "weave.onnx")
    (verdict,) = judge([tmp_path / "weave.onnx"])
    assert not verdict.parsed
    assert "Failed to import initializer" in verdict.errors[0].reason


def test_a_missing_model_is_refused(judge, tmp_path: Path) -> None:
    (verdict,) = judge([tmp_path / "none.onnx"])
    assert not verdict.parsed
    assert "none.onnx" in verdict.errors[0].reason
