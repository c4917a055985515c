"""Teach the built-in backbone to imitate ResNet-18's three stages on procedurally drawn images, and write its file.

    uv run python -m tools.builtin.train --teacher FILE --work DIR

No photograph is used. The images of a step depend only on the seed and the step. So a run that was stopped goes on from
its last checkpoint in `--work`, with the same result up to the rounding of threads. The weights are judged on drawn
anomalies that they have not seen: `tools.builtin.judge`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from padim_edge_export import backbones
from padim_edge_export.builtin import BuiltinBackbone, fold
from tools.builtin import procedural

CHECKPOINT = 200
"""Number of steps between checkpoints."""

AHEAD = 6
"""Number of batches that are drawn before they are needed."""


@dataclass(frozen=True)
class Plan:
    """Everything that decides the result, except the rounding of the machine."""

    steps: int
    """Number of training steps."""
    batch: int
    """Number of images per step."""
    size: int
    """Side of the images in pixels."""
    rate: float
    """Highest learning rate."""
    seed: int
    """Random seed of images and initial weights."""
    stem: int
    """Number of channels of the stem."""
    widths: tuple[int, int, int]
    """Number of channels of the three stages."""
    blocks: tuple[int, int, int]
    """Number of residual blocks of the three stages."""


@dataclass(frozen=True, eq=False)
class Target:
    """Normalisation of one stage of the teacher: mean 0 and unit variance per channel, and nearly whitened."""

    mean: torch.Tensor
    """Mean of each channel, `(C, 1, 1)`."""
    scale: torch.Tensor
    """1 / standard deviation of each channel, `(C, 1, 1)`."""
    whitening: torch.Tensor
    """Whitening matrix of the scaled channels, `(C, C, 1, 1)`; eigenvalues below a tenth of their mean are damped."""


def main() -> None:
    """Parse the command line, train, write."""
    parser = argparse.ArgumentParser(prog="python -m tools.builtin.train", description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", type=Path, required=True, help="weights of ResNet-18 (IMAGENET1K_V1)")
    parser.add_argument("--work", type=Path, required=True, help="folder of the checkpoint; made if it does not exist")
    parser.add_argument("--output", type=Path, help="weights file; <work>/builtin.safetensors by default")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stem", type=int, default=32)
    parser.add_argument("--widths", type=_three, default=(48, 96, 192))
    parser.add_argument("--blocks", type=_three, default=(1, 1, 1))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    plan = Plan(
        options.steps,
        options.batch,
        options.size,
        options.rate,
        options.seed,
        options.stem,
        options.widths,
        options.blocks,
    )
    options.work.mkdir(parents=True, exist_ok=True)
    network = train(plan, options.teacher, options.work, options.device)
    from tools.builtin.card import write

    write(network, options.output or options.work / "builtin.safetensors", asdict(plan))


def _three(text: str) -> tuple[int, int, int]:
    first, second, third = (int(each) for each in text.split(","))
    return first, second, third


def train(plan: Plan, teacher_file: Path, work: Path, device: str) -> BuiltinBackbone:
    """Train and return the network, with its normalisation folded into the convolutions."""
    torch.manual_seed(plan.seed)
    teacher = backbones.load_trunk("resnet18", str(teacher_file))
    module = teacher.module.to(device, memory_format=torch.channels_last)
    network = BuiltinBackbone(plan.stem, plan.widths, plan.blocks, normalised=True)
    network = network.to(device, memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=plan.rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, plan.rate, plan.steps, pct_start=0.05)
    look = _Look(module, teacher.mean, teacher.std, device)
    checkpoint = work / "checkpoint.pt"
    start, history = 0, []
    if checkpoint.is_file():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        if saved["plan"] != json.dumps(asdict(plan)):
            raise SystemExit(f"{checkpoint} belongs to another plan ({saved['plan']}); give another --work folder")
        network.load_state_dict(saved["network"])
        optimiser.load_state_dict(saved["optimiser"])
        schedule.load_state_dict(saved["schedule"])
        start, history = saved["step"], saved["history"]
        targets = [Target(*each) for each in saved["targets"]]
    else:
        targets = look.targets(plan)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress, _drawn(plan, start) as images:
        bar = progress.add_task("teaching", total=plan.steps, completed=start)
        for step, pixels in enumerate(images, start):
            x, features = look(pixels)
            with torch.autocast(device, dtype=torch.bfloat16):
                outputs = network(x)
            losses = _losses(tuple(each.float() for each in outputs), features, targets)
            optimiser.zero_grad(set_to_none=True)
            sum(losses).backward()  # type: ignore[union-attr]
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimiser.step()
            schedule.step()
            if step % 50 == 0:
                history.append([step, *(round(float(loss.detach()), 4) for loss in losses)])
                shown = " ".join(f"{each:.3f}" for each in history[-1][1:])
                progress.update(bar, description=f"teaching, loss per stage {shown}")
                if not progress.console.is_terminal:
                    print(f"{time.strftime('%H:%M:%S')} step {step}: {shown}", flush=True)
            progress.advance(bar)
            if (step + 1) % CHECKPOINT == 0 or step + 1 == plan.steps:
                state = {
                    "plan": json.dumps(asdict(plan)),
                    "network": network.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "schedule": schedule.state_dict(),
                    "step": step + 1,
                    "history": history,
                    "targets": [[each.mean, each.scale, each.whitening] for each in targets],
                }
                torch.save(state, checkpoint.with_suffix(".tmp"))
                checkpoint.with_suffix(".tmp").replace(checkpoint)
    network = network.cpu().eval()
    _in_teachers_units(network, targets)
    return fold(network)


class _Look:
    """The teacher, with the preparation of its images."""

    def __init__(self, module: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], device: str) -> None:
        self.module, self.device = module, device
        self.mean = 255 * torch.tensor(mean, device=device).view(3, 1, 1)
        self.std = 255 * torch.tensor(std, device=device).view(3, 1, 1)

    def __call__(self, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the normalised images and the teacher's stages for `(N, H, W, 3)` uint8."""
        given = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)
        x = ((given - self.mean) / self.std).to(memory_format=torch.channels_last)
        # bfloat16 is faster, and its rounding is far smaller than the error of the student.
        with torch.no_grad(), torch.autocast(self.device, dtype=torch.bfloat16):
            features = [each.float() for each in self.module(x).values()]
        return x, features

    def targets(self, plan: Plan, batches: int = 20) -> list[Target]:
        """Measure the normalisation of each stage, on images of another seed than those of the training."""
        sums: list[list[torch.Tensor]] = []
        count = [0.0] * 3
        for i in range(batches):
            _, features = self(procedural.batch(plan.seed + 1_000_000, i * plan.batch, plan.batch, plan.size))
            for stage, feature in enumerate(features):
                rows = feature.permute(1, 0, 2, 3).flatten(1).double()
                total = [rows.sum(1), rows @ rows.T]
                sums[stage : stage + 1] = [
                    [a + b for a, b in zip(sums[stage], total, strict=True)] if stage < len(sums) else total
                ]
                count[stage] += rows.shape[1]
        found = []
        for (total, squares), many in zip(sums, count, strict=True):
            mean = total / many
            covariance = squares / many - torch.outer(mean, mean)
            scale = covariance.diagonal().clamp_min(1e-8).rsqrt()
            values, vectors = torch.linalg.eigh(covariance * scale[:, None] * scale)
            whitening = (vectors * (values.clamp_min(0) + 0.1).rsqrt()) @ vectors.T
            found.append(
                Target(mean.float()[:, None, None], scale.float()[:, None, None], whitening.float()[:, :, None, None])
            )
        return found


