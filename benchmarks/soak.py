"""Run one process for long, and watch what grows: memory, open files, threads, sockets, and scores that change.

Each round inspects files in threads, shares one detector between threads, loads the model anew while another process
could be writing it, meets images that cannot be read, and draws heat maps. The model is small, so that a round takes
seconds and thousands of inferences run in minutes.

    python -m benchmarks.soak --minutes 20 --json benchmarks/results/soak.json
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks import report

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from padim_edge_runtime.detector import Detector

FILES, THREADS = 5000, 4
INFERENCES, GROWTH_MB = 20_000, 10.0
"""Promises: at least so many inferences, and at most so much more memory."""
_AT_ONCE = 500
"""Number of files that a round inspects."""
_WARM = 0.2
"""Share of the rounds before the memory counts: allocators and pools take what they keep in the first ones."""
_EVERY = 0.2
"""Seconds between two looks at the open files."""


@dataclass(frozen=True)
class Round:
    """State of the process behind one round."""

    seconds: float
    """Time since the start."""
    inferences: int
    """Number of inferences so far."""
    rss_mb: float
    """Resident memory."""
    handles: int
    """Number of open files."""
    threads: int
    """Number of threads."""


@dataclass
class Seen:
    """Counts and states of one run."""

    rounds: list[Round] = field(default_factory=list)
    """State behind each round."""
    inferences: int = 0
    """Number of inferences."""
    loads: int = 0
    """Number of times that the model was loaded."""
    unreadable: int = 0
    """Number of images that were refused."""
    changed: int = 0
    """Number of scores that were not those of the first time."""
    sockets: int = 0
    """Largest number of open sockets at any look."""


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20, help="time to run; the promises are about 20")
    parser.add_argument("--files", type=int, default=FILES, help="number of image files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args()
    if options.minutes <= 0 or options.files < 8:
        parser.error("--minutes must be above 0, --files 8 or more")
    environment = report.probe(("onnxruntime", "pillow"), threads=None)
    report.print_header("one process for long", environment)
    with tempfile.TemporaryDirectory() as folder:
        seen = soak(Path(folder), options.files, options.minutes, print)
    targets = targets_of(seen)
    report.print_targets(targets)
    settings = {"minutes": options.minutes, "files": options.files, "threads": THREADS}
    totals = {key: value for key, value in asdict(seen).items() if key != "rounds"}
    results: list[dict[str, Any]] = [totals, *(asdict(each) for each in thinned(seen.rounds))]
    report.write_json(options.json, "soak", environment, settings, results, targets)


def soak(folder: Path, count: int, minutes: float, tell: Callable[[str], object]) -> Seen:
    """Make a model and images, and run rounds until the time is over.

    Args:
        folder: Folder for the model and the images.
        count: Number of image files.
        minutes: Time for the rounds.
        tell: Called with one line every tenth of the time.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:  # torch stays out of this process
        model = pool.submit(_model, folder / "model.onnx").result()
    files = _drawn(folder / "images", count)
    seen, scores = Seen(), dict[Path, float]()
    start, told = time.monotonic(), 0.0
    with _watched(seen):
        while (now := time.monotonic() - start) < 60 * minutes:
            first = len(seen.rounds) * _AT_ONCE % max(1, len(files))
            _round(model, (files + files)[first : first + _AT_ONCE], scores, seen)
            state = _state(time.monotonic() - start, seen.inferences)
            seen.rounds.append(state)
            if now >= told:
                told = now + 6 * minutes
                tell(
                    f"{state.seconds:6.0f} s  {state.inferences:7} inferences  {state.rss_mb:7.1f} MB  "
                    f"{state.handles} open files  {state.threads} threads"
                )
    return seen


def _model(path: Path) -> Path:
    """Export a small model with a data file."""
    from padim_edge import fit, preset
    from padim_edge.sample import draw_good
    from padim_edge_model import onnx_file

    onnx_file.EXTERNAL_ABOVE = 0  # type: ignore[misc]  # the constants are memory-mapped, as those of large models
    good = [draw_good("bottle", number, size=64) for number in range(12)]
    fit(good, preset("edge", backbone="builtin", size="64"), progress=False).export(path, progress=False)
    return path


