"""Measure whether planted defects tell what real ones will show: rank, choice of the kind, chart, and blindness.

One fit gives four models: Gaussians alone, a memory alone, both alike, and both weighed by planted defects. Each is
rehearsed with three draws of defects, and judges the labelled test images. Each run is written when it is done; a run
that the file has of the same product is not repeated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.presets import Parts, grow, loader, parser_of

if TYPE_CHECKING:
    import argparse

    from benchmarks.choosing.record import Row
    from benchmarks.choosing.rehearsals import Run


def main() -> None:
    """Parse the command line, measure, print."""
    parser = parser_of("rehearsal", __doc__, "'screw 20*'")
    options = parser.parse_args()
    from benchmarks.choosing import rehearsals
    from benchmarks.choosing.rehearsing import rehearsed

    load = loader(options.data)

    def measured(run: Run, options: argparse.Namespace, weights: str) -> Row:
        return rehearsed(load(run.class_name), run.images, run.seed, options.backbone, weights, options.size)

    title = "planted defects beside real ones"
    chosen = rehearsals.matching(options.only)
    grow(parser, options, Parts("rehearsal", title, chosen, rehearsals.tables, rehearsals.targets_of, measured))


if __name__ == "__main__":
    main()
