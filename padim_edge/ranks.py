"""Processes that fit shards of one data set together: torch.distributed, started by torchrun.

Every rank gets the same embedding graph, fits its own shard, and the statistics are merged exactly on rank 0: with n
images in all, means are averaged, and each rank's scatter gets its own share of the spread of the means, before the
scatters are added up (Chan, Golub, LeVeque 1979). Done by some patches at a time, so that no rank needs a second copy.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial, reduce
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist

from padim_edge_artifact import Both, Memory, PadimEdgeError, Statistics
from padim_edge_artifact.evidence import Evidence
from padim_edge_artifact.kept import Kept
from padim_edge_artifact.method import Method
from padim_edge_artifact.reference import Seen
from padim_edge_model.comparable import merge_seen
from padim_edge_model.memory import merge_memories

__all__ = ["Ranks", "joined_by_torchrun", "wanted"]

_PATCHES = 256
"""Number of patches merged at a time; at D = 100 their scatters take 20 MB."""

_PATIENCE = timedelta(hours=2)
"""Longest wait for the other ranks: shards are of equal length, but not all machines are equally fast."""

T = TypeVar("T")


def wanted() -> bool:
    """Tell whether torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@dataclass(frozen=True)
class Ranks:
    """This process among all processes of the fit."""

    rank: int
    """0 to world - 1; rank 0 writes."""
    world: int
    """Number of processes."""

    @property
    def here(self) -> int:
        """Number of processes on this machine, which share its memory."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Return this rank's shard: one of `world` stretches of nearly equal length, in order."""
        first, last = (len(items) * at // self.world for at in (self.rank, self.rank + 1))
        return items[first:last]

    def from_first(self, make: Callable[[], T]) -> T:
        """Return what `make` gives on rank 0; no other rank calls it."""
        box: list[Any] = [make() if self.rank == 0 else None]
        with _told():
            dist.broadcast_object_list(box, src=0)
        found: T = box[0]
        return found

    def gathered(self, value: T) -> list[T]:
        """Return every rank's value on all ranks, in the order of ranks."""
        box: list[Any] = [None] * self.world
        with _told():
            dist.all_gather_object(box, value)
        return box

    def merged(self, own: Kept) -> Kept:
        """Return the statistics of all shards on rank 0. Elsewhere the result is of no use. `own` is overwritten."""
        statistics: Statistics | Memory | Both = own.statistics
        if isinstance(statistics, Both):
            memory = self._memories(statistics.memory, own.recipe.method.heads[-1])
            with _told():
                gaussians = _merged(statistics.gaussians)
            statistics = Both(gaussians, memory)
        elif isinstance(statistics, Memory):
            statistics = self._memories(statistics, own.recipe.method)
        else:
            with _told():
                statistics = _merged(statistics)
        seen = Seen.nothing(own.statistics.grid)
        for each in self.gathered(own.seen):
            seen = merge_seen(seen, each)
        evidence = Evidence.nothing()
        for some in self.gathered(own.evidence):
            evidence = evidence.merged(some)
        return replace(own, statistics=statistics, seen=seen, evidence=evidence)

    def _memories(self, own: Memory, method: Method) -> Memory:
        """Return the memory of all shards."""
        return reduce(partial(merge_memories, method=method), self.gathered(own))


@contextmanager
def joined_by_torchrun(backend: str = "gloo") -> Iterator[Ranks]:
    """Join the other ranks.

    Where one rank fails, torchrun ends the others. They report it and leave no unfinished file behind.

    Raises:
        PadimEdgeError: Another rank has gone, or they cannot meet.
    """
    signal.signal(signal.SIGTERM, _terminated)
    try:
        dist.init_process_group(backend, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise PadimEdgeError(
            f"the ranks cannot meet ({_first_line(error)}); start them with torchrun --nproc-per-node K -m "
            "padim_edge fit"
        ) from error
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def _terminated(*_: object) -> None:
    raise PadimEdgeError(
        "another rank has failed, so this one was ended; no file was written, and the same command with --resume goes "
        "on"
    )


@contextmanager
def _told() -> Iterator[None]:
    """Turn the failure of another rank into one sentence."""
    try:
        yield
    except RuntimeError as error:
        raise PadimEdgeError(
            f"another rank has gone ({_first_line(error)}); no file was written, and the same command with --resume "
            "goes on"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def _merged(own: Statistics) -> Statistics:
    counts = torch.tensor([own.count], dtype=torch.float64)
    dist.all_reduce(counts)
    total = int(counts.item())
    mean = torch.from_numpy(own.mean * (own.count / max(total, 1)))
    dist.all_reduce(mean)
    away = own.mean - mean.numpy()
    for start in range(0, len(own.mean), _PATCHES):
        part = own.scatter[start : start + _PATCHES]
        if own.count:
            delta = away[start : start + _PATCHES] * np.sqrt(own.count)
            part += delta[:, :, None] * delta[:, None, :]
        dist.reduce(torch.from_numpy(part), dst=0)  # in place: the array is the tensor's memory
    return Statistics(total, mean.numpy(), own.scatter, own.grid)