def _drawn(folder: Path, count: int) -> list[Path]:
    """Write image files: PNG, JPEG and grey ones, and one in fifty that is damaged."""
    from PIL import Image

    from padim_edge.sample import draw_good

    folder.mkdir()
    paths = []
    drawn = [Image.fromarray(draw_good("bottle", 100 + number, size=96)) for number in range(min(count, 40))]
    for number in range(count):
        image = drawn[number % len(drawn)]
        path = folder / f"{number:05d}.{'png' if number % 3 else 'jpg'}"
        (image.convert("L") if number % 7 == 0 else image).save(path)
        if number % 50 == 49:
            content = path.read_bytes()
            path.write_bytes(content[: len(content) // 2])
        paths.append(path)
    return paths


def _round(model: Path, files: list[Path], scores: dict[Path, float], seen: Seen) -> None:
    """Load the model, inspect files in threads, and share the detector between threads."""
    import numpy as np

    from padim_edge_runtime.detector import Detector
    from padim_edge_runtime.inspection import Unreadable

    detector = Detector.load(model, "cpu", threads=1)
    assert detector.self_test().passed
    seen.loads += 1
    for number, result in enumerate(detector.inspect_many(files)):
        if isinstance(result, Unreadable):
            seen.unreadable += 1
            continue
        assert result.path is not None
        seen.inferences += 1
        seen.changed += scores.setdefault(result.path, result.score) != result.score
        if number % 100 == 0:
            result.overlay().close()
    frames = np.random.default_rng(len(seen.rounds)).integers(0, 256, (8, *detector.metadata.input_size, 3), np.uint8)
    wanted = [float(detector(frame).score[0]) for frame in frames]
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda _: _scores(detector, frames), range(THREADS)))
    seen.inferences += len(frames) * (1 + THREADS)
    seen.changed += sum(each != wanted for each in found)


def _scores(detector: Detector, frames: npt.NDArray[np.uint8]) -> list[float]:
    return [float(detector(frame).score[0]) for frame in frames]


@contextmanager
def _watched(seen: Seen) -> Iterator[None]:
    """Count open sockets now and then, in a thread of its own."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_EVERY):
            seen.sockets = max(seen.sockets, _sockets())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _sockets() -> int:
    return sum(each.startswith("socket:") for each in _opened())


def _opened() -> list[str]:
    """Return what each open descriptor of this process leads to."""
    found = []
    for path in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(path.readlink()))
        except OSError:  # the descriptor of the listing itself
            continue
    return found


def _state(seconds: float, inferences: int) -> Round:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    rss = int(fields["VmRSS"].split()[0]) / 1024
    return Round(round(seconds, 1), inferences, round(rss, 1), len(_opened()), int(fields["Threads"]))


def growth(rounds: list[Round]) -> float | None:
    """Return the growth of the memory in MB: median of the last fifth of the rounds over that behind the warm-up."""
    warm = rounds[int(_WARM * len(rounds)) :]
    fifth = len(warm) // 5
    if not fifth:
        return None
    return median(each.rss_mb for each in warm[-fifth:]) - median(each.rss_mb for each in warm[:fifth])


def targets_of(seen: Seen) -> list[report.Target]:
    """Compare with the promises."""
    warm = seen.rounds[int(_WARM * len(seen.rounds)) :]
    handles = float(warm[-1].handles - warm[0].handles) if warm else None
    return [
        report.Target("inferences", INFERENCES, seen.inferences),
        report.Target("growth of the memory in MB", GROWTH_MB, growth(seen.rounds), at_most=True),
        report.Target("open files more at the end", 0, handles, at_most=True),
        report.Target("open sockets at any time", 0, seen.sockets, at_most=True),
        report.Target("scores that changed", 0, seen.changed, at_most=True),
    ]


def thinned(rounds: list[Round], most: int = 60) -> list[Round]:
    """Return an even selection of the rounds, with the last one."""
    step = max(1, -(-len(rounds) // most))
    return rounds[-1::-step][::-1]


if __name__ == "__main__":
    main()