def _losses(
    outputs: tuple[torch.Tensor, ...], features: list[torch.Tensor], targets: list[Target]
) -> list[torch.Tensor]:
    """Return the loss of each stage. It is about 1 for a network with the same output everywhere.

    The error is relative to the teacher's response to each image. Otherwise a few strong images would outweigh the
    smooth ones, which matter in inspection. A quarter of the loss is measured among nearly whitened channels, because
    PaDiM's distance divides by the variance of every direction.
    """
    losses = []
    for output, feature, target in zip(outputs, features, targets, strict=True):
        wanted = (feature - target.mean) * target.scale
        away = output - wanted
        plain = _relative(away, wanted)
        white = _relative(*(nn.functional.conv2d(each, target.whitening) for each in (away, wanted)))
        losses.append(0.75 * plain + 0.25 * white)
    return losses


def _relative(away: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return the squared error divided by the energy of what is wanted, mean over the images."""
    error, energy = (each.square().mean(dim=(1, 2, 3)) for each in (away, wanted))
    return (error / (energy + 0.1)).mean()


def _in_teachers_units(network: BuiltinBackbone, targets: list[Target]) -> None:
    """Bring the taps from channels of mean 0 and variance 1 back to the teacher's own units."""
    with torch.no_grad():
        for tap, target in zip((network.tap1, network.tap2, network.tap3), targets, strict=True):
            assert tap.bias is not None
            scale = target.scale.flatten().cpu()
            tap.weight /= scale[:, None, None, None]
            tap.bias /= scale
            tap.bias += target.mean.flatten().cpu()


class _drawn:  # noqa: N801  (used as a context, like open)
    """Context of the batches from step `start` on, which a separate process draws."""

    def __init__(self, plan: Plan, start: int) -> None:
        self.plan, self.start = plan, start

    def __enter__(self) -> Iterator[np.ndarray[Any, np.dtype[np.uint8]]]:
        self.pool = multiprocessing.get_context("spawn").Pool(1)
        plan = self.plan
        pending: list[Any] = []

        def batches() -> Iterator[np.ndarray[Any, np.dtype[np.uint8]]]:
            for step in range(self.start, plan.steps + AHEAD):
                if step < plan.steps:
                    arguments = (plan.seed, step * plan.batch, plan.batch, plan.size)
                    pending.append(self.pool.apply_async(procedural.batch, arguments))
                if step >= self.start + AHEAD:
                    yield pending.pop(0).get()
            while pending:
                yield pending.pop(0).get()

        return batches()

    def __exit__(self, *_: object) -> None:
        self.pool.terminate()


if __name__ == "__main__":
    main()
