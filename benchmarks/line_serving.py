"""The page's process: posts against a Detector, changes of recipe, start and stop, size of the extra.

    python -m benchmarks.line_serving --model bottle.onnx --images DIR --json benchmarks/results/line_serving.json

All of it runs as the real process, `padim-edge run`. Without `--model` and `--images`, the tests' small model and drawn
images are taken, which are judged in less time than a row takes to write.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # where the small models and images are

import golden
import httpx
import numpy as np
from PIL import Image

from benchmarks import report
from padim_edge_runtime import image_search
from padim_edge_runtime.detector import Detector

LATER_MS, SWITCH_MS, READY_S, STOP_S, EXTRA_MB = 5.0, 50.0, 2.0, 2.0, 60.0
"""Promises."""
_SETTLE = 20
"""Requests before the times count."""
_APART_S = 0.15
"""Seconds between two images: parts come one by one, and the service draws a picture after its answer."""


@dataclass(frozen=True)
class Service:
    """A running service."""

    url: str
    """Address of the page."""
    token: str
    """Token for changes."""
    ready_s: float
    """Seconds from the start of the process to the first answer that it is ready."""
    process: subprocess.Popen[bytes]
    """The process."""


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.line_serving", description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=golden.WHOLE, help="model to serve")
    parser.add_argument("--images", type=Path, metavar="DIR", help="images to post")
    parser.add_argument("--posts", type=int, default=300, help="number of posts, and of inspections beside them")
    parser.add_argument("--switches", type=int, default=200, help="number of changes of recipe among four products")
    parser.add_argument("--starts", type=int, default=10, help="number of starts and stops")
    parser.add_argument("--size", action="store_true", help="also install the extra into a new environment (network)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args()
    environment = report.probe(("onnxruntime", "pillow", "starlette", "uvicorn"), threads=None)
    report.print_header("serving", environment)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = list(image_search.search(options.images).files) if options.images else _drawn(folder / "images")
        results = [
            posts(folder / "posts", options.model, files, options.posts),
            switches(folder / "switches", options.model, files, options.switches),
            starts(folder / "starts", options.model, options.starts),
        ]
        if options.size:
            results.append(size(folder / "size"))
    for each in results:
        print(json.dumps(each))
    targets = targets_of(results)
    report.print_targets(targets)
    settings = {"posts": options.posts, "switches": options.switches, "starts": options.starts}
    report.write_json(options.json, "line_serving", environment, settings, results, targets)


@contextmanager
def service(folder: Path, models: Sequence[Path]) -> Iterator[Service]:
    """Start a service whose products are `p0`, `p1` and so on; it is ended at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    products = "".join(f'[products.p{i}]\nmodel = "{model.absolute()}"\n' for i, model in enumerate(models))
    (folder / "line.toml").write_text(f"{products}[server]\nport = 0\nrate = 100000\n")
    command = [sys.executable, "-m", "padim_edge_runtime", "run", "line.toml"]
    start = time.monotonic()
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE)
    try:
        assert process.stderr is not None
        url = ""
        while not url:
            line = process.stderr.readline().decode()
            assert line, "the service ended"
            url = found[0] if (found := re.findall(r"http://[^/]+", line)) else ""
        threading.Thread(target=process.stderr.read, daemon=True).start()
        while _status(url) != 200:
            time.sleep(0.005)
        token = (folder / "line-data" / "token").read_text().strip()
        yield Service(url, token, time.monotonic() - start, process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        finally:
            process.kill()


def posts(folder: Path, model: Path, files: list[Path], count: int) -> dict[str, Any]:
    """Post images one after the other, and inspect the same bytes with a Detector in this process, in turns."""
    contents = [path.read_bytes() for path in files]
    detector = Detector.load(model)
    here, there, differ = list[float](), list[float](), 0
    with service(folder, [model]) as running, httpx.Client(base_url=running.url, timeout=60) as client:
        for number in range(_SETTLE + count):
            content = contents[number % len(contents)]
            time.sleep(_APART_S)
            start = time.perf_counter()
            expected = detector.inspect(content)
            inspected = time.perf_counter() - start
            time.sleep(_APART_S)
            start = time.perf_counter()
            answer = client.post("/api/images", content=content, headers={"Content-Type": "image/png"})
            answered = time.perf_counter() - start
            answer.raise_for_status()
            differ += answer.json()["score"] != expected.score
            if number >= _SETTLE:
                here.append(1e3 * inspected)
                there.append(1e3 * answered)
    quarter = [float(np.quantile(each, 0.95)) for each in (here, there)]
    return {
        "part": "posts",
        "count": count,
        "detector_ms": round(median(here), 2),
        "detector_p95_ms": round(quarter[0], 2),
        "post_ms": round(median(there), 2),
        "post_p95_ms": round(quarter[1], 2),
        "later_p95_ms": round(quarter[1] - quarter[0], 2),
        "later_median_ms": round(median(there) - median(here), 2),
        "other_scores": differ,
    }


def switches(folder: Path, model: Path, files: list[Path], count: int) -> dict[str, Any]:
    """Change among four products while images are posted all the time; each answer must name its product's model."""
    folder.mkdir(parents=True)
    models = []
    for number in range(4):
        copied = golden.copy(model, _made(folder / f"model{number}"))
        assert Detector.load(copied).self_test().passed
        models.append(copied)
    content, wrong, posted = files[0].read_bytes(), 0, 0
    took: list[float] = []
    with service(folder, models) as running, httpx.Client(base_url=running.url, timeout=60) as client:
        headers = {"Authorization": f"Bearer {running.token}"}
        while any(part["state"] != "working" for part in _parts(client) if part["kind"] == "model"):
            time.sleep(0.05)
        over = threading.Event()
        answers: list[dict[str, Any]] = []

        def post() -> None:
            with httpx.Client(base_url=running.url, timeout=60) as mine:
                while not over.is_set():
                    found = mine.post("/api/images", content=content, headers={"Content-Type": "image/png"})
                    answers.append(found.json())

        thread = threading.Thread(target=post)
        thread.start()
        for number in range(count):
            product = f"p{number % 4}"
            start = time.perf_counter()
            client.post("/api/product", json={"product": product}, headers=headers).raise_for_status()
            took.append(1e3 * (time.perf_counter() - start))
            row = client.post("/api/images", content=content, headers={"Content-Type": "image/png"}).json()
            wrong += row["product"] != product
        over.set()
        thread.join()
        posted = len(answers)
    return {
        "part": "switches",
        "count": count,
        "median_ms": round(median(took), 2),
        "p95_ms": round(float(np.quantile(took, 0.95)), 2),
        "most_ms": round(max(took), 2),
        "images_meanwhile": posted,
        "wrong_product": wrong,
    }


def starts(folder: Path, model: Path, count: int) -> dict[str, Any]:
    """Start the process until it is ready, and end it with SIGTERM."""
    ready, stop = list[float](), list[float]()
    for number in range(count):
        with service(folder / str(number), [model]) as running:
            ready.append(running.ready_s)
            start = time.monotonic()
            running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(20) == 0
            stop.append(time.monotonic() - start)
    return {
        "part": "starts",
        "count": count,
        "ready_s": round(median(ready), 3),
        "ready_most_s": round(max(ready), 3),
        "stop_s": round(median(stop), 3),
        "stop_most_s": round(max(stop), 3),
    }


def size(folder: Path) -> dict[str, Any]:
    """Install the wheel with and without the extra, and compare the sizes."""
    root = Path(__file__).parents[1]
    wheels = folder / "wheels"
    uv = ["uv"] if shutil.which("uv") else [sys.executable, "-m", "uv"]
    subprocess.run(
        [*uv, "build", "-q", "--package", "padim-edge-runtime", "--wheel", "--out-dir", wheels], cwd=root, check=True
    )
    (wheel,) = wheels.glob("*.whl")
    found = {}
    for name, extra in (("plain", "cpu"), ("line", "cpu,line"), ("camera", "cpu,line,camera")):
        place = folder / name
        subprocess.run([*uv, "venv", "-q", place], check=True)
        python = place / "bin" / "python"
        subprocess.run([*uv, "pip", "install", "-q", "--python", python, f"{wheel}[{extra}]"], check=True)
        found[f"{name}_mb"] = round(sum(path.stat().st_size for path in place.rglob("*") if path.is_file()) / 1e6, 1)
    return {
        "part": "size",
        **found,
        "line_more_mb": round(found["line_mb"] - found["plain_mb"], 1),
        "camera_more_mb": round(found["camera_mb"] - found["line_mb"], 1),
    }


def targets_of(results: list[dict[str, Any]]) -> list[report.Target]:
    """Compare with the promises."""
    by = {each["part"]: each for each in results}
    found = [
        report.Target(
            "ms that p95 of a post is above p95 of the Detector", LATER_MS, by["posts"]["later_p95_ms"], True
        ),
        report.Target("other scores by post", 0, by["posts"]["other_scores"], True),
        report.Target("ms of a change of recipe, p95", SWITCH_MS, by["switches"]["p95_ms"], True),
        report.Target("images judged by the wrong product", 0, by["switches"]["wrong_product"], True),
        report.Target("s from start to ready, median", READY_S, by["starts"]["ready_s"], True),
        report.Target("s from SIGTERM to the end, most", STOP_S, by["starts"]["stop_most_s"], True),
    ]
    if "size" in by:
        found.append(report.Target("MB that the extra `line` adds", EXTRA_MB, by["size"]["line_more_mb"], True))
    return found


def _parts(client: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/api/state").json()["parts"]
    return found


def _status(url: str) -> int:
    try:
        return httpx.get(f"{url}/ready", timeout=5).status_code
    except httpx.HTTPError:
        return 0


def _drawn(folder: Path) -> list[Path]:
    folder.mkdir(parents=True)
    paths = []
    for number in range(20):
        pixels = np.random.default_rng(number).integers(0, 256, (128, 128, 3), np.uint8)
        paths.append(folder / f"{number}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    main()
