"""Compare CUDA and TensorRT with the CPU in scores, and with the same model as a torch module in time.

It needs onnxruntime with that device (`padim-edge-runtime[gpu]`, with `onnxruntime-gpu[cuda,cudnn]` for the libraries).
A device that is not there is left out with its reason. `--device cpu` tries the command itself, without any GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import report
from benchmarks.images import Source, dataset, frames
from padim_edge_artifact import PadimEdgeError

if TYPE_CHECKING:
    from padim_edge.datasets import Dataset
    from padim_edge.model import Model

PARITY = {"fp32": 1e-3, "fp16": 2e-2, "int8": 5e-2}
"""Largest relative difference of a score from that of the same file on the CPU. TensorRT rounds int8 elsewhere."""

TORCH = "torch module"

WARM_UP = 20
"""Calls before anything is timed."""

Judge = Callable[[np.ndarray], np.ndarray]
"""Function of `(N, H, W, 3)` uint8 that returns scores `(N,)`, both in the CPU's memory."""


@dataclass(frozen=True)
class Row:
    """One model on one device."""

    device: str
    """Device that it ran on."""
    engine: str
    """`onnxruntime`, or `TORCH`."""
    preset: str
    """Name of the preset."""
    precision: str
    """Number types."""
    batch: int
    """Number of images in a call."""
    milliseconds: float
    """Median of one call, copying to the device and back included."""
    p10: float
    """Tenth percentile in milliseconds."""
    p90: float
    """Ninetieth percentile in milliseconds."""
    images_per_second: float
    """Images per second at the median."""
    score_error: float
    """Largest relative difference of a score from the same model's on the CPU; for torch, from our fp32 model's."""
    floor: float | None
    """Milliseconds that reading the model's constants once from the device's memory takes; `None` on the CPU."""


@dataclass(frozen=True, eq=False)
class Opened:
    """A model that is ready to judge on a device."""

    about: dict[str, str]
    """Device, engine, preset and precision, by field of `Row`."""
    judge: Judge
    """Function that judges a batch."""
    expected: dict[int, np.ndarray]
    """Scores that it should give, `(N,)`, by batch size: batches of other sizes are rounded differently."""
    bytes: int
    """Size of the model's files."""


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--device", type=report.names, default=("cuda", "tensorrt"), help="comma-separated")
    parser.add_argument("--data", type=Path, metavar="DIR", help="root of MVTec AD; the built-in sample unless given")
    parser.add_argument("--class", dest="class_name", default="bottle")
    parser.add_argument("--images", type=int, default=60, help="good images to fit on")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights of the backbone; random unless given")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--preset", type=report.names, default=("paper", "edge", "accurate"), help="comma-separated")
    parser.add_argument("--precision", type=report.names, default=("fp32", "fp16", "int8"), help="comma-separated")
    parser.add_argument("--batch", type=report.names, default=("1", "8"), help="comma-separated")
    parser.add_argument("--rounds", type=int, default=200, help="timed calls")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args()
    report.refuse_unknown(parser, options.preset)
    if options.images < max(int(each) for each in options.batch):
        parser.error("--images must be at least the largest --batch")

    packages = ("padim-edge", "numpy", "onnxruntime", "onnxruntime-gpu", "tensorrt", "torch")
    environment = report.probe(packages, threads=None)
    report.print_header(f"on {', '.join(options.device)}", environment)
    left_out: dict[str, str] = {}
    devices = [device for device in options.device if is_there(device, left_out)]
    rows: list[Row] = []
    hardware = {device: describe(device) for device in devices}
    for device, words in hardware.items():
        print(f"  {device:<10}{words}")
    if devices:
        with tempfile.TemporaryDirectory() as folder:
            rows = run(options, devices, Path(folder), left_out)
        report.print_table(
            ("device", "engine", "preset", "precision", "batch", "ms", "p10 - p90", "images/s", "floor ms", "error"),
            [_words(row) for row in rows],
            words=4,
        )
    for what, why in left_out.items():
        print(f"left out: {what}: {why}")
    targets = [
        report.Target(
            f"{each.device} {each.preset} {each.precision}, batch {each.batch}: score against the CPU's",
            PARITY[each.precision],
            each.score_error,
            at_most=True,
        )
        for each in rows
    ]
    report.print_targets(targets)
    settings = {"backbone": options.backbone, "hardware": hardware, "left_out": left_out, "rounds": options.rounds}
    report.write_json(options.json, "gpu", environment, settings, [dataclasses.asdict(row) for row in rows], targets)
    if not rows:
        raise SystemExit("nothing was measured: none of these devices is here; run this on a machine that has one")


