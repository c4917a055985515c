"""Jetson boards: model, JetPack, and the source of their onnxruntime. Nothing here has been tried on a board."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Jetson", "capability_of", "find"]

_RELEASE = re.compile(r"#\s*R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)")

_JETPACKS = {35: "5", 36: "6", 38: "7", 39: "7"}
"""Major version of JetPack by major version of Jetson Linux."""

_CUDA = {"5": 11, "6": 12, "7": 13}
"""Major version of CUDA by major version of JetPack."""

_SOURCES = {
    "5": "build onnxruntime-gpu from source, or move to JetPack 6; this padim-edge needs Python 3.10",
    "6": "install onnxruntime-gpu from the Jetson AI Lab index, path jp6/cu126, for Python 3.10",
    "7": "install onnxruntime-gpu from the Jetson AI Lab index, path sbsa/cu13x, or build it from source with "
    "CMAKE_CUDA_ARCHITECTURES={architecture}; the wheel on PyPI has no kernels for this board",
}

_BOARDS = (("thor", "11.0"), ("orin", "8.7"), ("xavier", "7.2"), ("nano", "5.3"), ("tx2", "6.2"))
"""Compute capability by a word in the model's name."""


@dataclass(frozen=True)
class Jetson:
    """One board."""

    model: str
    """Name of the model, such as `NVIDIA Jetson Orin NX`."""
    release: str
    """Version of Jetson Linux, such as 36.4.3."""
    jetpack: str | None
    """Major version of JetPack; `None` where it is not known."""

    @property
    def capability(self) -> str | None:
        """Compute capability, such as 8.7; `None` where it is not known."""
        return capability_of(self.model)

    @property
    def cuda(self) -> int | None:
        """Major version of CUDA; `None` where it is not known."""
        return _CUDA.get(self.jetpack or "")

    @property
    def source(self) -> str:
        """Source of an onnxruntime for the board, in words."""
        if self.jetpack is None:
            return "find the onnxruntime-gpu that was built for its JetPack; wheels on PyPI have no kernels for Jetsons"
        return _SOURCES[self.jetpack].format(architecture=(self.capability or "87").replace(".", ""))


def find(root: Path = Path("/")) -> Jetson | None:
    """Find the board that this machine is; `None` where it is no Jetson.

    Args:
        root: Folder that holds `etc` and `proc`; another one for tests.
    """
    text, model = _read(root / "etc/nv_tegra_release"), _read(root / "proc/device-tree/model").strip("\0\n ")
    if not text and "jetson" not in model.lower():  # a container has the board's name only
        return None
    found = _RELEASE.search(text)
    release = f"{found[1]}.{found[2]}" if found else "unknown"
    model = model or "Jetson"
    return Jetson(model, release, _JETPACKS.get(int(found[1])) if found else None)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def capability_of(model: str) -> str | None:
    """Look up the compute capability of a board by its name; `None` where it is not known."""
    return next((capability for word, capability in _BOARDS if word in model.lower()), None)
