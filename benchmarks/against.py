"""Compare loading and inspecting with an earlier commit of the runtime, in turns on the same machine.

Both runtimes load the same model and inspect the same image files in processes of their own, which take turns. Each
process loads and inspects several times; the medians of the two commits are compared turn by turn.

    python -m benchmarks.against 26ca037 --model bottle.onnx --images shared/data/mvtec_ad/bottle/test/good
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks import report
from benchmarks.rivals import ROOT

MOST = 1.02
"""Largest ratio to the earlier commit that was promised."""
STEPS = ("load", "inspect", "draw")

CHILD = """
import json, sys, time
from pathlib import Path
from statistics import median
from padim_edge_runtime import Detector

def timed(step, call):
    start = time.perf_counter()
    answer = call()
    found.setdefault(step, []).append(time.perf_counter() - start)
    return answer

model, folder, times, found = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), {}
files = sorted(folder.iterdir())[:times]
for _ in range(times):
    detector = timed("load", lambda: Detector.load(model, "cpu", threads=1))
detector.inspect(files[0]).overlay()
for file in files:
    inspection = timed("inspect", lambda: detector.inspect(file))
    timed("draw", inspection.overlay)
print(json.dumps({step: 1e3 * median(each) for step, each in found.items()}))
"""


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against", description=__doc__.splitlines()[0])
    parser.add_argument("commit", help="earlier commit of this repository")
    parser.add_argument("--model", type=Path, required=True, help="a model that both can read")
    parser.add_argument("--images", type=Path, required=True, help="folder with images")
    parser.add_argument("--turns", type=int, default=12, help="processes of each commit")
    parser.add_argument("--times", type=int, default=12, help="loads and images in each process")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args()
    environment = report.probe(("onnxruntime", "pillow"), threads=1)
    report.print_header(f"against {options.commit}", environment)
    with tempfile.TemporaryDirectory() as folder:
        earlier = Path(folder) / "earlier"
        for command in (
            ["clone", "-q", str(ROOT), str(earlier)],
            ["-C", str(earlier), "checkout", "-q", options.commit],
        ):
            subprocess.run(["git", *command], check=True)
        found: dict[str, list[dict[str, float]]] = {"now": [], "earlier": []}
        trees = {"now": ROOT, "earlier": earlier}
        for turn in range(options.turns):
            for name in random.Random(turn).sample(sorted(trees), 2):
                found[name].append(_measured(trees[name], options))
    rows, targets = [], []
    for step in STEPS:
        now, before = ([each[step] for each in found[name]] for name in ("now", "earlier"))
        ratios = sorted(one / other for one, other in zip(now, before, strict=True))
        spread = f"{ratios[len(ratios) // 4]:.3f} to {ratios[-1 - len(ratios) // 4]:.3f}"
        rows.append((step, f"{median(before):.2f}", f"{median(now):.2f}", f"{median(ratios):.3f}", spread))
        targets.append(report.Target(f"{step}: now / earlier", MOST, median(ratios), at_most=True))
    report.print_table(("step", "earlier, ms", "now, ms", "ratio", "middle half"), rows)
    report.print_targets(targets)
    settings = {"commit": options.commit, "model": options.model.name, "turns": options.turns, "times": options.times}
    results = [{"tree": name, **turn} for name, turns in found.items() for turn in turns]
    report.write_json(options.json, "against", environment, settings, results, targets)


def _measured(tree: Path, options: argparse.Namespace) -> dict[str, float]:
    path = os.pathsep.join([str(tree), str(tree / "export"), str(tree / "runtime")])
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(options.model), str(options.images), str(options.times)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


if __name__ == "__main__":
    main()
