"""Watch a folder: kills, throughput, time from a closed file to its verdict, and 100 000 images in one process.

    python -m benchmarks.line_watch --kills --throughput --delay --many --json benchmarks/results/line_watch.json

The model and the images are the tests' own small ones; `--model` and `--images` take others for throughput and delay,
which should be ones that are used, as the small ones take less time than writing a row.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # where the process, the broker and the images are made

import drawn_images
import golden
from line.mosquitto import PROGRAM, Mosquitto, Subscriber
from line.watch_process import Watch, last

from benchmarks import report
from padim_edge_line.record import Reader
from padim_edge_line.record.checking import check
from padim_edge_line.row import Row

__all__: list[str] = []

RATIO, DELAY_MS, GROWTH_MB, ROW_BYTES = 0.9, 25.0, 15.0, 600.0
"""Promises."""
_AHEAD = 300
"""Most files that wait while the process is killed."""
_DRAWN = 50
"""Number of different images."""


@dataclass(frozen=True)
class Parts:
    """Results of one part."""

    results: list[dict[str, Any]]
    """Figures."""
    targets: list[report.Target]
    """Promises and what was found."""


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.line_watch", description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=golden.WHOLE, help="model for throughput and delay")
    parser.add_argument("--images", type=Path, metavar="DIR", help="good images for throughput and delay")
    parser.add_argument("--kills", type=int, nargs="?", const=200, default=0, help="kill so many times (200)")
    parser.add_argument("--files", type=int, default=10_000, help="files for --kills")
    parser.add_argument("--throughput", type=int, nargs="?", const=1000, default=0, help="with so many files (1000)")
    parser.add_argument("--delay", type=int, nargs="?", const=500, default=0, help="of so many files (500)")
    parser.add_argument("--many", type=int, nargs="?", const=100_000, default=0, help="so many files (100000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args()
    if not (options.kills or options.throughput or options.delay or options.many):
        parser.error("say what to do: --kills, --throughput, --delay, --many")
    environment = report.probe(("onnxruntime", "pillow", "watchfiles"), threads=None)
    report.print_header("a watched folder", environment)
    found: list[Parts] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = _drawn(folder / "drawn")
        images = small if options.images is None else sorted(p for p in options.images.iterdir() if p.is_file())
        if options.kills:
            found.append(kills(folder / "kills", small, options.files, options.kills))
        if options.throughput:
            found.append(throughput(folder / "throughput", options.model, images, options.throughput))
        if options.delay:
            found.append(delay(folder / "delay", options.model, images, options.delay))
        if options.many:
            found.append(many(folder / "many", small, options.many))
    results = [each for part in found for each in part.results]
    targets = [each for part in found for each in part.targets]
    for each in results:
        print(each)
    report.print_targets(targets)
    settings = {name: getattr(options, name) for name in ("kills", "files", "throughput", "delay", "many")}
    settings["model"] = options.model.name
    report.write_json(options.json, "line_watch", environment, settings, results, targets)


def kills(folder: Path, images: Sequence[Path], count: int, times: int) -> Parts:
    """Kill a watching process at random moments while files are written, and count rows and messages."""
    watched, line = folder / "in", folder / "line"
    watched.mkdir(parents=True)
    pick = random.Random(18)
    over = threading.Event()
    writer = threading.Thread(target=_write, args=[images, watched, line, count, over])
    broker = Mosquitto(folder / "broker") if PROGRAM else None
    start = time.monotonic()
    subscriber = None
    try:
        if broker is not None:
            broker.start()
            subscriber = Subscriber(broker.port, "padim-edge/+/row")
        options = [] if broker is None else ["--mqtt", f"127.0.0.1:{broker.port}"]
        writer.start()
        for number in range(times):
            with Watch(watched, golden.WHOLE, line, options) as watch:
                if number % 4:  # at work
                    watch.until(min(count, last(line) + pick.randint(1, max(1, 2 * count // times - 1))))
                    time.sleep(pick.uniform(0, 0.05))
                else:  # at its start
                    time.sleep(pick.uniform(0, 1.5))
                watch.kill()
        with Watch(watched, golden.WHOLE, line, options) as watch:
            watch.until(count)
            end = time.monotonic() + 120
            while subscriber is not None and _newest(subscriber) < last(line) and time.monotonic() < end:
                time.sleep(0.1)
            time.sleep(1)
            watch.stop()
        numbers = [] if subscriber is None else [each.json()["seq"] for each in tuple(subscriber.messages)]
    finally:
        over.set()
        writer.join()
        if subscriber is not None:
            subscriber.__exit__()
        if broker is not None:
            broker.stop()
    reader = Reader(line)
    rows = Counter(row.name for row in reader.rows())
    broken = check(reader).broken
    total = reader.last()
    reader.close()
    result = {
        "part": "kills",
        "files": count,
        "kills": times,
        "rows": total,
        "lost": sum(f"{number:06}{images[0].suffix}" not in rows for number in range(count)),
        "twice": sum(times > 1 for times in rows.values()),
        "chain broken": len(broken),
        "messages": len(numbers) if broker else None,
        "messages missing": len(set(range(1, total + 1)) - set(numbers)) if broker else None,
        "messages out of order": _disorder(numbers) if broker else None,
        "seconds": round(time.monotonic() - start, 1),
    }
    wanted = ("lost", "twice", "chain broken", "messages missing", "messages out of order")
    return Parts([result], [report.Target(f"kills: {name}", 0, result[name], at_most=True) for name in wanted])  # type: ignore[arg-type]


def _disorder(numbers: Sequence[int]) -> int:
    """Count the messages that came before an earlier row had been told. A repeated one is in order."""
    count = newest = 0
    for number in numbers:
        count += number > newest + 1
        newest = max(newest, number)
    return count


def _newest(subscriber: Subscriber) -> int:
    return max((each.json()["seq"] for each in tuple(subscriber.messages)[-50:]), default=0)


def _write(images: Sequence[Path], watched: Path, line: Path, count: int, over: threading.Event) -> None:
    """Write files as a camera program does, never many more than were judged."""
    for number in range(count):
        if number % 50 == 0:
            while number - last(line) > _AHEAD and not over.wait(0.05):
                pass
        if over.is_set():
            return
        source = images[number % len(images)]
        shutil.copyfile(source, watched / f"{number:06}{source.suffix}")


def throughput(folder: Path, model: Path, images: Sequence[Path], count: int, rounds: int = 3) -> Parts:
    """Judge the same folder with `watch` and with `infer` in turns. Only the time between first and last row counts."""
    watched = folder / "in"
    watched.mkdir(parents=True)
    for number in range(count):
        source = images[number % len(images)]
        shutil.copyfile(source, watched / f"{number:06}{source.suffix}")
    rates: dict[str, list[float]] = {"watch": [], "infer": []}
    for number in range(rounds):
        rates["infer"].append(_infer(model, watched))
        line = folder / f"line{number}"
        with Watch(watched, model, line) as watch:
            watch.until(1)
            begun, start = last(line), time.perf_counter()
            watch.until(count)
            rates["watch"].append((count - begun) / (time.perf_counter() - start))
            watch.stop()
        alarms = _alarms(line)
    ratio = median(a / b for a, b in zip(rates["watch"], rates["infer"], strict=True))
    result = {
        "part": "throughput",
        "files": count,
        **{f"{name} per s": round(median(values), 1) for name, values in rates.items()},
        "ratio": round(ratio, 3),
        "images kept because they are not good": alarms,
    }
    return Parts([result], [report.Target("throughput of watch against infer", RATIO, ratio)])


def _infer(model: Path, watched: Path) -> float:
    command = [sys.executable, "-m", "padim_edge_runtime", "infer", str(model), str(watched), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        start, count = time.perf_counter(), 0
        for _ in process.stdout:
            count += 1
        seconds = time.perf_counter() - start
    return count / seconds


def _alarms(line: Path) -> int:
    reader = Reader(line)
    try:
        return sum(row.verdict != "good" for row in reader.rows())
    finally:
        reader.close()


def delay(folder: Path, model: Path, images: Sequence[Path], count: int) -> Parts:
    """Write one file at a time, and wait for its row."""
    watched, line = folder / "in", folder / "line"
    watched.mkdir(parents=True)
    over: list[float] = []
    whole: list[float] = []
    with Watch(watched, model, line) as watch:
        for number in range(count + 10):
            source = images[number % len(images)]
            content = source.read_bytes()
            with (watched / f"{number:06}{source.suffix}").open("wb") as file:
                for start in range(0, len(content), 1 << 16):
                    file.write(content[start : start + (1 << 16)])
            closed = time.perf_counter()
            if number == 0:
                watch.until(1)
                reader = Reader(line)
                continue
            row = _row(reader, number + 1)
            milliseconds = 1e3 * (time.perf_counter() - closed)
            if number >= 10:  # warm
                whole.append(milliseconds)
                over.append(milliseconds - row.model_ms)
            time.sleep(random.Random(number).uniform(0.01, 0.05))
        reader.close()
        watch.stop()
    p95 = quantiles(over, n=20)[18]
    result = {
        "part": "delay",
        "files": count,
        "closed to recorded p50 ms": round(median(whole), 1),
        "closed to recorded p95 ms": round(quantiles(whole, n=20)[18], 1),
        "without the model p50 ms": round(median(over), 1),
        "without the model p95 ms": round(p95, 1),
    }
    return Parts(
        [result], [report.Target("file closed to row without the model, p95 in ms", DELAY_MS, p95, at_most=True)]
    )


def _row(reader: Reader, number: int) -> Row:
    end = time.monotonic() + 60
    while (row := reader.row(number)) is None:
        assert time.monotonic() < end, "no row within 60 s"
        time.sleep(0.001)
    return row


def many(folder: Path, images: Sequence[Path], count: int) -> Parts:
    """Judge many files in one process: half of them are there at the start, the others come. Watch what grows."""
    watched, line = folder / "in", folder / "line"
    watched.mkdir(parents=True)
    _filled(images, watched, range(count // 2))
    states: list[dict[str, Any]] = []
    with Watch(watched, golden.WHOLE, line) as watch:
        watch.until(1)
        over = threading.Event()
        writer = threading.Thread(target=_come, args=[images, watched, line, count, over])
        writer.start()
        try:
            step = max(1, count // 40)
            for rows in itertools.count(step, step):
                watch.until(min(rows, count), 24 * 3600)
                states.append({"part": "many", "rows": last(line), **_state(watch.process.pid)})
                if rows >= count:
                    break
        finally:
            over.set()
            writer.join()
        time.sleep(2)
        states.append({"part": "many", "rows": last(line), **_state(watch.process.pid)})
        watch.process.send_signal(signal.SIGTERM)
        watch.process.wait(60)
    size = sum(path.stat().st_size for path in line.glob("record.sqlite*"))
    warm = states[len(states) // 10 :]
    growth = max(each["rss_mb"] for each in warm) - warm[0]["rss_mb"]
    handles = max(each["handles"] for each in warm) - warm[0]["handles"]
    states.append(
        {"part": "many", "files": count, "bytes a row": round(size / count, 1), "growth_mb": round(growth, 1)}
    )
    targets = [
        report.Target("many: growth of the memory in MB", GROWTH_MB, growth, at_most=True),
        report.Target("many: more open files", 2, float(handles), at_most=True),
        report.Target("many: bytes of the record a row", ROW_BYTES, size / count, at_most=True),
    ]
    return Parts(states, targets)


def _come(images: Sequence[Path], watched: Path, line: Path, count: int, over: threading.Event) -> None:
    for start in range(count // 2, count, 500):
        while start - last(line) > 2 * _AHEAD:
            if over.wait(0.1):
                return
        _filled(images, watched, range(start, min(start + 500, count)))


def _filled(images: Sequence[Path], watched: Path, numbers: range) -> None:
    for number in numbers:
        source = images[number % len(images)]
        sub = watched / f"{number // 1000:03}"
        sub.mkdir(exist_ok=True)
        os.link(source, sub / f"{number:06}{source.suffix}")


def _state(process: int) -> dict[str, Any]:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    handles = len(list(Path(f"/proc/{process}/fd").iterdir()))
    rss = round(int(fields["VmRSS"].split()[0]) / 1024, 1)
    return {"rss_mb": rss, "handles": handles, "threads": int(fields["Threads"])}


def _drawn(folder: Path) -> list[Path]:
    folder.mkdir(parents=True)
    found = []
    for number in range(_DRAWN):
        path = folder / f"{number:03}.png"
        drawn_images.good(number).save(path)
        found.append(path)
    return found


if __name__ == "__main__":
    main()
