"""Does a GPU give what the CPU gives, and how fast? CUDA and TensorRT beside the same model as a torch module on CUDA.

Needs onnxruntime with that device (`padim-edge-runtime[gpu]`, with `onnxruntime-gpu[cuda,cudnn]` for the libraries). A
device that is not there is left out with its reason. `--device cpu` tries the command itself, without any GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import report
from benchmarks.rivals.images import Source, dataset, frames
from padim_edge_artifact import PadimEdgeError

if TYPE_CHECKING:
    from padim_edge.build import Built

PARITY = {"fp32": 1e-3, "fp16": 2e-2, "int8": 5e-2}
"""Largest relative difference of a score from that of the same file on the CPU. TensorRT rounds int8 elsewhere."""

TORCH = "torch module"

WARM_UP = 20

Judge = Callable[[np.ndarray], np.ndarray]
"""`(N, H, W, 3)` uint8 -> scores `(N,)`, both in the CPU's memory."""


@dataclass(frozen=True)
class Row:
    """One model on one device."""

    device: str
    engine: str
    preset: str
    precision: str
    batch: int
    milliseconds: float
    """Median of one call, copying to the device and back included."""
    p10: float
    p90: float
    images_per_second: float
    score_error: float
    """Largest relative difference of a score from the same model's on the CPU (from ours in fp32, for torch)."""
    floor: float | None
    """Milliseconds that reading the model's constants once from the device's memory takes; `None` on the CPU."""


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--device", type=report.names, default=("cuda", "tensorrt"), help="comma-separated")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="the root of MVTec AD; the built-in sample unless given"
    )
    parser.add_argument("--class", dest="class_name", default="bottle")
    parser.add_argument("--images", type=int, default=60, help="good ones to fit on")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="of the backbone; random unless given")
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
        source = Source(options.data, options.class_name, options.images, options.weights)
        with tempfile.TemporaryDirectory() as folder:
            rows = run(options, source, devices, Path(folder), left_out)
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
    """Try the device out on the smallest model; a refusal goes to `left_out`."""
    import onnx

    from padim_edge_runtime.devices.providers import open_session

    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18]> g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }'
    )
    try:
        open_session(model.SerializeToString(), device)
    except PadimEdgeError as error:
        left_out[device] = str(error)
        return False
    return True


def describe(device: str) -> str:
    """The hardware behind a device."""
    import torch

    if device == "cpu" or not torch.cuda.is_available():
        return "the CPU above" if device == "cpu" else "a GPU that torch cannot see, so there is no torch module"
    capability = ".".join(str(each) for each in torch.cuda.get_device_capability())
    return f"{torch.cuda.get_device_name()}, compute capability {capability}, {bandwidth():.0f} GB/s measured"


@cache
def bandwidth() -> float:
    """GB/s at which the GPU copies within its memory, reading and writing counted."""
    import torch

    source = torch.empty(1 << 28, device="cuda")
    target = torch.empty_like(source)
    best = 0.0
    for _ in range(5):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        target.copy_(source)
        end.record()
        torch.cuda.synchronize()
        best = max(best, 2 * source.numel() * 4 / 1e6 / start.elapsed_time(end))
    return best


def run(
    options: argparse.Namespace, source: Source, devices: Sequence[str], folder: Path, left_out: dict[str, str]
) -> list[Row]:
    """Every preset and precision on every device, then torch."""
    from benchmarks.backbone import load
    from padim_edge.build import build
    from padim_edge.presets import PRESETS
    from padim_edge_model.precision import Precision
    from padim_edge_runtime import Detector
    from padim_edge_runtime.devices.providers import open_session
    from padim_edge_runtime.devices.tensorrt import Batches

    batches = [int(each) for each in options.batch]
    trunk = load(options.backbone, options.weights, folder)
    good = dataset(source)
    rows: list[Row] = []
    for name in options.preset:
        preset = PRESETS[name]
        pixels = frames(good.good[: max(batches)], preset.preprocessing)
        expected: np.ndarray | None = None
        exact: Built | None = None
        for precision in options.precision:
            print(f"building {name} {precision}", flush=True)
            chosen = Precision(precision, "tensorrt" if precision != "fp32" else "cpu")
            built = build(good, folder / f"{name}-{precision}.onnx", preset, trunk, precision=chosen)
            on_cpu = _session(open_session(built.model, "cpu").session)(pixels)
            if precision == "fp32":
                exact, expected = built, on_cpu
            for device in devices:
                try:
                    judge = _session(Detector.load(built.model, device, batches=Batches.of(batches)).session)
                    about = {"device": device, "engine": "onnxruntime", "preset": name, "precision": precision}
                    rows += measure(judge, pixels, on_cpu, batches, options.rounds, built.bytes, about)
                except PadimEdgeError as error:
                    left_out[f"{device} {name} {precision}"] = str(error)
        if exact is None or expected is None:
            left_out[f"{TORCH}, {name}"] = "it is compared with fp32, which was not asked for"
            continue
        judge_by_torch = torch_judge(trunk, preset, exact, "cpu" if "cpu" in devices else "cuda", left_out)
        if judge_by_torch is not None:
            device = "cpu" if "cpu" in devices else "cuda"
            about = {"device": device, "engine": TORCH, "preset": name, "precision": "fp32"}
            rows += measure(judge_by_torch, pixels, expected, batches, options.rounds, exact.bytes, about)
    return rows


def torch_judge(trunk: Any, preset: Any, built: Built, device: str, left_out: dict[str, str]) -> Judge | None:
    """The torch module on a device, in full float32."""
    import torch

    from benchmarks.torch_fused import TorchFused

    if device == "cuda" and not torch.cuda.is_available():
        left_out[TORCH] = "torch sees no GPU"
        return None
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    module = TorchFused(trunk, preset, built.statistics).eval().to(device)

    def judge(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            score, anomaly_map = module(torch.from_numpy(pixels).to(device))
            anomaly_map.cpu()
            return np.asarray(score.cpu().numpy())

    return judge


def _session(session: Any) -> Judge:
    from padim_edge_artifact import names

    def judge(pixels: np.ndarray) -> np.ndarray:
        return np.asarray(session.run([names.SCORE, names.ANOMALY_MAP], {names.IMAGE: pixels})[0])

    return judge


def measure(
    judge: Judge,
    pixels: np.ndarray,
    expected: np.ndarray,
    batches: Sequence[int],
    rounds: int,
    size: int,
    about: dict[str, str],
) -> list[Row]:
    """One row a batch size; the error is over all of the batch's images."""
    floor = None
    if about["device"] != "cpu" and (speed := _speed()):
        floor = size / 1e6 / speed
    rows = []
    for batch in batches:
        given = np.ascontiguousarray(pixels[:batch])
        error = float(np.max(np.abs(judge(given) / expected[:batch] - 1)))
        for _ in range(min(WARM_UP, rounds)):
            judge(given)
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            judge(given)
            times.append(1e3 * (time.perf_counter() - start))
        median, p10, p90 = (round(float(each), 4) for each in np.percentile(times, (50, 10, 90)))
        rate = round(1e3 * batch / median, 1)
        rows.append(
            Row(
                **about,
                batch=batch,
                milliseconds=median,
                p10=p10,
                p90=p90,
                images_per_second=rate,
                score_error=error,
                floor=floor,
            )
        )
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
