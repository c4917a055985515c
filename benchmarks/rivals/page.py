"""The results of `benchmarks.timing` as tables and as a page in Markdown."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import report
from benchmarks.latency import QUIET
from benchmarks.rivals.turns import Summary

__all__ = [
    "COLUMNS",
    "FLOOR",
    "GROWTH_COLUMNS",
    "OURS",
    "Row",
    "by_method",
    "growth",
    "how_quiet",
    "markdown",
    "to_json",
]

FLOOR = "bare-backbone"
"""What all timings are compared with, as is the next."""

OURS = "ours-edge-fp32"

COLUMNS = (
    "method",
    "ms",
    "p10 - p90",
    "with resize, ms",
    "p10 - p90",
    f"/ {OURS}",
    f"/ {FLOOR}",
    "private MB",
    "peak MB",
    "shipped MB",
    "calls",
)

GROWTH_COLUMNS = (
    "method",
    "images",
    "ms",
    "p10 - p90",
    "with resize, ms",
    "private MB",
    "peak MB",
    "shipped MB",
    "calls",
)

LEGEND = """\
| column | is |
|---|---|
| ms | median time from one image in the model's frame (uint8, 224 x 224, in memory) to its score and map |
| with resize | the same from a 900 x 900 RGB array in memory: with Pillow's bicubic resize, the same for all |
| / ... | ratio of the medians without resize: **the result**; milliseconds belong to one machine and one hour |
| private | resident memory that no file backs, over the process with its engine imported and nothing loaded |
| peak | largest resident set over the same, files that are mapped into memory included |
| shipped | bytes of all files, or of the memory bank, that a device needs beside the engine |
| calls | timed ones that were used |"""


@dataclass(frozen=True)
class Row:
    """One method, fitted on one number of images."""

    name: str
    label: str
    """For people."""
    kind: str
    """`floor`, `ours` or `rival`."""
    images: int
    summary: Summary
    private_mb: float | None
    peak_mb: float | None
    shipped_mb: float
    precision: str = ""
    """In which the engine says that it computes, where it may choose by itself."""
    notes: tuple[str, ...] = ()
    """What the figures are good for, in sentences."""

    @property
    def title(self) -> str:
        """The name, with the precision where the name does not hold it."""
        return f"{self.name} ({self.precision})" if self.precision not in self.name else self.name


def to_json(row: Row) -> dict[str, Any]:
    """Flat and rounded."""
    flat = {key: value for key, value in dataclasses.asdict(row).items() if key not in ("summary", "label")}
    flat |= dataclasses.asdict(row.summary)
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in flat.items()}


def by_method(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """A line for each method under `COLUMNS`."""
    medians = {row.name: row.summary.median for row in rows}
    return [
        (
            row.title,
            *_times(row.summary),
            *(_ratio(row.summary.median, medians.get(base)) for base in (OURS, FLOOR)),
            *_memory(row),
            str(row.summary.calls),
        )
        for row in rows
    ]


def growth(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """A line for each method and number of images under `GROWTH_COLUMNS`."""
    ordered = sorted(rows, key=lambda row: (row.kind != "ours", row.name, row.images))
    return [
        (row.name, str(row.images), *_times(row.summary)[:3], *_memory(row), str(row.summary.calls)) for row in ordered
    ]


def how_quiet(measured: dict[str, Any]) -> str:
    """One sentence on the neighbours, without its full stop."""
    said = (
        f"{measured['used']} of {measured['rounds']} rounds used; other processes took "
        f"{100 * measured['others_share']:.1f} % of the processor time in them"
    )
    noisy = measured["others_share"] > QUIET
    return f"{said}, which is too much: judge nothing by this run and repeat it on a quiet machine" if noisy else said


def markdown(
    environment: report.Environment,
    settings: dict[str, Any],
    methods: Sequence[Row],
    grown: Sequence[Row],
    targets: Sequence[report.Target],
) -> str:
    """The whole page."""
    header = "\n".join((*report.header_lines(environment), f"fitted on {settings['source']}"))
    parts = ["# Timing by method", f"```\n{settings['command']}\n```", f"```\n{header}\n```"]
    if methods:
        parts += [
            "![Latency and memory by method](timing.svg)",
            "One image at a time on the CPU.",
            _table(COLUMNS, by_method(methods)),
            how_quiet(settings["by_method"]) + ".",
        ]
        parts += [f"- {row.title}: {note.rstrip('.')}." for row in methods for note in row.notes]
    if grown:
        parts += [
            "## Against the number of training images",
            "![Latency and memory against the number of training images](growth.svg)",
            _table(GROWTH_COLUMNS, growth(grown)),
            how_quiet(settings["growth"]) + ".",
        ]
    parts += ["## What the columns are", LEGEND]
    if settings["left_out"]:
        parts += ["## Left out", *(f"- {name}: {why}." for name, why in settings["left_out"].items())]
    if targets:
        parts += ["## Targets", _table(("target", "wanted", "found", ""), [_verdict(target) for target in targets])]
    return "\n\n".join(parts).replace(".\n\n- ", ".\n- ") + "\n"


def _verdict(target: report.Target) -> tuple[str, ...]:
    found = "undefined" if target.found is None else f"{target.found:.2f}"
    return (target.what, f"{'at most' if target.at_most else 'at least'} {target.wanted:.2f}", found,
            "reached" if target.reached else "not reached")  # fmt: skip


def _times(summary: Summary) -> tuple[str, str, str, str]:
    return (
        _figure(summary.median),
        f"{_figure(summary.p10)} - {_figure(summary.p90)}",
        _figure(summary.image_median),
        f"{_figure(summary.image_p10)} - {_figure(summary.image_p90)}",
    )


def _memory(row: Row) -> tuple[str, str, str]:
    private, peak = ("-" if value is None else f"{value:.0f}" for value in (row.private_mb, row.peak_mb))
    return private, peak, f"{row.shipped_mb:.1f}"


def _ratio(value: float, base: float | None) -> str:
    return "-" if base is None else f"{value / base:.2f}"


def _figure(milliseconds: float) -> str:
    return f"{milliseconds:.2f}" if milliseconds < 100 else f"{milliseconds:.0f}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---", *("--:" for _ in columns[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
