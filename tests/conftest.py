"""Fixtures and hooks of all tests, without torch and onnx: tests/artifact and tests/runtime run on a device, too."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # one process a core: threads of numpy and torch would wait for each other
    for library in ("OPENBLAS", "OMP", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

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


_BACKBONE = re.compile(r"[\[-](builtin|[a-z_]*(?:net|mnas|vgg|inception|convnext)[a-z0-9_]*)[\]:-]")
"""Name of a backbone among the parameters in a test's id."""


@pytest.hookimpl(optionalhook=True)  # xdist need not be there
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Send tests that share what they made to one process: those of a file, or of a backbone in all files of a folder.

    They go in the order in which they are collected, so that the long ones of tests/export are not the last.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFileOrBackbone(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    config.option.loadscopereorder = False
    return ByFileOrBackbone(config, log)


def group_of(nodeid: str) -> str:
    """Return the file of a test; or, if there is a backbone in its id, that and the folder."""
    file, _, test = nodeid.partition("::")
    found = _BACKBONE.search(test)
    return f"{file.rpartition('/')[0]} {found[1]}" if found else file


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