def is_there(device: str, left_out: dict[str, str]) -> bool:
    """Try the device out on the smallest model; the reason of a refusal goes to `left_out`."""
    from padim_edge_runtime.devices.providers import open_session
    from padim_edge_runtime.devices.tiny import tiny_model

    try:
        open_session(tiny_model(), device)
    except PadimEdgeError as error:
        left_out[device] = str(error)
        return False
    return True


def describe(device: str) -> str:
    """Return the hardware behind a device in words."""
    import torch

    if device == "cpu" or not torch.cuda.is_available():
        return "the CPU above" if device == "cpu" else "a GPU that torch cannot see, so there is no torch module"
    capability = ".".join(str(each) for each in torch.cuda.get_device_capability())
    return f"{torch.cuda.get_device_name()}, compute capability {capability}, {bandwidth():.0f} GB/s measured"


@cache
def bandwidth() -> float:
    """Measure the GB/s at which the GPU copies within its memory, reading and writing counted."""
    import torch

    source = torch.empty(1 << 28, device="cuda")
    target = torch.empty_like(source)
    best = 0.0
    for _ in range(5):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        target.copy_(source)
        end.record()
        torch.cuda.synchronize()
        best = max(best, 2 * source.numel() * 4 / 1e6 / start.elapsed_time(end))
    return best


def run(options: argparse.Namespace, devices: Sequence[str], folder: Path, left_out: dict[str, str]) -> list[Row]:
    """Measure every preset and precision on every device, then torch."""
    from benchmarks.networks import weights_for

    batches = [int(each) for each in options.batch]
    good = dataset(Source(options.data, options.class_name, options.images, options.weights))
    weights = weights_for(options.backbone, options.weights, folder)
    rows: list[Row] = []
    for name in options.preset:
        pixels: np.ndarray | None = None
        exact: Model | None = None
        expected: dict[int, np.ndarray] | None = None
        for precision in options.precision:
            print(f"building {name} {precision}", flush=True)
            model = _export(good, (name, options.backbone, precision), weights, folder)
            if pixels is None:
                pixels = frames(good.good[: max(batches)], model.metadata.preprocessing)
            judge_on_cpu = _on_device(model, "cpu", batches)
            on_cpu = {batch: judge_on_cpu(pixels[:batch]) for batch in batches}
            if precision == "fp32":
                exact, expected = model, on_cpu
            for opened in _opened(model, devices, on_cpu, left_out):
                rows += measure(opened, pixels, batches, options.rounds)
        if exact is None or expected is None or pixels is None:
            left_out[f"{TORCH}, {name}"] = "it is compared with fp32, which was not asked for"
            continue
        device = "cpu" if "cpu" in devices else "cuda"
        judge = torch_judge(exact, weights, device, left_out)
        if judge is not None:
            about = {"device": device, "engine": TORCH, "preset": name, "precision": "fp32"}
            rows += measure(Opened(about, judge, expected, exact.bytes), pixels, batches, options.rounds)
    return rows


