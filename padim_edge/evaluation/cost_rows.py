"""Rows and sentences about what two models are and what they take: size, time and memory."""

from __future__ import annotations

from padim_edge.evaluation.tables import Row
from padim_edge_artifact import Metadata
from padim_edge_runtime.bench.footprint import NO_MEMORY, Cost

__all__ = ["cost_reasons", "model_rows", "resource_rows", "timing_notes"]

_DISTURBED = 2
"""Ratio of the ninetieth to the tenth percentile of the timed calls from which a note says that they were disturbed."""

Costs = tuple[Cost, Cost]
"""Costs of A and of B."""


def model_rows(costs: Costs) -> list[Row]:
    """Describe both models."""
    a, b = (each.metadata for each in costs)
    paths = [each.model for each in costs]
    files = [path.name for path in paths] if paths[0].name != paths[1].name else [str(path) for path in paths]
    return [
        ("model", *files, ""),
        ("preset, precision", *(f"{each.method.preset}, {each.precision.name}" for each in (a, b)), ""),
        *_prototypes(a, b),
        ("backbone", a.method.backbone, b.method.backbone, ""),
        ("input", _input(a), _input(b), ""),
        ("device", costs[0].device, costs[1].device, ""),
        ("threshold", f"{a.threshold:.2f}", f"{b.threshold:.2f}", f"{b.threshold - a.threshold:+z.2f}"),
    ]


def _prototypes(a: Metadata, b: Metadata) -> list[Row]:
    """Count the prototypes of memories; no row where both models have Gaussians."""
    if a.prototypes is b.prototypes is None:
        return []
    counts = ["-" if each.prototypes is None else str(each.prototypes) for each in (a, b)]
    both = a.prototypes is not None and b.prototypes is not None
    return [("prototypes", *counts, f"{(b.prototypes or 0) - (a.prototypes or 0):+d}" if both else "")]


def _input(metadata: Metadata) -> str:
    preprocessing = metadata.preprocessing
    crop = " out of {}x{}".format(*preprocessing.resize) if preprocessing.crop else ""
    return "{}x{}".format(*preprocessing.size) + crop


def resource_rows(costs: Costs) -> list[Row]:
    """Write size, memory and latency of both models."""
    a, b = costs
    memories = [(None, None) if each.memory is None else (each.memory.private, each.memory.mapped) for each in costs]
    rows: list[Row] = [
        ("size", *_megabytes(a.bytes, b.bytes)),
        ("memory, private", *_megabytes(memories[0][0], memories[1][0])),
        ("memory, mapped files", *_megabytes(memories[0][1], memories[1][1])),
    ]
    times = [each.latency.milliseconds for each in costs]
    for name in times[0]:
        both = [each[name] for each in times]
        rows.append((f"latency, {name}", *(f"{each:.2f} ms" for each in both), f"{both[0] / both[1]:.2f} x as fast"))
    return rows


def _megabytes(a: int | None, b: int | None) -> tuple[str, str, str]:
    if a is None or b is None:
        return "-", "-", "-"
    times = f" ({b / a:.2f} x)" if a else ""
    return f"{a / 1e6:.1f} MB", f"{b / 1e6:.1f} MB", f"{(b - a) / 1e6:+z.1f} MB{times}"


def timing_notes(costs: Costs) -> list[str]:
    """Write what to know when reading the costs, one sentence each without a full stop."""
    found = []
    devices = [each.device for each in costs]
    if devices[0] != devices[1]:
        found.append(f"A ran on {devices[0]} and B on {devices[1]}")
    if set(devices) != {"cpu"}:
        found.append("memory is that of the host; memory of the GPU is not counted")
    ratio = max(each.latency.p90 / each.latency.p10 for each in costs)
    if ratio > _DISTURBED:
        found.append(
            f"the timing was disturbed, p90 is {ratio:.1f} times p10; compare p10, or repeat it on a quiet machine"
        )
    return found


def cost_reasons(costs: Costs) -> dict[str, str]:
    """Return the reason for each undefined cost, in words."""
    return {"memory": NO_MEMORY} if None in [each.memory for each in costs] else {}
