"""Fit on the built-in sample and export a model: python examples/fit_and_export.py [FOLDER]."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import padim_edge


def main() -> None:
    """Write FOLDER/bottle.onnx, and the statistics beside it."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="padim-edge-"))
    folder.mkdir(parents=True, exist_ok=True)

    method = padim_edge.preset("edge", backbone="builtin", dims=50, size=128)
    fitted = padim_edge.fit(None, method, class_name="bottle")  # None: the sample; else a folder, paths or arrays
    fitted.save(folder / "bottle.npz")
    model = fitted.export(folder / "bottle.onnx", false_alarm_rate=0.01)

    print(f"fitted on {fitted.images} good images")
    print(f"{model.path}: {model.bytes / 1e6:.1f} MB, threshold {model.threshold:.2f}")


if __name__ == "__main__":
    main()
