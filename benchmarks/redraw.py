"""Write pages and figures of the committed results again from their JSON files; nothing is measured.

    python -m benchmarks.redraw --output benchmarks/results

The same JSON file and the same matplotlib always give the same bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import accuracy, accuracy_table, timing
from benchmarks.rivals import page

__all__ = ["RESULTS", "redraw"]

RESULTS = Path(__file__).with_name("results")
"""Folder of the committed results."""

TIMINGS = ("timing.json", "builtin/timing.json")
"""Results of `benchmarks.timing`."""

ACCURACY = "accuracy.json"
"""Result of `benchmarks.accuracy` that has a page and a figure."""


def main() -> None:
    """Parse the command line, draw, print the names of the files."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.redraw", description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, metavar="DIR", default=RESULTS, help="folder of the JSON files")
    parser.add_argument("--output", type=Path, metavar="DIR", required=True, help="folder for pages and figures")
    options = parser.parse_args()
    for file in redraw(options.results, options.output):
        print(file)


def redraw(results: Path, output: Path) -> list[Path]:
    """Write pages and figures again, and return their files.

    Args:
        results: Folder of the JSON files; those that are missing are passed over.
        output: Folder for pages and figures.
    """
    written: list[Path] = []
    for name in TIMINGS:
        if (results / name).is_file():
            folder = (output / name).parent
            folder.mkdir(parents=True, exist_ok=True)
            found = page.read(results / name)
            timing.write_pages(found, folder)
            stems = ["timing"] + ["growth"] * bool(found.grown)
            written += [folder / "timing.md", *(folder / f"{stem}{end}" for stem in stems for end in (".svg", ".png"))]
    if (results / ACCURACY).is_file():
        output.mkdir(parents=True, exist_ok=True)
        files = [output / f"accuracy{end}" for end in (".md", ".svg", ".png")]
        accuracy.write_pages(accuracy_table.read(results / ACCURACY), files[0], files[1])
        written += files
    return written


if __name__ == "__main__":
    main()
