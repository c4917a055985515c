"""In which numbers a model computes and which form of the Gaussians it keeps: what a user chooses, checked."""

from __future__ import annotations

from dataclasses import dataclass

from padim_edge_artifact import PadimEdgeError

__all__ = ["PRECISIONS", "TARGETS", "TOLERANCES", "Precision"]

PRECISIONS = ("fp32", "fp16", "int8")
TARGETS = ("cpu", "tensorrt")

TOLERANCES = {"fp32": 1e-3, "fp16": 1e-2, "int8": 3e-2}
"""Relative difference that other machines and providers may show in the self-test. Measured in fp32: 5e-7 between x86
and ARM64 processors; GPUs, which are told to leave TF32, have not been measured. In fp16, x86 computes in float32 what
ARM and GPUs compute in float16: 2.5e-3 measured on an emulated Neoverse-N1 (scores of images up to 6.5e-3). In int8,
1.2e-3 between x86 and ARM64: a sum that falls between two codes may be rounded to either by another kernel."""


@dataclass(frozen=True)
class Precision:
    """The numbers of a model.

    Raises:
        PadimEdgeError: An unknown precision or target, or options that contradict each other.
    """

    name: str = "fp32"
    """`fp32`, `fp16` or `int8`."""
    target: str = "cpu"
    """`cpu` or `tensorrt`; only int8 differs between them."""
    rank: int | None = None
    """Directions of largest variance that each Gaussian keeps by themselves; `None` is the exact Gaussian."""
    diagonal: bool = False
    """Keep variances only."""

    def __post_init__(self) -> None:
        if self.name not in PRECISIONS:
            raise PadimEdgeError(f"there is no precision {self.name!r}; choose one of {', '.join(PRECISIONS)}")
        if self.target not in TARGETS:
            raise PadimEdgeError(f"there is no target {self.target!r}; choose one of {', '.join(TARGETS)}")
        if self.diagonal and self.rank is not None:
            raise PadimEdgeError("--rank and --diagonal exclude each other; a diagonal covariance has no rank to cut")

    def __str__(self) -> str:
        form = ", diagonal" if self.diagonal else "" if self.rank is None else f", rank {self.rank}"
        return f"{self.name} for {self.target}{form}"
