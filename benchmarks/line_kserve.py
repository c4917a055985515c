"""Requests of the Open Inference Protocol to `padim-edge serve` from eight clients, against a Detector in a loop.

    python -m benchmarks.line_kserve --model bottle.onnx --images DIR --json benchmarks/results/line_kserve.json

The service is the real process. Each client is a process with one connection, sends one image in the model's frame at a
time in binary, and wants the score. Detector and clients take turns, several times, since machines change their speed.
The clients share the processor with the service. Without `--model` and `--images`, the tests' small model and drawn
images are taken; its requests take longer than its model, so only larger models say something about the target.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # where the small models are

import golden
import httpx
import numpy as np

from benchmarks import report
from benchmarks.line_serving import service
from padim_edge_runtime import image_search
from padim_edge_runtime.detector import Detector

SHARE, TAIL, CLIENTS = 0.95, 3.0, 8
"""Promises: requests a second as a share of the Detector's images a second, p99 as a multiple of p50; and the number of
clients that they are about."""
_FRAMES = 16


@dataclass(frozen=True)
class Told:
    """Answers to one client."""

    ms: list[float]
    """Milliseconds of each request."""
    scores: list[tuple[int, float]]
    """Number of the frame and its score."""
    refused: int
    """Number of requests that were answered with 429."""


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.line_kserve", description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=golden.WHOLE, help="model to serve")
    parser.add_argument("--images", type=Path, metavar="DIR", help="images to send; otherwise noise")
    parser.add_argument("--clients", type=int, default=CLIENTS, help="number of clients")
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds of each turn")
    parser.add_argument("--turns", type=int, default=5, help="number of turns of each side")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args()
    environment = report.probe(("onnxruntime", "starlette", "uvicorn", "h11"), threads=None)
    report.print_header("kserve", environment)
    results = run(options)
    for each in results:
        print(json.dumps(each))
    targets = targets_of(results)
    report.print_targets(targets)
    settings = {key: getattr(options, key) for key in ("clients", "seconds", "turns")}
    report.write_json(options.json, "line_kserve", environment, settings, results, targets)


def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Let the Detector and the clients take turns."""
    detector = Detector.load(options.model)
    frames = frames_of(detector, options.images)
    expected = [float(detector(each).score[0]) for each in frames]
    results: list[dict[str, Any]] = []
    with (
        tempfile.TemporaryDirectory() as name,
        ProcessPoolExecutor(options.clients) as pool,
        service(Path(name) / "line", [options.model]) as running,
    ):
        url = httpx.URL(running.url)
        bodies = [body(each, detector) for each in frames]
        given = (str(url.host), int(url.port or 0), bodies)
        list(pool.map(client, *zip(*[(*given, 0.5, i) for i in range(options.clients)], strict=True)))
        for turn in range(options.turns):
            alone = looped(detector, frames, options.seconds)
            start = time.perf_counter()
            turns = [(*given, options.seconds, i) for i in range(options.clients)]
            told = list(pool.map(client, *zip(*turns, strict=True)))
            took = time.perf_counter() - start
            ms = [each for one in told for each in one.ms]
            results.append(
                {
                    "turn": turn,
                    "detector_per_s": round(alone, 2),
                    "served_per_s": round(len(ms) / took, 2),
                    "p50_ms": round(float(np.quantile(ms, 0.5)), 2),
                    "p99_ms": round(float(np.quantile(ms, 0.99)), 2),
                    "refused": sum(one.refused for one in told),
                    "other_scores": sum(score != expected[i] for one in told for i, score in one.scores),
                }
            )
    return results


def frames_of(detector: Detector, folder: Path | None) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """Return images in the model's frame."""
    if folder is not None:
        return [detector.prepare(path) for path in image_search.search(folder).files[:_FRAMES]]
    shape = (*detector.metadata.input_size, 3)
    return [np.random.default_rng(seed).integers(0, 256, shape, np.uint8) for seed in range(_FRAMES)]


def looped(detector: Detector, frames: list[Any], seconds: float) -> float:
    """Return the images a second of a Detector in a loop."""
    count, start = 0, time.perf_counter()
    while (took := time.perf_counter() - start) < seconds:
        detector(frames[count % len(frames)])
        count += 1
    return count / took


def body(frame: np.ndarray[Any, np.dtype[np.uint8]], detector: Detector) -> tuple[bytes, int]:
    """Return the body of a request, and the bytes of JSON in it."""
    tensor = {
        "name": detector.metadata.preprocessing.input_name,
        "datatype": "UINT8",
        "shape": [1, *frame.shape],
        "parameters": {"binary_data_size": frame.nbytes},
    }
    text = json.dumps({"inputs": [tensor], "outputs": [{"name": "score"}]}).encode()
    return text + frame.tobytes(), len(text)


def client(host: str, port: int, bodies: list[tuple[bytes, int]], seconds: float, first: int) -> Told:
    """Send one request after the other for some seconds."""
    connection = http.client.HTTPConnection(host, port, timeout=60)
    ms, scores, refused, number = list[float](), list[tuple[int, float]](), 0, first
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        content, length = bodies[number % len(bodies)]
        start = time.perf_counter()
        connection.request("POST", "/v2/models/p0/infer", content, {"Inference-Header-Content-Length": str(length)})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status == 429:
            refused += 1
            connection.close()
            continue
        assert answer.status == 200, text
        ms.append(1e3 * (time.perf_counter() - start))
        scores.append((number % len(bodies), json.loads(text)["outputs"][0]["data"][0]))
        number += 1
    connection.close()
    return Told(ms, scores, refused)


def targets_of(results: list[dict[str, Any]]) -> list[report.Target]:
    """Compare with the promises."""
    share = median(each["served_per_s"] / each["detector_per_s"] for each in results)
    tail = median(each["p99_ms"] / each["p50_ms"] for each in results)
    return [
        report.Target("requests a second against a Detector in a loop, median", SHARE, round(share, 3), False),
        report.Target("p99 as a multiple of p50, median", TAIL, round(tail, 2), True),
        report.Target("other scores", 0, sum(each["other_scores"] for each in results), True),
    ]


if __name__ == "__main__":
    main()
