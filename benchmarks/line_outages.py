"""Take away what a running service needs: the broker, the target of the webhook, the room on the disk.

Images arrive all the time. Afterwards every image must have exactly one row, and broker and target must have heard of
every row at least once and in order. The service is a process of its own, and the broker is mosquitto.

    python -m benchmarks.line_outages --json benchmarks/results/line_outages.json

The broker and the target are away for 60 s each and the disk is full for 30 s; `--seconds 6` makes it a tenth of that.
The full disk is a small tmpfs where this may be mounted, which takes root. Otherwise the system refuses the process any
write behind the first kilobyte of a file, which it sees as another error.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # where the broker, the target and the images are made

import golden
from line.lines import drawn
from line.mosquitto import PROGRAM, REASON, Mosquitto, Subscriber, free_port, until
from line.webhook_target import Target
from PIL import Image

from benchmarks import report
from padim_edge_line.record import Reader

SECONDS = 60.0
"""Time that the broker and the target are away; the disk is full for half of it."""
_RATE = 5.0
"""Images a second."""
_ROOM_MB = 48
"""Size of the small disk."""
_LIMIT = 180.0
"""Seconds in which all must be told after an outage."""
_LOOK_S = 0.25
"""Seconds between two looks at the readiness."""


@dataclass
class Readiness:
    """Answers of `/ready` during one outage."""

    ready: int = 0
    """Number of answers that the service is ready."""
    unready: int = 0
    """Number of answers that it is not."""
    silent: int = 0
    """Number of times without an answer."""
    failing: Counter[str] = field(default_factory=Counter)
    """Number of times that each part was said to fail."""


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.line_outages", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=SECONDS, help="length of an outage; the promises are about 60")
    parser.add_argument("--rate", type=float, default=_RATE, help="images a second")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args()
    if PROGRAM is None:
        parser.error(f"{REASON}; install it")
    if options.seconds < 1 or not 0 < options.rate <= 100:
        parser.error("--seconds must be 1 or more, --rate above 0 and 100 at most")
    environment = report.probe(("onnxruntime", "aiomqtt", "httpx"), threads=None)
    report.print_header("outages", environment)
    with tempfile.TemporaryDirectory() as name, _disk(Path(name) / "disk") as small:
        results = _outages(Path(name), small, options.seconds, options.rate)
    for each in results:
        print(json.dumps(each))
    targets = _targets(results)
    report.print_targets(targets)
    settings = {"seconds": options.seconds, "rate": options.rate, "full disk": "tmpfs" if small else "RLIMIT_FSIZE"}
    report.write_json(options.json, "line_outages", environment, settings, results, targets)


def _outages(folder: Path, small: bool, seconds: float, rate: float) -> list[dict[str, Any]]:
    """Run the service through all outages, and return what became of the images of each."""
    port, results = free_port(), []
    with (
        Mosquitto(folder / "broker") as broker,
        Subscriber(broker.port, "padim-edge/#") as subscriber,
        Target() as hook,
    ):
        file = _line(folder, port, broker.port, hook.url)
        command = [sys.executable, "-m", "padim_edge_runtime", "run", str(file)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as service:
            try:
                until(lambda: service.poll() is not None or _ask(port)[0] == 200, "the service is ready", 120)
                assert service.poll() is None, "the service ended at its start"
                line = folder / "disk" / "line"
                outages: dict[str, Callable[[], Any]] = {
                    "broker": lambda: _away(broker, seconds),
                    "webhook": lambda: _away(hook, seconds),
                    "disk": lambda: _full(line, service.pid, seconds / 2, small=small),
                }
                for what, outage in outages.items():
                    results.append(_outage(what, outage, _World(folder, line, port, subscriber, hook, rate)))
                    assert service.poll() is None, "the service ended"
            finally:
                service.terminate()
                service.wait(30)
    return results


@dataclass(frozen=True)
class _World:
    """Everything around the service."""

    folder: Path
    """Folder with the images."""
    line: Path
    """Folder of the line."""
    port: int
    """Port of the page."""
    subscriber: Subscriber
    """Listener at the broker."""
    hook: Target
    """Target of the webhook."""
    rate: float
    """Images a second."""

    def told(self) -> dict[str, list[int]]:
        """Numbers of the rows that each sink has told, with repetitions."""
        topic = "padim-edge/outages/row"
        return {
            "broker": [each.json()["seq"] for each in self.subscriber.of(topic)],
            "webhook": self.hook.taken(),
        }


def _outage(what: str, outage: Callable[[], Any], world: _World) -> dict[str, Any]:
    """Let images arrive during one outage and a little before and after, and count what became of them."""
    images, seen, over = list[str](), Readiness(), threading.Event()
    first = _last(world.line)
    threads = [
        threading.Thread(target=_arrive, args=(world.folder / "images", what, world.rate, images, over)),
        threading.Thread(target=_look, args=(world.port, seen, over)),
    ]
    for thread in threads:
        thread.start()
    time.sleep(1)
    before = _last(world.line)
    outage()
    during = _last(world.line) - before
    time.sleep(1)
    over.set()
    for thread in threads:
        thread.join()
    began = time.monotonic()
    everything = first + len(images)

    def complete() -> bool:
        return _last(world.line) >= everything and all(everything in seqs for seqs in world.told().values())

    with contextlib.suppress(AssertionError):
        until(complete, "all rows are told", _LIMIT)
    rows = _rows(world.line, first)
    found: dict[str, Any] = {
        "outage": what,
        "images": len(images),
        "rows during the outage": during,
        "images without a row": len(set(images) - set(rows)),
        "images with several rows": sum(count > 1 for count in Counter(rows).values()),
        "caught up after s": round(time.monotonic() - began, 1),
        "ready": seen.ready,
        "not ready": seen.unready,
        "no answer": seen.silent,
        "ready at the end": _ask(world.port)[0] == 200,
        "said to fail": dict(seen.failing),
    }
    for sink, seqs in world.told().items():
        mine = [seq for seq in seqs if seq > first]
        once = list(dict.fromkeys(mine))
        found[f"{sink}: lost"] = everything - first - len(once)
        found[f"{sink}: told again"] = len(mine) - len(once)
        found[f"{sink}: in order"] = once == sorted(once)
    return found


def _targets(results: list[dict[str, Any]]) -> list[report.Target]:
    """Compare with the promises."""
    found = []
    for each in results:
        what = each["outage"]
        lost = each["images without a row"] + each["broker: lost"] + each["webhook: lost"]
        found.append(report.Target(f"{what}: lost", 0, lost, at_most=True))
        found.append(
            report.Target(f"{what}: images with several rows", 0, each["images with several rows"], at_most=True)
        )
        order = each["broker: in order"] and each["webhook: in order"]
        found.append(report.Target(f"{what}: in order (1 is yes)", 1, float(order)))
        if what == "disk":
            told = each["not ready"] > 0
        else:
            part = "mqtt" if what == "broker" else what
            told = each["not ready"] == 0 and each["said to fail"].get(f"sink {part}", 0) > 0
            found.append(report.Target(f"{what}: rows meanwhile", 1, each["rows during the outage"]))
        found.append(report.Target(f"{what}: readiness tells (1 is yes)", 1, float(told and each["ready at the end"])))
    return found


def _line(folder: Path, port: int, broker: int, url: str) -> Path:
    """Write the file of the line."""
    (folder / "images").mkdir()
    file = folder / "line.toml"
    file.write_text(
        f"""
