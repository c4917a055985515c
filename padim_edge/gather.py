"""One pass of a fit over good images, which can be interrupted and resumed."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from padim_edge.datasets import Item
from padim_edge.frames import frames_of
from padim_edge_artifact import Both, ImageError, Memory, PadimEdgeError, Statistics
from padim_edge_artifact.kept import Kept, Progress, read_kept, write_kept
from padim_edge_learn.accumulate import Learner, accumulate, learner_of
from padim_edge_learn.folds import Folds
from padim_edge_model.comparable import Observed
from padim_edge_model.graph import joined, of_kept
from padim_edge_model.repeats import Recorder, groups_of

__all__ = ["FEWEST", "Checkpoint", "checkpoint_of", "digest_of", "gather", "require_enough"]

FEWEST = 2
"""Smallest number of good images that a covariance can be computed from."""

SECONDS = 60.0
"""Minimum seconds between checkpoints. Raised to 20 times the duration of the last write, so that writing costs at most
5 %."""


@dataclass(frozen=True)
class Checkpoint:
    """File that keeps the state of an unfinished fit."""

    path: Path
    """File of the checkpoint; the caller removes it when the fit is done."""
    seconds: float = SECONDS
    """Minimum seconds between two writes."""
    resume: bool = False
    """Whether the fit goes on from the file, where there is one."""


def checkpoint_of(output: Path) -> Path:
    """Return the file of an unfinished fit into `output`."""
    return output.with_name(f"{output.name}.unfinished")


def gather(
    start: Kept,
    items: Sequence[Item],
    *,
    device: str = "cpu",
    threads: int | None = None,
    checkpoint: Checkpoint | None = None,
    advance: Callable[[int], object] = lambda _: None,
) -> tuple[Kept, dict[str, str]]:
    """Add good images to statistics.

    A resumed fit gives the same bytes as one that was not interrupted, because it goes on behind a whole batch.

    Args:
        start: Statistics to begin with, as `start.begin` makes them; their arrays are overwritten.
        items: Good images.
        device: Device that runs the backbone.
        threads: Number of CPU threads of the backbone; `None` leaves it to onnxruntime.
        checkpoint: File that keeps the state now and then; `None` keeps none.
        advance: Called with the number of images done since the last call.

    Returns:
        The statistics, and one sentence for each image that could not be read, by its name.

    Raises:
        PadimEdgeError: The checkpoint is of other images or another embedding, or it cannot be written.
    """
    digest = digest_of(items)
    unreadable: dict[str, str] = {}
    looked = 0  # images that have passed, unreadable ones included
    if checkpoint is not None and checkpoint.resume and checkpoint.path.is_file():
        start = _resumed(checkpoint.path, start, digest)
        assert start.progress is not None
        looked = start.progress.done
        unreadable.update(start.progress.unreadable)
        advance(looked)
    observed, recorder, folds = Observed(start.seen), Recorder(start.evidence), Folds(start)
    learner = learner_of(start.statistics, start.recipe.method)
    written = _Writes(time.monotonic(), 0.0)

    def passing() -> Iterator[npt.NDArray[np.uint8]]:
        nonlocal looked
        for item, frame in frames_of(items[looked:], start.recipe.method.preprocessing):
            looked += 1
            if isinstance(frame, ImageError):
                unreadable[item.name] = str(frame)
                continue
            observed.add(frame)
            learner.expect(folds.choose(recorder.add(frame, item.group), looked - 1, len(items)))
            yield frame

    def grown(statistics: Statistics | Memory | Both) -> Kept:
        return replace(start, statistics=statistics, seen=observed.seen, evidence=recorder.evidence)

    def after(learner: Learner, count: int) -> None:
        """Report a batch; write a checkpoint, since no image has passed that is not in the statistics."""
        nonlocal written
        advance(count)
        now = time.monotonic()
        if checkpoint is None or now - written.at < max(checkpoint.seconds, 20 * written.took):
            return
        progress = Progress(looked, digest, tuple(unreadable.items()))
        write_kept(checkpoint.path, replace(grown(learner.found), progress=progress))
        written = _Writes(time.monotonic(), time.monotonic() - now)

    graph = joined(of_kept(start)).SerializeToString()
    accumulate(graph, passing(), learner, device=device, threads=threads, after=after)
    return replace(grown(learner.finish()), progress=None), unreadable


@dataclass(frozen=True)
class _Writes:
    """Last write of a checkpoint."""

    at: float
    """Time of its end, in seconds of the monotonic clock."""
    took: float
    """Duration in seconds."""


def digest_of(items: Sequence[Item]) -> str:
    """Compute the digest of a list of images from their places in the data set."""
    return hashlib.sha256(json.dumps([item.key or item.name for item in items]).encode()).hexdigest()


def _resumed(path: Path, start: Kept, digest: str) -> Kept:
    found = read_kept(path)
    progress = found.progress
    if progress is None or progress.images != digest or found.same != start.same:
        what = "images" if progress is not None and progress.images != digest else "options"
        raise PadimEdgeError(
            f"{path} was left by a fit with other {what}; run the same command as then, or remove that file"
        )
    return found


def require_enough(kept: Kept, unreadable: Mapping[str, str]) -> None:
    """Refuse statistics of fewer than `FEWEST` images, or of images without variation.

    Raises:
        PadimEdgeError: There are too few, or all of them show the same.
    """
    count = kept.statistics.count
    if count >= FEWEST:
        if len(kept.evidence.named) and not groups_of(kept.evidence).any():
            why = "all are in the same group" if kept.evidence.named.any() else "all show the same scene"
            raise PadimEdgeError(
                f"the {count} good images hold no variation ({why}), expected images of different parts, 20 or more; "
                "add such images, because nothing can be learned from copies"
            )
        return
    first = next(iter(unreadable.values()), "")
    raise PadimEdgeError(
        f"there {'is' if count == 1 else 'are'} {count} readable good image{'' if count == 1 else 's'}, expected "
        f"at least {FEWEST}, better 20 or more" + (f"; of the others: {first}" if first else "; add images")
    )
