"""Judge an archive with Ray: speed against `infer`, scores bit for bit, and workers that are killed.

    python -m benchmarks.archive --images 20000 --kills 3 --json benchmarks/results/archive.json

It runs in an environment with the runtime, `ray[data]` and fsspec, such as that of the group `archive`. Model and
images are the tests' own small ones, whose judging takes less time than reading them; `--model` and `--from` take
others.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # where the process and the images are made

import drawn_images
import golden
from archive_process import EXAMPLE, ended, kill, processes, rows_of, started, wait_for_parts

from benchmarks import report

__all__: list[str] = []

RATIO = 0.9
"""Promised share of the speed of `infer`."""
_DRAWN = 50
"""Number of different images."""
_LISTED = 300_000
"""Number of drawn names whose memory is measured."""
_WORKERS = 2


@dataclass(frozen=True, kw_only=True)
class Task:
    """All that a run needs."""

    model: Path
    """The model."""
    source: Path
    """Folder of the images."""
    count: int
    """Number of images."""
    part: int
    """Number of images of a part."""


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.archive", description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=golden.WHOLE, help="model to judge with")
    parser.add_argument("--from", dest="images_of", type=Path, metavar="DIR", help="images to take copies of")
    parser.add_argument("--images", type=int, default=20_000, help="number of images")
    parser.add_argument("--part", type=int, default=500, help="images of a part")
    parser.add_argument("--rounds", type=int, default=1, help="turns of infer and Ray")
    parser.add_argument("--kills", type=int, default=3, help="workers to kill, one after the other")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args()
    environment = report.probe(("onnxruntime", "pillow", "ray", "pyarrow", "fsspec"), threads=1)
    report.print_header("an archive", environment)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = _filled(folder / "images", _drawn(folder / "drawn", options.images_of), options.images)
        task = Task(model=options.model, source=source, count=options.images, part=options.part)
        results, targets = _speed(task, folder, options.rounds)
        if options.kills:
            more, kept = _killed(task, folder / "killed", options.kills)
            results, targets = [*results, *more], [*targets, *kept]
        results.append(_listing())
    for each in results:
        print(each)
    report.print_targets(targets)
    settings = {name: getattr(options, name) for name in ("images", "part", "rounds", "kills")}
    report.write_json(options.json, "archive", environment, {**settings, "model": options.model.name}, results, targets)


def _drawn(folder: Path, given: Path | None) -> list[Path]:
    if given is not None:
        return sorted(path for path in given.iterdir() if path.is_file())
    folder.mkdir()
    for number in range(_DRAWN):
        image = drawn_images.defective(number)[0] if number % 10 == 0 else drawn_images.good(number)
        image.save(folder / f"{number}.png")
    return sorted(folder.iterdir())


def _filled(folder: Path, images: Sequence[Path], count: int) -> Path:
    """Make an archive of links to a few images, a thousand in each folder."""
    for number in range(count):
        image = images[number % len(images)].resolve()
        link = folder / f"{number // 1000:04d}" / f"{number:07d}{image.suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(image)
    return folder


def _speed(task: Task, folder: Path, rounds: int) -> tuple[list[dict[str, Any]], list[report.Target]]:
    """Take turns of `infer` with a thread per core and Ray with two workers, and compare the rows."""
    infer, ray, steady = [], [], []
    for number in range(rounds):
        start = time.perf_counter()
        command = [sys.executable, "-m", "padim_edge_runtime", "infer", task.model, task.source, "--json"]
        done = subprocess.run([*command, "--device", "cpu"], capture_output=True, text=True, check=True)
        infer.append(task.count / (time.perf_counter() - start))
        output = folder / f"out {number}"
        start = time.perf_counter()
        _run(task, output, _WORKERS)
        ray.append(task.count / (time.perf_counter() - start))
        steady.append(_steady(output, task))
    expected = {}
    for line in done.stdout.splitlines():
        said = json.loads(line)
        expected[Path(said["path"]).relative_to(task.source).as_posix()] = said
    rows = rows_of(Path(sys.executable), output)
    other = sum(row[key] != value for row in rows for key, value in _compared(expected[row["path"]]).items())
    size = sum(path.stat().st_size for path in output.rglob("*.parquet")) / task.count
    shutil.rmtree(output)
    result = {
        "part": "speed",
        "infer_per_second": median(infer),
        "ray_per_second": median(ray),
        "ray_steady_per_second": median(steady),
        "bytes_of_parquet_per_image": size,
    }
    return [result], [
        report.Target("2 workers / infer with 2 threads, the whole command", RATIO, median(ray) / median(infer)),
        report.Target("2 workers / infer with 2 threads, once Ray runs", RATIO, median(steady) / median(infer)),
        report.Target("fields that differ from those of infer", 0, other, at_most=True),
        report.Target("rows", task.count, len(rows)),
    ]


def _compared(said: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in said.items() if key not in ("path", "milliseconds")}


def _run(task: Task, output: Path, workers: int) -> None:
    run = (task.model, task.source, output, "--workers", workers, "--part", task.part)
    print(ended(started(Path(sys.executable), *run), timeout=None))


def _steady(output: Path, task: Task) -> float:
    """Compute the images per second between the first parts of all workers and the last part."""
    times = sorted(path.stat().st_mtime for path in output.rglob("part-*.parquet"))
    if len(times) <= _WORKERS + 1:
        return float("nan")
    return (task.count - _WORKERS * task.part) / (times[-1] - times[_WORKERS - 1])


def _killed(task: Task, output: Path, times: int) -> tuple[list[dict[str, Any]], list[report.Target]]:
    """Kill workers of a run with four, one after the other, then count the rows of each image."""
    mark = uuid.uuid4().hex
    run = (task.model, task.source, output, "--workers", 4, "--part", task.part)
    process = started(Path(sys.executable), *run, mark=mark)
    parts = -(-task.count // task.part)
    for number in range(times):
        wait_for_parts(output, 1 + number * parts // (times + 1), process)
        while not processes(mark, "ray::MapWorker"):  # the one before is being replaced
            time.sleep(0.1)
        kill(mark)
    print(ended(process, timeout=None))
    counts = Counter(row["path"] for row in rows_of(Path(sys.executable), output))
    lost, twice = task.count - len(counts), sum(count > 1 for count in counts.values())
    return [{"part": "killed", "kills": times, "images": task.count, "lost": lost, "twice": twice}], [
        report.Target(f"{times} workers killed: images lost", 0, lost, at_most=True),
        report.Target(f"{times} workers killed: images twice", 0, twice, at_most=True),
    ]


def _listing() -> dict[str, Any]:
    """Measure the memory and time that the program takes for the list of an archive, per image."""
    spec = importlib.util.spec_from_file_location("ray_archive", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    archive = sys.modules["ray_archive"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(archive)
    before, start = _resident(), time.perf_counter()
    images = [
        archive.Image(
            name=f"plant-3/line-07/2026-05-{i % 30:02d}/part-{i:08d}.jpg", size=250_000 + i, stamp=f"{i:032x}"
        )
        for i in range(_LISTED)
    ]
    done = {image.key for image in images}
    work = [archive.described(part) for part in archive.parts(images, set(), 500)]
    return {
        "part": "list",
        "bytes_of_memory_per_image": (_resident() - before) / len(done),
        "microseconds_per_image": 1e6 * (time.perf_counter() - start) / len(images),
        "bytes_of_work_per_image": sum(map(len, work)) / len(images),
    }


def _resident() -> int:
    with Path("/proc/self/statm").open() as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
