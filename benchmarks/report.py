"""Environment, tables and targets of a benchmark: what every result needs beside it, printed and written to files."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import textwrap
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from padim_edge_runtime.memory import of_machine, peak_memory
from padim_edge_runtime.prefetch import cores

__all__ = [
    "MB",
    "Environment",
    "Target",
    "Written",
    "command",
    "header_lines",
    "markdown_table",
    "names",
    "peak_mb",
    "print_header",
    "print_table",
    "print_targets",
    "probe",
    "product_commit",
    "read_json",
    "refuse_unknown",
    "verdict",
    "write_json",
]

MB = 1e6
"""Bytes in a megabyte."""

_PRODUCT = ("padim_edge", "export", "runtime", "pyproject.toml")
"""Files and folders of the product, whose commit is recorded."""


@dataclass(frozen=True)
class Environment:
    """Machine and software of one run, without the name of a host or a path."""

    cpu: str
    """Name of the processor."""
    cores: int
    """Number of logical cores that this process may use."""
    memory_gb: float | None
    """Memory of the machine or its container in GB; `None` where the system does not tell."""
    system: str
    """Operating system and architecture."""
    threads: int | None
    """Threads of onnxruntime for one image; `None` is its default, one per core."""
    versions: dict[str, str]
    """Versions of Python and the packages that matter, by name."""
    date: str
    """Date and time of the start, UTC."""
    commit: str
    """Commit of the repository. A `+` at its end says that the product's files differed from it."""
    load: float | None
    """Load average of the minute before the run. Above 0.2 or so, other programs were at work."""


@dataclass(frozen=True)
class Target:
    """A figure that was promised, and the one that was found."""

    what: str
    """Name of the figure."""
    wanted: float
    """Limit that was promised."""
    found: float | None
    """Figure of this run; `None` where it is undefined."""
    at_most: bool = False
    """Whether the figure must not exceed the limit; otherwise it must not fall below it."""

    @property
    def reached(self) -> bool:
        """Whether the promise was kept in this run."""
        if self.found is None:
            return False
        return self.found <= self.wanted if self.at_most else self.found >= self.wanted

    def to_json(self) -> dict[str, Any]:
        """Return all fields and the verdict."""
        return {**dataclasses.asdict(self), "reached": self.reached}


def probe(packages: tuple[str, ...], *, threads: int | None) -> Environment:
    """Find out about this machine.

    Args:
        packages: Distributions whose versions matter; those that are not installed are left out.
        threads: Number of threads that the benchmark gives to onnxruntime.
    """
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    memory = of_machine()
    return Environment(
        cpu=_cpu(),
        cores=cores(),
        memory_gb=None if memory is None else round(memory.total / 1e9, 1),
        system=f"{platform.system()} {platform.machine()}",
        threads=threads,
        versions=versions,
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commit=_commit(),
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    )


def peak_mb() -> float:
    """Return the largest number of MB that this process has held so far; NaN where the system does not tell."""
    peak = peak_memory()
    return float("nan") if peak is None else peak / MB


def names(text: str) -> tuple[str, ...]:
    """Split a comma-separated option."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def refuse_unknown(parser: ArgumentParser, presets: tuple[str, ...]) -> None:
    """End with a usage error where a preset does not exist."""
    from padim_edge.presets import PRESETS

    for preset in presets:
        if preset not in PRESETS:
            parser.error(f"there is no preset {preset!r}; choose from {', '.join(PRESETS)}")


def command(benchmark: str, *, without: tuple[str, ...] = ()) -> str:
    r"""Return the command that was typed, in lines that end in `\`.

    Absolute folders belong to this machine, so only their names are kept.

    Args:
        benchmark: Name of the benchmark.
        without: Options to leave out, together with their values.
    """
    words = [f"python -m benchmarks.{benchmark}", *_words(without)]
    # An option and its value stay in one line.
    text = re.sub(r"(--\S+) (?!--)", r"\1\0", " ".join(words))
    lines = textwrap.wrap(text, 110, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    return " \\\n".join(lines).replace("\0", " ")


def _words(without: tuple[str, ...]) -> Iterator[str]:
    given = iter(sys.argv[1:])
    for word in given:
        if word in without:
            next(given, None)
            continue
        yield f".../{Path(word).name}" if Path(word).is_absolute() else shlex.quote(word)


def print_header(title: str, environment: Environment) -> None:
    """Print the environment, above the results."""
    print(title)
    for line in header_lines(environment):
        print(f"  {line}")


def header_lines(environment: Environment) -> tuple[str, ...]:
    """Return the environment as lines of text."""
    memory = f", {environment.memory_gb:.0f} GB" if environment.memory_gb else ""
    threads = environment.threads or f"{environment.cores} (onnxruntime's default)"
    return (
        f"cpu       {environment.cpu}, {environment.cores} cores{memory}, {environment.system}",
        f"versions  {', '.join(f'{name} {number}' for name, number in environment.versions.items())}",
        f"threads   {threads}; load average before: {environment.load}",
        f"run       {environment.date}, commit {environment.commit}",
    )


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 1) -> None:
    """Print a table; the first `words` columns hold words, the others figures."""
    from rich.console import Console
    from rich.table import Table

    table = Table(header_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i < words else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console()
    # A file or a pipe gets the whole width, because rich would cut it at 80 columns.
    (console if console.is_terminal else Console(width=200)).print(table)


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 1) -> str:
    """Return a table in Markdown; the first `words` columns hold words, the others figures."""
    ruler = ["---" if i < words else "--:" for i in range(len(columns))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (columns, ruler, *rows))


def verdict(target: Target, form: str = ".4f") -> tuple[str, str, str, str]:
    """Return a target as a row of a table: what, wanted, found, and whether it was reached.

    Args:
        target: The promise and the figure that was found.
        form: Format of both figures.
    """
    found = "undefined" if target.found is None else f"{target.found:z{form}}"
    wanted = f"{'at most' if target.at_most else 'at least'} {target.wanted:{form}}"
    return target.what, wanted, found, "reached" if target.reached else "not reached"


def print_targets(targets: list[Target]) -> None:
    """Print each target with its verdict. Nothing fails here, because timings on a shared machine gate nothing."""
    for target in targets:
        what, wanted, found, reached = verdict(target, ".3f")
        print(f"{reached:<12} {what}: {found}, wanted {wanted}")


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


@dataclass(frozen=True)
class Written:
    """Content of a file of `write_json`."""

    environment: Environment
    """Machine and software."""
    settings: dict[str, Any]
    """Settings of the benchmark."""
    results: list[dict[str, Any]]
    """Rows of the benchmark."""
    targets: list[Target]
    """Promises and the figures that were found."""


def read_json(path: Path) -> Written:
    """Read what `write_json` wrote."""
    content = json.loads(path.read_text(encoding="utf-8"))
    targets = [Target(each["what"], each["wanted"], each["found"], each["at_most"]) for each in content["targets"]]
    return Written(Environment(**content["environment"]), content["settings"], content["results"], targets)


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


def _commit() -> str:
    return _git_commit("rev-parse", "--short=12", "HEAD")


def product_commit() -> str:
    """Return the commit that last changed the product's files, with a `+` where they differ from it.

    Commits of results and pages leave it as it is, unlike `Environment.commit`.
    """
    return _git_commit("log", "-1", "--abbrev=12", "--format=%h", "--", *_PRODUCT)


def _git_commit(*arguments: str) -> str:
    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", *_PRODUCT)
        return git(*arguments) + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
