"""The results of `benchmarks.timing` as tables and as a page in Markdown."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.quiet import QUIET
from benchmarks.rivals.turns import Summary

__all__ = [
    "COLUMNS",
    "FLOOR",
    "GROWTH_COLUMNS",
    "OURS",
    "Result",
    "Row",
    "by_method",
    "growth",
    "how_quiet",
    "label_of",
    "markdown",
    "read",
    "write",
]

FLOOR = "bare-backbone"
"""Method that shows how much of a time is the backbone's own."""

OURS = "ours-edge-fp32"
"""Method that all others are compared with."""

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
    "model files, MB",
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
    "model files, MB",
    "calls",
)

LEGEND = """\
| column | meaning |
|---|---|
| ms | median time from one image in the model's frame (uint8, 224 x 224, in memory) to its score and anomaly map |
| with resize | the same from a 900 x 900 RGB array in memory, with the same bicubic resize of Pillow for all methods |
| / ... | ratio of the medians without resize: **the result**; milliseconds belong to one machine and one hour |
| private | resident memory that no file backs, less that of a process with the engine imported and nothing loaded |
| peak | largest resident set, less that of the same process; mapped files are included |
| model files | size of the model's files, or of the memory bank and the network |
| calls | timed calls that were used |

Methods on ResNet-18 have the weights named above; those of `ours-builtin-*` come with the package. SPADE-WR50 has \
random weights and the VAE is untrained, so both stand for time and memory only."""


@dataclass(frozen=True)
class Row:
    """One method, fitted on one number of images."""

    name: str
    """Key of `table.METHODS`."""
    label: str
    """Name in figures."""
    kind: str
    """`floor`, `ours` or `rival`."""
    images: int
    """Number of good images that it was fitted on."""
    summary: Summary
    """Times."""
    private_mb: float | None
    """Private memory in MB; `None` where the system does not tell."""
    peak_mb: float | None
    """Largest resident set in MB; `None` where the system does not tell."""
    shipped_mb: float
    """Size of the model's files in MB."""
    precision: str = ""
    """Number type that the engine says it computes in, where it may choose by itself."""
    notes: tuple[str, ...] = ()
    """Limits of the figures, in sentences."""

    @property
    def title(self) -> str:
        """The name, with the precision where the name does not hold it."""
        return f"{self.name} ({self.precision})" if self.precision not in self.name else self.name


@dataclass(frozen=True)
class Result:
    """Everything that one run found."""

    environment: report.Environment
    """Machine and software."""
    settings: dict[str, Any]
    """`command`, `source`, `left_out`, and how quiet each part was."""
    methods: list[Row]
    """Every method on the same images."""
    grown: list[Row]
    """Some methods on several numbers of images."""
    targets: list[report.Target]
    """Promises about the methods."""


def label_of(name: str, precision: str) -> str:
    """Return the name of a method in figures."""
    from benchmarks.rivals.table import METHODS

    return METHODS[name].label + (f" ({precision})" if precision else "")


def write(result: Result, path: Path) -> None:
    """Write everything as JSON, flat and rounded."""
    parts = [("by_method", row) for row in result.methods] + [("growth", row) for row in result.grown]
    results = []
    for part, row in parts:
        flat = {key: value for key, value in dataclasses.asdict(row).items() if key not in ("summary", "label")}
        flat |= dataclasses.asdict(row.summary)
        rounded = {key: round(value, 4) if isinstance(value, float) else value for key, value in flat.items()}
        results.append({"part": part, **rounded})
    report.write_json(path, "timing", result.environment, result.settings, results, result.targets)


def read(path: Path) -> Result:
    """Read what `write` wrote."""
    found = report.read_json(path)
    times = [field.name for field in dataclasses.fields(Summary)]
    rows: dict[str, list[Row]] = {"by_method": [], "growth": []}
    for each in found.results:
        summary = Summary(**{name: each[name] for name in times})
        values = {name: value for name, value in each.items() if name not in ("part", "notes", *times)}
        label = label_of(each["name"], each["precision"])
        rows[each["part"]].append(Row(**values, label=label, summary=summary, notes=tuple(each["notes"])))
    return Result(found.environment, found.settings, rows["by_method"], rows["growth"], found.targets)


def by_method(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return a line for each method under `COLUMNS`."""
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
    """Return a line for each method and number of images under `GROWTH_COLUMNS`."""
    ordered = sorted(rows, key=lambda row: (row.kind != "ours", row.name, row.images))
    return [
        (row.name, str(row.images), *_times(row.summary)[:3], *_memory(row), str(row.summary.calls)) for row in ordered
    ]


def how_quiet(measured: dict[str, Any]) -> str:
    """Return one sentence on other programs, without its full stop."""
    said = (
        f"{measured['used']} of {measured['rounds']} rounds used; other processes took "
        f"{100 * measured['others_share']:.1f} % of the processor time in them"
    )
    noisy = measured["others_share"] > QUIET
    return f"{said}, which is too much: judge nothing by this run and repeat it on a quiet machine" if noisy else said


def markdown(result: Result) -> str:
    """Write the whole page."""
    settings = result.settings
    header = "\n".join((*report.header_lines(result.environment), f"fitted on {settings['source']}"))
    parts = ["# Timing by method", f"```\n{settings['command']}\n```", f"```\n{header}\n```"]
    if result.methods:
        notes = [f"- {row.title}: {note.rstrip('.')}." for row in result.methods for note in row.notes]
        parts += [
            "![Time and memory by method](timing.svg)",
            "One image at a time on the CPU.",
            report.markdown_table(COLUMNS, by_method(result.methods)),
            "\n".join([f"{how_quiet(settings['by_method'])}.", *([""] if notes else []), *notes]),
        ]
    if result.grown:
        parts += [
            "## Against the number of training images",
            "![Time and memory against the number of training images](growth.svg)",
            report.markdown_table(GROWTH_COLUMNS, growth(result.grown)),
            f"{how_quiet(settings['growth'])}.",
        ]
    parts += ["## Columns", LEGEND]
    if settings["left_out"]:
        parts += ["## Left out", "\n".join(f"- {name}: {why}." for name, why in settings["left_out"].items())]
    if result.targets:
        verdicts = [report.verdict(target, ".2f") for target in result.targets]
        parts += ["## Targets", report.markdown_table(("target", "wanted", "found", "verdict"), verdicts)]
    return "\n\n".join(parts) + "\n"


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
