"""Measure whether decisions survive real images: repeats, few images, wrong images. One row for each target.

Every row can be run alone. Rows about thresholds embed each image once and fit many choices of images with the code
that ships; the other rows export models as a user does.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import report

if TYPE_CHECKING:
    from benchmarks.deciding.materials import Row

SHARED = Path(os.environ.get("PADIM_EDGE_SHARED", Path(__file__).parents[2] / "shared"))
"""Usual folder of the real images."""

WEIGHTS = "weights/resnet18-imagenet1k-v1-trunk.safetensors"
"""Usual weights in that folder."""

ROWS = (
    "repeats",
    "twice",
    "groups",
    "closed-form",
    "twenty",
    "first30",
    "halves",
    "comparable",
    "deep",
    "update",
    "suspects",
    "biscuits",
)
"""Names of the rows, in their order."""


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decisions", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=report.names, metavar="NAMES", default=ROWS, help=f"of {', '.join(ROWS)}")
    parser.add_argument("--shared", type=Path, metavar="DIR", default=SHARED, help="folder with data/ and cases/")
    parser.add_argument("--weights", metavar="FILE", help=f"ResNet-18; by default {WEIGHTS} in that folder")
    parser.add_argument("--draws", type=int, default=20, help="random draws of 20 images")
    parser.add_argument("--splits", type=int, default=50, help="random halves of the good images")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there; other rows in it stay")
    options = parser.parse_args()
    unknown = sorted(set(options.rows) - set(ROWS))
    if unknown:
        parser.error(f"there is no row {unknown[0]!r}; choose from {', '.join(ROWS)}")
    if not options.shared.is_dir():
        parser.error(f"there is no folder {options.shared}; name the one with data/ and cases/ with --shared")

    from benchmarks.deciding.materials import Amount, Materials
    from benchmarks.deciding.table import TABLE

    environment = report.probe(("padim-edge", "numpy", "onnxruntime", "torch", "pillow"), threads=None)
    report.print_header("decisions on real images", environment)
    weights = options.weights or str(options.shared / WEIGHTS)
    with tempfile.TemporaryDirectory() as folder:
        materials = Materials(options.shared, weights, Path(folder), Amount(options.draws, options.splits))
        for name in (row for row in ROWS if row in options.rows):
            print(f"\n{name}: {TABLE[name].words}", flush=True)
            found = measured(TABLE[name], materials)
            if found["missing"]:
                print(f"not measured: {found['missing']}")
            report.print_targets(_targets(found))
            print(f"{found['seconds']:.0f} s", flush=True)
            _write(options.json, environment, {name: found})


def measured(row: Row, materials: Any) -> dict[str, Any]:
    """Measure one row and return it as it is written."""
    start = time.monotonic()
    found = row.measure(materials)
    return {
        "words": row.words,
        "missing": found.missing,
        "seconds": round(time.monotonic() - start, 1),
        "figures": found.figures,
        "targets": [target.to_json() for target in found.targets],
    }


def merged(before: list[dict[str, Any]], new: Mapping[str, dict[str, Any]], run: Mapping[str, str]) -> Any:
    """Return the rows of a file with new ones in the place of old ones, in the order of `ROWS`.

    Args:
        before: Rows in the file.
        new: New rows by name.
        run: Command, date and commit of the new rows, which are kept with each.
    """
    rows = {row["row"]: row for row in before} | {name: {"row": name, **run, **row} for name, row in new.items()}
    return [rows[name] for name in ROWS if name in rows]


def _write(path: Path | None, environment: report.Environment, new: Mapping[str, dict[str, Any]]) -> None:
    if path is None:
        return
    run = {
        "command": report.command("decisions", without=("--json", "--shared", "--weights")),
        "date": environment.date,
        "commit": environment.commit,
    }
    before = json.loads(path.read_text(encoding="utf-8"))["results"] if path.exists() else []
    rows = merged(before, new, run)
    targets = [target for row in rows for target in _targets(row)]
    settings = {"preset": "edge", "backbone": "resnet18", "command": run["command"]}
    report.write_json(path, "decisions", environment, settings, rows, targets)


def _targets(row: Mapping[str, Any]) -> list[report.Target]:
    return [report.Target(each["what"], each["wanted"], each["found"], each["at_most"]) for each in row["targets"]]


if __name__ == "__main__":
    main()
