"""Engines of TensorRT that another user may have put there are passed over, and the work goes on without them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import fake_onnxruntime
import golden as files
import pytest

from padim_edge_artifact import DeviceError
from padim_edge_runtime import Detector
from padim_edge_runtime.devices import engines
from padim_edge_runtime.devices.tensorrt import Batches
from padim_edge_runtime.devices.warm import warm

pytestmark = pytest.mark.skipif(os.name != "posix", reason="owners and modes of Unix")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return files.copy(files.CROPPED, tmp_path / "models")


@pytest.fixture
def ort(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    return fake_onnxruntime.with_tensorrt(monkeypatch, tmp_path / "cache")


def built(root: Path) -> list[Path]:
    return sorted(path.relative_to(root) for path in root.rglob("*.engine"))


@pytest.mark.parametrize("which", ["root", "key", "engine"])
@pytest.mark.parametrize("how", ["group", "others", "owner"])
def test_engines_that_others_may_have_put_there_are_not_loaded(
    ort: Any, model: Path, tmp_path: Path, which: str, how: str
) -> None:
    """An engine is as good as a program. The user's own cache is taken instead, and the reason is told."""
    Detector.load(model, "tensorrt")
    root, own = engines.roots(model)
    assert own.is_relative_to(tmp_path / "cache")
    engine = root / built(root)[0]
    folder = {"root": root, "key": engine.parent.parent, "engine": engine.parent}[which]
    if how == "owner":
        if os.geteuid() != 0:
            pytest.skip("only root can give a folder away")
        os.chown(folder, 65534, 65534)
    else:
        folder.chmod(0o775 if how == "group" else 0o757)
    told: list[str] = []
    Detector.load(model, "tensorrt", tell=told.append)
    assert sum(f"engines in {folder} are not used" in sentence for sentence in told) == 1
    assert len(built(own)) == 1
    warm(model, Batches())
    assert sum(ort.builds.values()) == 2, "the user's own engine is found again"


def test_no_mask_of_the_user_makes_engines_that_others_can_write_to(ort: Any, model: Path) -> None:
    assert ort
    before = os.umask(0)
    try:
        Detector.load(model, "tensorrt")
    finally:
        os.umask(before)
    found = [path for path in engines.roots(model)[0].rglob("*") if path.is_dir()]
    assert found
    assert not [path for path in (engines.roots(model)[0], *found) if path.stat().st_mode & 0o022]


def test_where_every_folder_is_open_to_others_warm_says_why(
    ort: Any, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ort
    (shared := tmp_path / "shared").mkdir()
    shared.chmod(0o777)
    monkeypatch.setenv(engines.CACHE_VARIABLE, str(shared))
    with pytest.raises(DeviceError, match="can be written to by other users; correct its owner and mode"):
        warm(model, Batches())
    told: list[str] = []
    assert Detector.load(model, "tensorrt", tell=told.append).device == "tensorrt"
    assert not list(shared.iterdir())
    assert "engines in" in told[0]
    assert "every time" in told[1]