def _export(good: Dataset, what: tuple[str, str, str], weights: str, folder: Path) -> Model:
    """Export one model, named by preset, backbone and precision; int8 is for TensorRT."""
    import padim_edge

    name, backbone, precision = what
    target = "cpu" if precision == "fp32" else "tensorrt"
    method = padim_edge.preset(name, backbone=backbone, precision=precision, target=target)
    fitted = padim_edge.fit(good, method, weights=weights, progress=False)
    return fitted.export(folder / f"{name}-{precision}.onnx", progress=False)


def _opened(
    model: Model, devices: Sequence[str], expected: dict[int, np.ndarray], left_out: dict[str, str]
) -> Iterator[Opened]:
    """Open a model on each device; the reason of a refusal goes to `left_out`."""
    preset, precision = model.metadata.method.preset, model.metadata.precision.name
    for device in devices:
        about = {"device": device, "engine": "onnxruntime", "preset": preset, "precision": precision}
        try:
            yield Opened(about, _on_device(model, device, list(expected)), expected, model.bytes)
        except PadimEdgeError as error:
            left_out[f"{device} {preset} {precision}"] = str(error)


def _on_device(model: Model, device: str, batches: Sequence[int]) -> Judge:
    from padim_edge_artifact import names
    from padim_edge_runtime import Detector
    from padim_edge_runtime.devices.tensorrt import Batches

    session = Detector.load(model.path, device, batches=Batches.of(batches)).opened.session
    # The same outputs as torch's: the Detector's checks and its p-value are the host's work.
    return lambda pixels: np.asarray(session.run([names.SCORE, names.ANOMALY_MAP], {names.IMAGE: pixels})[0])


def torch_judge(model: Model, weights: str, device: str, left_out: dict[str, str]) -> Judge | None:
    """Return the same model as a torch module on a device, in full float32."""
    import torch

    from benchmarks.torch_fused import TorchFused
    from padim_edge_export.backbones import load_trunk

    if device == "cuda" and not torch.cuda.is_available():
        left_out[TORCH] = "torch sees no GPU"
        return None
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    method = model.metadata.method
    trunk = load_trunk(method.backbone, weights, method.layers)
    module: Any = TorchFused(trunk, method, model.kept.statistics).eval().to(device)

    def judge(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            score, anomaly_map = module(torch.from_numpy(pixels).to(device))
            anomaly_map.cpu()
            return np.asarray(score.cpu().numpy())

    return judge


def measure(opened: Opened, pixels: np.ndarray, batches: Sequence[int], rounds: int) -> list[Row]:
    """Return one row per batch size; the error is over all of the batch's images."""
    floor = None
    if opened.about["device"] != "cpu" and (speed := _speed()):
        floor = opened.bytes / 1e6 / speed
    rows = []
    for batch in batches:
        given = np.ascontiguousarray(pixels[:batch])
        error = float(np.max(np.abs(opened.judge(given) / opened.expected[batch] - 1)))
        for _ in range(min(WARM_UP, rounds)):
            opened.judge(given)
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            opened.judge(given)
            times.append(1e3 * (time.perf_counter() - start))
        median, p10, p90 = (round(float(each), 4) for each in np.percentile(times, (50, 10, 90)))
        rate = round(1e3 * batch / median, 1)
        rows.append(Row(**opened.about, batch=batch, milliseconds=median, p10=p10, p90=p90, images_per_second=rate,
                        score_error=error, floor=floor))  # fmt: skip
    return rows


def _speed() -> float | None:
    import torch

    return bandwidth() if torch.cuda.is_available() else None


def _words(row: Row) -> tuple[str, ...]:
    return (
        row.device,
        row.engine,
        row.preset,
        row.precision,
        str(row.batch),
        f"{row.milliseconds:.2f}",
        f"{row.p10:.2f} - {row.p90:.2f}",
        f"{row.images_per_second:.0f}",
        "-" if row.floor is None else f"{row.floor:.3f}",
        f"{row.score_error:.1e}",
    )


if __name__ == "__main__":
    main()
