"""Measure the size of the runtime, and the time from the start of a process to its first score.

The wheel of the runtime is built and installed with `[cpu]` in an empty environment. Every start is a process of its
own there, and the models take turns. They are fitted on the built-in sample with the built-in backbone.

    python -m benchmarks.cold_start --json benchmarks/results/cold_start.json
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from benchmarks import report
from benchmarks.report import MB
from benchmarks.rivals import ROOT, Missing, isolated_environ, reason

MOST_MB, MOST_SECONDS, MOST_OURS = 200.0, 1.5, 0.4
"""Limits: size of the installed packages, time from the start of the process to the first score, our part of it."""

THEIRS = ("Python", "numpy", "Pillow", "onnxruntime")
"""Steps in which none of our code runs."""

OURS = ("our modules", "read and verify", "session", "rest of the load", "image", "first run")
"""All other steps of `cold_start_worker`, with onnxruntime's work in them."""

PRECISIONS = ("fp32", "int8")

DISTRIBUTIONS = """
import importlib.metadata as m, json
print(json.dumps({d.metadata["Name"]: [d.version, sorted({f.parts[0] for f in d.files or ()})]
                  for d in m.distributions()}))
"""


@dataclass(frozen=True)
class Start:
    """Medians over fresh processes with one model."""

    model: str
    """Name of the model."""
    megabytes: float
    """Size of the model's files in MB."""
    cache: str
    """`warm`, or `dropped` where the files were not in the page cache."""
    processes: int
    """Number of processes."""
    steps: dict[str, float]
    """Median milliseconds by step; medians need not add up."""
    theirs: float
    """Milliseconds in the steps in which none of our code runs."""
    ours: float
    """Milliseconds in all other steps."""
    ours_processor: float
    """Milliseconds of processor time in our steps, all threads: on a busy machine the better estimate."""
    total: float
    """Milliseconds from the start of the process to the first score."""
    command: float
    """Milliseconds that `padim-edge infer` takes for one image, from start to end."""


