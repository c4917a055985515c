"""Good images -> kept statistics: the embedding graph and its recipe, and the fit, which can be taken up again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt

from padim_edge import principal
from padim_edge.datasets import Dataset, Item
from padim_edge.presets import Preset
from padim_edge.quantisation import OBSERVED, in_precision
from padim_edge_artifact import ImageError, PadimEdgeError, Preprocessing, Statistics, kept
from padim_edge_artifact.kept import Kept, Progress, Recipe
from padim_edge_export import camera, embedding
from padim_edge_export.backbones import Trunk
from padim_edge_learn.accumulate import BATCH, fit
from padim_edge_learn.assemble import Report, silent
from padim_edge_model.comparable import Observed, Seen
from padim_edge_model.graph import joined, of_kept, records
from padim_edge_model.precision import Precision
from padim_edge_runtime import image_files
from padim_edge_runtime.prefetch import in_order

__all__ = ["Checkpoint", "begin", "checkpoint_of", "digest_of", "few", "frames", "gather"]

SECONDS = 60.0
"""Between two checkpoints at least; and 20 times what writing the last one took."""


@dataclass(frozen=True)
class Checkpoint:
    """Where a fit lays down how far it has come."""

    path: Path
    seconds: float = SECONDS


def checkpoint_of(output: Path) -> Path:
    """The file of an unfinished fit into `output`."""
    return output.with_name(f"{output.name}.unfinished")


def begin(
    dataset: Dataset,
    preset: Preset,
    trunk: Trunk,
    *,
    precision: Precision | None = None,
    seed: int = 0,
    device: str = "cpu",
    report: Report = silent,
) -> Kept:
    """Statistics of no image yet: the embedding graph, and what it was made by.

    Args:
        dataset: For its name; int8 and principal components also look at its good images.
        preset: The method.
        trunk: The backbone, as from `padim_edge_export.backbones.load`.
        precision: In which numbers the backbone computes; its form of the Gaussians has no say here.
        seed: Of the reduction.
        device: Where to look at images.
        report: Of the stages.

    Raises:
        PadimEdgeError: The options do not fit the backbone, or no image can be read where one is needed.
    """
    precision = precision or Precision()
    size = preset.preprocessing.size
    drawn = None
    if preset.reduction == "pca":
        with report("principal components", len(dataset.good)) as advance:
            passing = frames(dataset.good, preset.preprocessing.on_host, {})
            drawn = principal.draw(trunk, preset, passing, device=device, progress=advance)
    with report("exporting the backbone", None):
        graph = embedding.build(
            trunk,
            size,
            kind=preset.reduction,
            dims=preset.dims,
            seed=seed,
            pooling=preset.pooling,
            pool_patches=preset.pool_patches,
            shares=preset.shares_of(len(trunk.description.layers)),
            drawn=drawn,
        )
    with report(f"preparing {precision.name}", None):
        step = max(1, len(dataset.good) // OBSERVED)
        tried = frames(dataset.good[::step][:OBSERVED], preset.preprocessing.on_host, {})
        graph = in_precision(graph, precision, tried, device)
    graph = camera.baked(graph, preset.preprocessing)  # only now: grey levels are whole in float32 alone
    recipe = Recipe(
        class_name=dataset.class_name,
        created_by=f"padim-edge {version('padim-edge')}",
        preset=preset.name,
        preprocessing=preset.preprocessing,
        backbone=trunk.description,
        reduction=graph.reduction,
        pooling=preset.pooling,
        pool_patches=preset.pool_patches,
        ridge=preset.ridge,
        sigma=preset.sigma,
        precision=precision.name,
        target=precision.target,
        parts=records(graph.parts),
    )
    model = graph.model.SerializeToString(deterministic=True)
    return Kept(recipe, model, Statistics.empty(graph.grid, graph.dims), Seen.nothing(graph.grid))


def gather(
    start: Kept,
    items: Sequence[Item],
    *,
    device: str = "cpu",
    threads: int | None = None,
    checkpoint: Checkpoint | None = None,
    resume: bool = False,
    advance: Callable[[int], object] = lambda _: None,
) -> tuple[Kept, dict[str, str]]:
    """Fit on images.

    An interrupted fit that is taken up again gives the same bytes as one that was not: it goes on behind a whole batch.

    Args:
        start: Statistics to begin with, as `begin` gives them; they are written over.
        items: The good images.
        device: Where the backbone runs.
        threads: CPU threads of the backbone; `None` leaves it to onnxruntime.
        checkpoint: Lay down the state there now and then; it is removed at the end by the caller.
        resume: Go on from the checkpoint, where there is one.
        advance: Called with the number of images done since the last call.

    Returns:
        The statistics, and one sentence for each image that could not be read, by its name.

    Raises:
        PadimEdgeError: A checkpoint of other images or another embedding, or one that cannot be written.
    """
    digest = digest_of(items)
    unreadable: dict[str, str] = {}
    done = 0
    if resume and checkpoint is not None and checkpoint.path.is_file():
        start = _taken_up(checkpoint.path, start, digest)
        assert start.progress is not None
        done = start.progress.done
        unreadable.update(start.progress.unreadable)
        advance(done)
    observed = Observed(start.seen)
    looked = done  # images that have passed, the unreadable ones included
    last = [time.monotonic(), 0.0]  # when the last checkpoint was written, and how long that took

    def passing() -> Iterator[npt.NDArray[np.uint8]]:
        nonlocal looked
        for item, frame in _read(items[done:], start.recipe.preprocessing):
            looked += 1
            if isinstance(frame, ImageError):
                unreadable[item.name] = str(frame)
                continue
            observed.add(frame)
            yield frame

    def pause(statistics: Statistics) -> None:
        """The batch is in the statistics, and no image has passed that is not."""
        now = time.monotonic()
        if checkpoint is None or now - last[0] < max(checkpoint.seconds, 20 * last[1]):
            return
        progress = Progress(looked, digest, tuple(unreadable.items()))
        kept.save(checkpoint.path, replace(start, statistics=statistics, seen=observed.seen, progress=progress))
        last[:] = time.monotonic(), time.monotonic() - now

    graph = joined(of_kept(start)).SerializeToString()
    statistics = fit(
        graph, passing(), start=start.statistics, device=device, threads=threads, progress=advance, pause=pause
    )
    return replace(start, statistics=statistics, seen=observed.seen, progress=None), unreadable


def digest_of(items: Sequence[Item]) -> str:
    """Of a list of images, by their places in the data set."""
    return hashlib.sha256(json.dumps([item.key or item.name for item in items]).encode()).hexdigest()


def _taken_up(path: Path, start: Kept, digest: str) -> Kept:
    found = kept.load(path)
    progress = found.progress
    if progress is None or progress.images != digest or found.same != start.same:
        what = "images" if progress is not None and progress.images != digest else "options"
        raise PadimEdgeError(
            f"{path} was left by a fit with other {what}; run the same command as then, or remove that file"
        )
    return found


def frames(
    items: Sequence[Item], preprocessing: Preprocessing, unreadable: dict[str, str]
) -> Iterator[npt.NDArray[np.uint8]]:
    """The readable images in the model's frame, in order; the others' sentences go to `unreadable`, by name."""
    for item, frame in _read(items, preprocessing):
        if isinstance(frame, ImageError):
            unreadable[item.name] = str(frame)
        else:
            yield frame


def _read(
    items: Sequence[Item], preprocessing: Preprocessing
) -> Iterator[tuple[Item, npt.NDArray[np.uint8] | ImageError]]:
    def load(item: Item) -> npt.NDArray[np.uint8] | ImageError:
        try:
            return image_files.prepare(item.read().image, preprocessing)
        except ImageError as error:
            return error

    return zip(items, in_order(load, items, ahead=2 * BATCH), strict=True)


def few(count: int, fewest: int, unreadable: Mapping[str, str]) -> PadimEdgeError:
    """What is said where there are too few images."""
    first = next(iter(unreadable.values()), "")
    return PadimEdgeError(
        f"there {'is' if count == 1 else 'are'} {count} readable good image{'' if count == 1 else 's'}, expected "
        f"at least {fewest}, better 20 or more" + (f"; of the others: {first}" if first else "; add images")
    )
