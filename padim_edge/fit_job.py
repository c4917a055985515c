"""Fitting into a statistics file, in one process or in several that torchrun started; interruptible."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from padim_edge import plan
from padim_edge.datasets import Dataset
from padim_edge.gather import Checkpoint, checkpoint_of, digest_of, gather, require_enough
from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.files import reserved
from padim_edge_artifact.kept import Kept, write_kept
from padim_edge_runtime.prefetch import cores
from padim_edge_runtime.progress import SILENT, Feedback

if TYPE_CHECKING:
    from padim_edge.ranks import Ranks

__all__ = ["FitJob", "FitOutcome", "fit_to_file"]


_MOST_RANKS = 65536
"""Largest number of processes that is taken for one."""


@dataclass(frozen=True)
class FitJob:
    """Task of `fit_to_file`."""

    dataset: Dataset
    """Data set whose good images are fitted on."""
    output: Path
    """Statistics file to write."""
    resume: bool = False
    """Whether to go on with an interrupted fit."""
    device: str = "cpu"
    """Device that runs the backbone."""


@dataclass(frozen=True)
class FitOutcome:
    """Outcome of `fit_to_file`."""

    path: Path
    """Statistics file that was written."""
    bytes: int
    """Size of the file."""
    kept: Kept
    """Content of the file."""
    ranks: int
    """Number of processes that fitted."""
    seconds: float
    """Duration."""
    unreadable: tuple[str, ...]
    """One sentence for each image that could not be read."""

    def __str__(self) -> str:
        by = "" if self.ranks == 1 else f" by {self.ranks} ranks"
        method = self.kept.recipe.method
        return (
            f"{self.path}: {self.kept.statistics.count} good images{by}, {method.backbone}, preset {method.preset}, "
            f"{self.bytes / 1e6:.1f} MB, {self.seconds:.1f} s"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the object that `fit --json` prints."""
        return {
            "statistics": str(self.path),
            "bytes": self.bytes,
            "images": self.kept.statistics.count,
            "ranks": self.ranks,
            "seconds": round(self.seconds, 3),
        }


def fit_to_file(job: FitJob, prepare: Callable[[], Kept], feedback: Feedback) -> FitOutcome | None:
    """Fit on good images and write the statistics.

    Under torchrun each of the K processes fits a K-th of the images, and the first one writes.

    Args:
        job: Data and output.
        prepare: Makes the statistics of no image; only the first process calls it.
        feedback: Progress bars and sentences; the other processes show nothing.

    Returns:
        The outcome, or `None` in every process but the first.

    Raises:
        PadimEdgeError: Too few images, too little memory, processes that see different images, an interrupted fit that
            can be resumed, or a file that cannot be written.
    """
    start = time.perf_counter()
    for variable in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        _count_of(variable)
    with _ranks() as ranks, reserved([] if ranks is not None and ranks.rank else [job.output]):
        first = ranks is None or ranks.rank == 0
        empty = prepare() if ranks is None else _same_on_all(ranks, job.dataset, prepare)
        if first:
            needed = plan.needs(empty, empty.recipe.method.precision, len(job.dataset.good))
            needed = needed.times(1 if ranks is None else ranks.here)
            feedback.tell(str(needed))
            plan.require_memory(needed)
            plan.require_room(
                needed, plan.Outputs(statistics=job.output, copies=2 if ranks is None else 1 + ranks.here)
            )
        own, unreadable = _fit_share(job, empty, ranks, feedback if first else SILENT)
        if ranks is not None:
            own = ranks.merged(own)
            unreadable = {name: text for each in ranks.gathered(unreadable) for name, text in each.items()}
        if first:
            require_enough(own, unreadable)
            write_kept(job.output, own)
        if ranks is not None:
            ranks.gathered(None)  # the file is written before any rank throws its checkpoint away
        _checkpoint(job, ranks).path.unlink(missing_ok=True)
    if not first:
        return None
    world = 1 if ranks is None else ranks.world
    size = job.output.stat().st_size
    return FitOutcome(job.output, size, own, world, time.perf_counter() - start, tuple(unreadable.values()))


def _checkpoint(job: FitJob, ranks: Ranks | None) -> Checkpoint:
    path = checkpoint_of(job.output)
    if ranks is not None:
        path = path.with_name(f"{path.name}.{ranks.rank}of{ranks.world}")
    return Checkpoint(path, resume=job.resume)


def _fit_share(job: FitJob, empty: Kept, ranks: Ranks | None, feedback: Feedback) -> tuple[Kept, dict[str, str]]:
    """Fit this process's share of the images."""
    items = job.dataset.good if ranks is None else ranks.share(job.dataset.good)
    checkpoint = _checkpoint(job, ranks)
    try:
        with feedback.report("fitting", len(items)) as advance:
            return gather(
                empty,
                items,
                device=job.device,
                threads=None if ranks is None else max(1, cores() // ranks.world),
                checkpoint=checkpoint,
                advance=advance,
            )
    except KeyboardInterrupt:
        if checkpoint.path.is_file():
            raise PadimEdgeError("interrupted; the same command with --resume goes on from the last minute") from None
        raise


@contextmanager
def _ranks() -> Iterator[Ranks | None]:
    """Join the other processes, if torchrun started several."""
    if _count_of("WORLD_SIZE") <= 1:  # not asked of `ranks`, which imports torch
        yield None
        return
    from padim_edge.ranks import joined_by_torchrun

    with joined_by_torchrun() as ranks:
        yield ranks


def _count_of(variable: str) -> int:
    """Return a number of processes that torchrun sets in the environment; 1 without torchrun."""
    found = os.environ.get(variable, "1")
    if not (found.isascii() and found.isdecimal() and 1 <= int(found[:9]) <= _MOST_RANKS):
        raise PadimEdgeError(
            f"the environment variable {variable} is {found!r}, expected a number of processes from 1 to {_MOST_RANKS} "
            "as torchrun sets it; unset it, or start the command with torchrun"
        )
    return int(found)


def _same_on_all(ranks: Ranks, dataset: Dataset, prepare: Callable[[], Kept]) -> Kept:
    """Return what rank 0 prepares, after all ranks agree on the list of images."""
    lists = ranks.gathered((len(dataset.good), digest_of(dataset.good)))
    if len(set(lists)) > 1:
        raise PadimEdgeError(
            f"the ranks see different images ({', '.join(str(count) for count, _ in lists)} of them); give every "
            "machine the same folder"
        )
    return ranks.from_first(prepare)