def main() -> None:
    """Parse the command line, build, install, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cold_start", description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=15, help="for each model, with warm files")
    parser.add_argument("--dropped", type=int, default=3, help="for each model, with the page cache dropped")
    parser.add_argument("--models", type=Path, metavar="FOLDER", help="keep the sample and the models there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args()
    if options.processes < 1 or options.dropped < 0:
        parser.error("--processes must be 1 or more, --dropped 0 or more")
    with tempfile.TemporaryDirectory() as folder:
        try:
            _measure(options, Path(folder))
        except Missing as error:
            parser.exit(1, f"cold_start: {error}\n")


def _measure(options: argparse.Namespace, folder: Path) -> None:
    environment = report.probe((), threads=None)
    python = installed(folder)
    versions, sizes = sizes_of(python)
    bytecode = sum(path.stat().st_size for path in folder.glob("venv/**/*.pyc")) / MB
    environment = dataclasses.replace(environment, versions={**environment.versions, **versions})
    report.print_header("size and cold start of the runtime", environment)
    models = options.models or folder / "models"
    models.mkdir(parents=True, exist_ok=True)
    image = made(models)
    everything = [models / f"{precision}.onnx" for precision in PRECISIONS]
    starts = measured(python, everything, image, options.processes, dropped=False)
    refusal = drop_cache() if options.dropped else "it was not asked for"
    if refusal is None:
        starts += measured(python, everything, image, options.dropped, dropped=True)
    else:
        print(f"\nthe page cache was not dropped: {refusal}")
    report.print_table(("package", "MB"), [(name, f"{size:.1f}") for name, size in shown(sizes)])
    print(f"of that, {bytecode:.1f} MB are Python's bytecode, which pip writes at once and uv with the first use")
    report.print_table(("milliseconds", *(f"{each.model}, {each.cache}" for each in starts)), rows_of(starts))
    targets = targets_of(sum(sizes.values()), starts)
    report.print_targets(targets)
    settings = {"processes": options.processes, "dropped": refusal or options.dropped, "sizes_mb": dict(shown(sizes))}
    settings["bytecode_mb"] = round(bytecode, 2)
    report.write_json(options.json, "cold_start", environment, settings, [asdict(each) for each in starts], targets)


def installed(folder: Path) -> Path:
    """Install the wheel and its dependencies in an environment, compiled as pip does it, and return its Python.

    Raises:
        Missing: There is no uv, or no package index.
    """
    _uv("build", "--package", "padim-edge-runtime", "--wheel", "--out-dir", folder, cwd=ROOT)
    (wheel,) = folder.glob("*.whl")
    _uv("venv", "--python", sys.executable, folder / "venv", cwd=folder)
    python = folder / "venv" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    _uv("pip", "install", "--compile-bytecode", "--python", python, f"{wheel}[cpu]", cwd=folder)
    return python


def _uv(*arguments: object, cwd: Path) -> None:
    try:
        done = subprocess.run(
            ["uv", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            cwd=cwd,
            env=isolated_environ(dict(os.environ)),
        )
    except FileNotFoundError:
        raise Missing("it needs uv for an environment of its own, and uv is not installed") from None
    if done.returncode:
        raise Missing(f"the runtime cannot be installed in an environment of its own ({reason(done.stderr)})")


def sizes_of(python: Path) -> tuple[dict[str, str], dict[str, float]]:
    """Return versions and MB by distribution, from the files in the environment."""
    found = json.loads(_call([str(python), "-c", DISTRIBUTIONS]))
    site = next(path for path in python.parents[1].glob("**/site-packages") if path.is_dir())
    owners = {top: name for name, (_, tops) in found.items() for top in tops if top not in ("..", "__pycache__")}
    sizes = by_owner(site, owners)
    return {name: version for name, (version, _) in sorted(found.items())}, sizes


def by_owner(site: Path, owners: dict[str, str]) -> dict[str, float]:
    """Return the MB in `site` by the distribution that brought the topmost folder; `rest` for all others."""
    sizes: dict[str, float] = {}
    for top in site.iterdir():
        files = [top] if top.is_file() else [path for path in top.rglob("*") if path.is_file()]
        owner = owners.get(top.name, "rest")
        sizes[owner] = sizes.get(owner, 0.0) + sum(path.stat().st_size for path in files) / MB
    return sizes


def shown(sizes: dict[str, float]) -> list[tuple[str, float]]:
    """Return the sizes, largest first, and their sum."""
    ordered = sorted(sizes.items(), key=lambda each: -each[1])
    return [(name, round(size, 2)) for name, size in [*ordered, ("all", sum(sizes.values()))]]


def made(folder: Path) -> Path:
    """Draw the sample and export the models where they are missing, and return an image."""

    def toolkit(*arguments: str) -> None:
        command = [sys.executable, "-m", "padim_edge_runtime", *arguments]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    if not (folder / "sample").is_dir():
        toolkit("sample", "sample")
    for precision in PRECISIONS:
        if not (folder / f"{precision}.onnx").is_file():
            print(f"exporting {precision}", flush=True)
            toolkit("export", "--class", "bottle", "--precision", precision, "--output", f"{precision}.onnx")
    return folder / "sample" / "bottle" / "test" / "good" / "000.png"


def drop_cache() -> str | None:
    """Drop the page cache; return the reason where that is not possible here, else `None`."""
    try:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
    except OSError as error:
        return f"{error.strerror or error}, which root may do on Linux"
    return None


def measured(python: Path, models: list[Path], image: Path, processes: int, *, dropped: bool) -> list[Start]:
    """Start `processes` processes of each kind for each model; they take turns."""
    found: dict[Path, list[dict[str, dict[str, float]]]] = {model: [] for model in models}
    commands: dict[Path, list[float]] = {model: [] for model in models}
    for turn in range(processes + (not dropped)):
        for model in models:
            if dropped:
                drop_cache()
            steps = _start(python, model, image)
            if dropped:
                drop_cache()
            seconds = _command(python, model, image)
            if turn or dropped:  # the first turn fills the page cache
                found[model].append(steps)
                commands[model].append(seconds)
    return [summarise(model, found[model], commands[model], cache="dropped" if dropped else "warm") for model in models]


def _start(python: Path, model: Path, image: Path) -> dict[str, dict[str, float]]:
    worker = Path(__file__).with_name("cold_start_worker.py")
    arguments = [str(path.absolute()) for path in (model, image)]
    begin = time.monotonic_ns()
    said: dict[str, dict[str, float]] = json.loads(_call([str(python), "-P", str(worker), str(begin), *arguments]))
    return said


def _command(python: Path, model: Path, image: Path) -> float:
    begin = time.perf_counter()
    _call([str(python.with_name("padim-edge")), "infer", str(model), str(image), "--device", "cpu"])
    return time.perf_counter() - begin


def _call(command: list[str]) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=isolated_environ(dict(os.environ)))
    return done.stdout


def summarise(model: Path, starts: list[dict[str, dict[str, float]]], commands: list[float], *, cache: str) -> Start:
    """Compute medians in milliseconds."""

    def middle(values: list[float]) -> float:
        return round(1e3 * median(values), 1)

    return Start(
        model=model.stem,
        megabytes=round(sum(path.stat().st_size for path in model.parent.glob(f"{model.name}*")) / MB, 1),
        cache=cache,
        processes=len(starts),
        steps={step: middle([each["steps"][step] for each in starts]) for step in starts[0]["steps"]},
        theirs=middle([sum(each["steps"][step] for step in THEIRS) for each in starts]),
        ours=middle([_ours(each["steps"]) for each in starts]),
        ours_processor=middle([_ours(each["processor"]) for each in starts]),
        total=middle([sum(each["steps"].values()) for each in starts]),
        command=middle(commands),
    )


def _ours(steps: dict[str, float]) -> float:
    return sum(seconds for step, seconds in steps.items() if step not in THEIRS)


def rows_of(starts: list[Start]) -> list[tuple[str, ...]]:
    """Return the rows of the table, one per step."""
    rows = [(name, *(f"{each.steps[name]:.1f}" for each in starts)) for name in [*THEIRS, *OURS]]
    sums = {
        "theirs": "theirs",
        "ours": "ours",
        "ours, processor time": "ours_processor",
        "to the first score": "total",
        "padim-edge infer": "command",
    }
    return rows + [(name, *(f"{getattr(each, field):.1f}" for each in starts)) for name, field in sums.items()]


def targets_of(size: float, starts: list[Start]) -> list[report.Target]:
    """Return the promises, which are about warm files."""
    targets = [report.Target("MB installed", MOST_MB, round(size, 1), at_most=True)]
    for each in starts:
        if each.cache == "warm":
            what = f"{each.model}, seconds from the start of the process to the first score"
            targets.append(report.Target(what, MOST_SECONDS, each.total / 1e3, at_most=True))
            what = f"{each.model}, seconds of that in our steps"
            targets.append(report.Target(what, MOST_OURS, each.ours / 1e3, at_most=True))
    return targets


if __name__ == "__main__":
    main()