name = "outages"
folder = "{folder / "disk" / "line"}"
[products.part]
model = "{golden.WHOLE}"
[[sources]]
kind = "folder"
name = "inbox"
path = "{folder / "images"}"
[[sinks]]
kind = "mqtt"
host = "127.0.0.1"
port = {broker}
[[sinks]]
kind = "webhook"
url = "{url}"
[server]
port = {port}
[record]
images_mb = 2
""",
        encoding="utf-8",
    )
    return file


def _arrive(folder: Path, prefix: str, rate: float, images: list[str], over: threading.Event) -> None:
    """Write images until it is over. Each is complete when it gets its name."""
    number = 0
    while not over.wait(1 / rate):
        name = f"{prefix}-{number:06}.png"
        Image.fromarray(drawn(number)).save(folder.parent / "unfinished.png")
        (folder.parent / "unfinished.png").replace(folder / name)
        images.append(name)
        number += 1


def _look(port: int, seen: Readiness, over: threading.Event) -> None:
    """Ask for the readiness until it is over."""
    while not over.wait(_LOOK_S):
        status, content = _ask(port)
        seen.ready += status == 200
        seen.unready += status == 503
        seen.silent += status not in (200, 503)
        seen.failing.update(f"{part['kind']} {part['name']}" for part in content.get("failing", ()))


def _ask(port: int) -> tuple[int, dict[str, Any]]:
    """Ask for the readiness once; 0 where nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    except (OSError, ValueError):
        return 0, {}


def _away(it: Mosquitto | Target, seconds: float) -> None:
    """Stop a server for a while."""
    it.stop()
    time.sleep(seconds)
    it.start()


def _full(line: Path, pid: int, seconds: float, *, small: bool) -> None:
    """Leave no room on the line's disk for a while."""
    if small:
        filler = line.parent / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        time.sleep(seconds)
        filler.unlink()
        return
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1024, before[1]))
    time.sleep(seconds)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


@contextmanager
def _disk(folder: Path) -> Iterator[bool]:
    """Mount a small disk, and tell whether that was possible."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={_ROOM_MB}m", "tmpfs"]
    small = os.name == "posix" and hasattr(os, "geteuid") and os.geteuid() == 0
    small = small and subprocess.run(["mount", *options, str(folder)], capture_output=True, check=False).returncode == 0
    try:
        yield small
    finally:
        if small:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)


def _last(line: Path) -> int:
    """Return the number of the last row."""
    reader = Reader(line)
    try:
        return reader.last()
    finally:
        reader.close()


def _rows(line: Path, after: int) -> list[str]:
    """Return the names of the images of all rows behind one."""
    reader = Reader(line)
    try:
        return [row.name for row in reader.rows(after=after)]
    finally:
        reader.close()


if __name__ == "__main__":
    main()
