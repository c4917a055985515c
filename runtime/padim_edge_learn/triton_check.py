"""Send the self-test image of a model to a server, and compare the answer with that of the machine which made it.

`padim-edge package --triton` copies this file beside the model. It needs tritonclient[http] and numpy, and nothing of
padim-edge. It asks any server that speaks version 2 of KServe's protocol.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["main"]


def main(arguments: list[str] | None = None, folder: Path | None = None) -> int:
    """Ask a server, print one line, and return 0 where the answer is right.

    Args:
        arguments: Words of the command line; `None` takes those of the process.
        folder: Folder of the version; `None` takes that of this file.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", default="localhost:8000", help="host and port of the server's HTTP interface")
    url = parser.parse_args(arguments).url
    folder = folder or Path(__file__).resolve().parent
    told = json.loads((folder / "self_test.json").read_text(encoding="utf-8"))
    pixels = np.fromfile(folder.parent / told["image"], np.uint8).reshape(told["shape"])
    try:
        found = _answer(url, told, pixels)
    except Exception as error:  # noqa: BLE001  # the client's own exceptions, and those of its transport
        sys.stderr.write(f"{url} did not judge the self-test image of {told['model']}: {error}\n")
        return 1
    wanted = np.array([told["score"]["expected"], *told["map"]["expected"]], np.float64)
    difference = float(np.max(np.abs(found - wanted) / np.abs(wanted).clip(1e-6)))
    passed = difference <= told["tolerance"]  # False for NaN
    sys.stdout.write(
        f"{'right' if passed else 'WRONG'}: {told['model']} version {told['version']} gives the score {found[0]:.9g}, "
        f"expected {wanted[0]:.9g}; largest relative difference {difference:.3g}, allowed {told['tolerance']:g}\n"
    )
    return 0 if passed else 1


def _answer(url: str, told: dict[str, Any], pixels: np.ndarray) -> np.ndarray:
    """Return the score and the sampled values of the anomaly map that the server gives."""
    from tritonclient import http

    client = http.InferenceServerClient(url)
    try:
        image = http.InferInput(told["input"], list(pixels.shape), "UINT8")
        image.set_data_from_numpy(pixels, binary_data=True)
        wanted = [http.InferRequestedOutput(told[each]["output"], binary_data=True) for each in ("score", "map")]
        answer = client.infer(told["model"], [image], model_version=str(told["version"]), outputs=wanted)
        score, anomaly_map = (answer.as_numpy(told[each]["output"]) for each in ("score", "map"))
    finally:
        client.close()
    if score is None or anomaly_map is None:
        raise ValueError("an output is missing")
    samples = np.asarray(anomaly_map[0])[told["map"]["rows"], told["map"]["columns"]]
    return np.array([np.ravel(score)[0], *samples], np.float64)


if __name__ == "__main__":
    sys.exit(main())
