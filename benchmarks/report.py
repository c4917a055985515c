"""What every result needs beside it: the machine, the versions and the date; and how it is printed and written."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import subprocess
import time
from argparse import ArgumentParser
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["Environment", "Target", "names", "print_header", "print_table", "print_targets", "probe", "write_json"]

_PRODUCT = ("padim_edge", "export", "runtime", "pyproject.toml")


@dataclass(frozen=True)
class Environment:
    """Where and with what a benchmark ran. It names no host and no path."""

    cpu: str
    cores: int
    """Logical ones that this process may use."""
    memory_gb: float | None
    system: str
    threads: int | None
    """Of onnxruntime, for one image; `None` is its default, one a core."""
    versions: dict[str, str]
    date: str
    """UTC."""
    commit: str
    """`+` at its end: the product's files differed from that commit."""
    load: float | None
    """Load average of the last minute, before the benchmark began: above 0.2 or so, others were at work."""


@dataclass(frozen=True)
class Target:
    """A figure that was promised, and the one that was found."""

    what: str
    wanted: float
    found: float | None
    at_most: bool = False
    """The smaller the better."""

    @property
    def reached(self) -> bool:
        """Whether the promise was kept in this run."""
        if self.found is None:
            return False
        return self.found <= self.wanted if self.at_most else self.found >= self.wanted

    def to_json(self) -> dict[str, Any]:
        """All of it, the verdict included."""
        return {**dataclasses.asdict(self), "reached": self.reached}


class Neighbours:
    """Measures what other processes take of the machine, from its making on."""

    def __init__(self) -> None:
        self._start = _processor_seconds()

    def share(self) -> float:
        """Of all cores' time, 0 to 1."""
        all_cores, busy, own = (now - then for now, then in zip(_processor_seconds(), self._start, strict=True))
        return max(0.0, busy - own) / max(all_cores, 1e-9)


def _processor_seconds() -> tuple[float, float, float]:
    """(of all cores, of them not idle, of them our own) since some moment."""
    import psutil  # type: ignore[import-untyped]

    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    # A guest's time is contained in user time.
    total = sum(value for name, value in times._asdict().items() if not name.startswith("guest"))
    return total, total - idle, time.process_time()


def probe(packages: tuple[str, ...], *, threads: int | None) -> Environment:
    """Look around.

    Args:
        packages: Distributions whose versions matter; those that are not installed are left out.
        threads: That the benchmark gives to onnxruntime.
    """
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return Environment(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gb=_memory_gb(),
        system=f"{platform.system()} {platform.machine()}",
        threads=threads,
        versions=versions,
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commit=_commit(),
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    )


def names(text: str) -> tuple[str, ...]:
    """The parts of a comma-separated option."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def refuse_unknown(parser: ArgumentParser, presets: tuple[str, ...]) -> None:
    """End with a usage error where a preset does not exist."""
    from padim_edge.presets import PRESETS

    for preset in presets:
        if preset not in PRESETS:
            parser.error(f"there is no preset {preset!r}; choose from {', '.join(PRESETS)}")


def print_header(title: str, environment: Environment) -> None:
    """The environment, above the results."""
    print(title)
    for line in header_lines(environment):
        print(f"  {line}")


def header_lines(environment: Environment) -> tuple[str, ...]:
    """The same, as text."""
    memory = f", {environment.memory_gb:.0f} GB" if environment.memory_gb else ""
    threads = environment.threads or f"{environment.cores} (onnxruntime's default)"
    return (
        f"cpu       {environment.cpu}, {environment.cores} cores{memory}, {environment.system}",
        f"versions  {', '.join(f'{name} {number}' for name, number in environment.versions.items())}",
        f"threads   {threads}; load average before: {environment.load}",
        f"run       {environment.date}, commit {environment.commit}",
    )


def print_table(columns: tuple[str, ...], rows: list[tuple[str, ...]], *, words: int = 1) -> None:
    """A table; the first `words` columns hold words, the others figures."""
    from rich.console import Console
    from rich.table import Table

    table = Table(header_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i < words else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console()
    # Into a file or a pipe the whole width, which would otherwise be cut at 80 columns.
    (console if console.is_terminal else Console(width=200)).print(table)


def print_targets(targets: list[Target]) -> None:
    """Each target with its verdict. Nothing fails here: timings on a shared machine gate nothing."""
    for target in targets:
        found = "undefined" if target.found is None else f"{target.found:.3f}"
        sign = "<=" if target.at_most else ">="
        print(
            f"{'reached    ' if target.reached else 'not reached'}  {target.what}: {found} {sign} {target.wanted:.3f}"
        )


def write_json(
    path: Path | None,
    benchmark: str,
    environment: Environment,
    settings: dict[str, Any],
    results: list[dict[str, Any]],
    targets: list[Target],
) -> None:
    """Write everything to `path`, where one is given."""
    if path is None:
        return
    content = {
        "benchmark": benchmark,
        "environment": dataclasses.asdict(environment),
        "settings": settings,
        "results": results,
        "targets": [target.to_json() for target in targets],
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _cpu() -> str:
    for path, key in (("/proc/cpuinfo", "model name"), ("/proc/device-tree/model", "")):
        try:
            lines = Path(path).read_text(encoding="utf-8", errors="replace").rstrip("\0").splitlines()
        except OSError:
            continue
        for line in lines:
            if line.startswith(key):
                return line.partition(":")[2].strip() if key else line.strip()
    return platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", *_PRODUCT)
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
