"""Fixtures and hooks of all tests, without torch and onnx: tests/artifact and tests/runtime run on a device, too."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # one process a core: threads of numpy and torch would wait for each other
    for library in ("OPENBLAS", "OMP", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import golden as golden_files
import pytest

from padim_edge_artifact import PadimEdgeError
from padim_edge_runtime.devices.providers import import_onnxruntime


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="Where the golden models run: cpu, cuda or tensorrt.")


def pytest_report_header(config: pytest.Config) -> list[str]:
    found = []
    for name in ("numpy", "pillow", "onnxruntime", "onnxruntime-gpu", "torch", "onnx"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} not installed")
    try:  # through the runtime, which turns the telemetry off first
        providers = ", ".join(import_onnxruntime().get_available_providers())
    except PadimEdgeError as error:
        providers = f"none ({error})"
    return [", ".join(found), f"providers: {providers}; --device {config.getoption('--device')}"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of a file share what they made and go to one process; where there are many backbones, those of one do."""
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        backbone = getattr(item, "callspec", None) and item.callspec.params.get("backbone")
        group = f"{item.path.parent.name}-{item.path.stem}" + (
            f"-{backbone.partition(':')[0]}" if isinstance(backbone, str) else ""
        )
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> str:
    """Device that runs the golden models."""
    return str(request.config.getoption("--device"))


@pytest.fixture(scope="session", autouse=True)
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """TensorRT's engines, where there is a TensorRT, are kept there and not beside the golden models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PADIM_EDGE_CACHE", str(tmp_path_factory.mktemp("engines")))
        yield


@pytest.fixture(scope="session")
def golden() -> Path:
    """A model in one file; 64 x 64, whole frame. Made by tests/make_golden.py."""
    return golden_files.WHOLE


@pytest.fixture(scope="session")
def golden_data() -> Path:
    """A model with its constants in a data file; 64 x 48 cropped out of 72 x 80."""
    return golden_files.CROPPED
