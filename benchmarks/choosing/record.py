"""A file of results that grows run by run, so that a benchmark may be interrupted and taken up again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.report import Target
from padim_edge_artifact import PadimEdgeError

__all__ = ["Record", "Row"]

Row = dict[str, Any]
"""Figures of one run, with `run`, `commit`, `product` and `date` before them."""

_COMMAND = "command"


class Record:
    """Results of all runs so far.

    Args:
        path: The JSON file; `None` keeps the results in memory only.
        benchmark: Name of the benchmark.
        environment: Machine and software of this start.
        settings: Settings that all results of a file share, and the command.
        targets_of: Function that compares all results with what was promised.

    Raises:
        PadimEdgeError: The file holds results of other settings.
    """

    def __init__(
        self,
        path: Path | None,
        benchmark: str,
        environment: report.Environment,
        settings: dict[str, Any],
        targets_of: Callable[[Sequence[Row]], list[Target]],
    ) -> None:
        self.path, self.benchmark, self.environment, self.settings = path, benchmark, environment, settings
        self.targets_of = targets_of
        self.product = report.product_commit()
        """Commit that last changed the product, with `+` where its files differ from that."""
        self.rows: list[Row] = []
        if path is not None and path.is_file():
            written = report.read_json(path)
            _require_same(path, written.settings, settings)
            self.rows = written.results

    def has(self, run: str) -> bool:
        """Whether the run is there, made by the product as it is now."""
        return not self.product.endswith("+") and any(
            row["run"] == run and row["product"] == self.product for row in self.rows
        )

    def add(self, run: str, found: Row) -> None:
        """Add the figures of a run in the place of older ones, and write the file."""
        about = {"run": run, "commit": self.environment.commit, "product": self.product, "date": self.environment.date}
        self.rows = [row for row in self.rows if row["run"] != run] + [{**about, **found}]
        self.write()

    def write(self) -> None:
        """Write the file. The old one stays until the new one is complete."""
        if self.path is None:
            return
        beside = self.path.with_name(f"{self.path.name}.part")
        report.write_json(beside, self.benchmark, self.environment, self.settings, self.rows, self.targets)
        beside.replace(self.path)

    @property
    def targets(self) -> list[Target]:
        """Promises about the results so far."""
        return self.targets_of(self.rows)


def _require_same(path: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    for name in sorted((before.keys() | now.keys()) - {_COMMAND}):
        if before.get(name) != now.get(name):
            raise PadimEdgeError(
                f"{path} holds results with {name} {before.get(name)}, expected {now.get(name)}; name another --json"
            )
