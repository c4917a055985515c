"""Attack the readers of the package with mutants of its files, in child processes, and count what becomes of them.

    python -m benchmarks.attack --family models --count 10000 --seed 1 --json FILE

Every mutant must be answered or refused in one sentence. A traceback, a crash, a hang over 30 seconds, more than 2 GB
of memory, or a file read elsewhere is a fault; `wrong` names the mutant, and family, seed and number bring it back.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # where the mutants are made

from attack.children import OUTCOMES, Tally, run

__all__: list[str] = []

FAMILIES = ("metadata", "models", "statistics", "weights", "images", "graphs")
"""Names of the families. A graph with a true digest is a stranger's program, so nothing is promised of the last one."""


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=FAMILIES, action="append", help="Default: all but graphs.")
    parser.add_argument("--count", type=int, default=10_000, help="Mutants of each family.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2, help="Children at a time.")
    parser.add_argument("--json", type=Path, help="File for the counts.")
    options = parser.parse_args()
    found: list[Tally] = []
    print(f"{'family':<12}{'mutants':>9}" + "".join(f"{name:>13}" for name in OUTCOMES) + f"{'peak MB':>10}{'s':>7}")
    for family in options.family or FAMILIES[:-1]:
        found.append(tally := run(family, options.count, options.seed, processes=options.processes))
        counts = "".join(f"{tally.counts[name]:>13}" for name in OUTCOMES)
        print(f"{family:<12}{sum(tally.counts.values()):>9}{counts}{tally.peak / 1e6:>10.0f}{tally.seconds:>7.0f}")
        for wrong in tally.wrong[:20]:
            print(f"  seed {tally.seed}, {wrong}")
        if options.json is not None:
            options.json.write_text(json.dumps([each.to_json() for each in found], indent=1) + "\n")
    return int(any(each.bad for each in found))


if __name__ == "__main__":
    sys.exit(main())
