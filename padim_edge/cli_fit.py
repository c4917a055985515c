"""The commands `fit` and `merge`: statistics without a model, on one machine or on many. Heavy imports stand inside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from padim_edge.cli_options import (
    BackboneOption,
    DataOption,
    DimsOption,
    FrameOption,
    LayersOption,
    PerturbOption,
    PresetOption,
    ReductionOption,
    SizeOption,
    TargetOption,
    WeightsOption,
    method,
    open_dataset,
    tell_stretched,
)
from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_runtime.cli import DEVICE_HELP, JsonOption, print_json, warn

if TYPE_CHECKING:
    from padim_edge.datasets import Dataset
    from padim_edge.ranks import Ranks
    from padim_edge_artifact.kept import Kept

__all__ = ["fit", "merge"]


def fit(
    class_name: Annotated[str | None, typer.Option("--class", help="Name of the part, such as bottle.")] = None,
    data: DataOption = None,
    backbone: BackboneOption = None,
    layers: LayersOption = None,
    weights: WeightsOption = "auto",
    preset: PresetOption = "edge",
    precision: Annotated[str, typer.Option(help="fp32, fp16 or int8: in which the backbone computes.")] = "fp32",
    target: TargetOption = "cpu",
    reduction: ReductionOption = None,
    dims: DimsOption = None,
    size: SizeOption = None,
    frame: FrameOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the reduction, and of --perturb.")] = 0,
    like: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Fit exactly as these statistics were, so that both can be merged."),
    ] = None,
    perturb: PerturbOption = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The statistics; <class>.npz unless given.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted fit.")] = False,
    device: Annotated[str, typer.Option(help="Where the backbone runs: " + DEVICE_HELP)] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Fit on good images and keep the statistics; `export --statistics` makes a model of them.

    Under torchrun, each of the K processes fits a K-th of the images, and the first one writes.
    """
    import time
    from dataclasses import replace

    from padim_edge import gather, plan
    from padim_edge.build import FEWEST
    from padim_edge_artifact import kept
    from padim_edge_artifact.method import Precision
    from padim_edge_runtime import progress
    from padim_edge_runtime.prefetch import cores

    start = time.perf_counter()
    if data is None and class_name is None:
        raise PadimEdgeError("neither --class nor --data is given; try padim-edge fit --class bottle")
    dataset = open_dataset(data, class_name, perturb=perturb, seed=seed)
    path = output or Path(f"{dataset.class_name}.npz")
    if not path.resolve().parent.is_dir():
        raise PadimEdgeError(f"the folder of {path} does not exist; make it or choose another one")

    def prepare() -> Kept:
        if like is not None:
            return _like(kept.load(like), dataset)
        numbers = Precision(precision, target)
        with progress.bar("loading the backbone", None):
            chosen, trunk = method(
                data,
                backbone=backbone,
                layers=layers,
                weights=weights,
                preset=preset,
                reduction=reduction,
                dims=dims,
                size=size,
                frame=frame,
            )
        tell_stretched(dataset, chosen)
        return gather.begin(dataset, chosen, trunk, precision=numbers, seed=seed, device=device, report=progress.bar)

    with _ranks() as ranks:
        first = ranks is None or ranks.rank == 0
        bar = progress.bar if first else progress.none
        empty = prepare() if ranks is None else _same_on_all(ranks, dataset, prepare)
        if first:
            needed = plan.needs(empty, Precision(empty.recipe.precision, empty.recipe.target), len(dataset.good))
            here = 1 if ranks is None else ranks.here
            needed = replace(needed, memory=here * needed.memory, statistics=here * needed.statistics)
            warn(str(needed))
            plan.require(needed, path)
        items = dataset.good if ranks is None else ranks.share(dataset.good)
        unfinished = gather.checkpoint_of(path)
        if ranks is not None:
            unfinished = unfinished.with_name(f"{unfinished.name}.{ranks.rank}of{ranks.world}")
        try:
            with bar("fitting", len(items)) as advance:
                own, unreadable = gather.gather(
                    empty,
                    items,
                    device=device,
                    threads=None if ranks is None else max(1, cores() // ranks.world),
                    checkpoint=gather.Checkpoint(unfinished),
                    resume=resume,
                    advance=advance,
                )
        except KeyboardInterrupt:
            if unfinished.is_file():
                raise PadimEdgeError(
                    "interrupted; the same command with --resume goes on from the last minute"
                ) from None
            raise
        if ranks is not None:
            own = ranks.merged(own)
            unreadable = {name: text for each in ranks.gathered(unreadable) for name, text in each.items()}
        if first:
            if own.statistics.count < FEWEST:
                raise gather.few(own.statistics.count, FEWEST, unreadable)
            kept.save(path, own)
        if ranks is not None:
            ranks.gathered(None)  # the file is written before any rank throws its checkpoint away
        unfinished.unlink(missing_ok=True)
    if not first:
        return
    for sentence in unreadable.values():
        warn(f"left out: {sentence}")
    seconds = time.perf_counter() - start
    world = 1 if ranks is None else ranks.world
    if as_json:
        print_json(
            {
                "statistics": str(path),
                "bytes": path.stat().st_size,
                "images": own.statistics.count,
                "ranks": world,
                "seconds": round(seconds, 3),
            }
        )
        return
    by = "" if world == 1 else f" by {world} ranks"
    typer.echo(
        f"{path}: {own.statistics.count} good images{by}, {own.recipe.backbone.name}, preset {own.recipe.preset}, "
        f"{path.stat().st_size / 1e6:.1f} MB, {seconds:.1f} s"
    )


def _like(found: Kept, dataset: Dataset) -> Kept:
    """Nothing yet, but of the same embedding."""
    from dataclasses import replace

    from padim_edge_artifact import Statistics
    from padim_edge_artifact.reference import Seen

    grid, dims = found.statistics.grid, found.statistics.dims
    recipe = replace(found.recipe, class_name=dataset.class_name)
    return replace(
        found, recipe=recipe, statistics=Statistics.empty(grid, dims), seen=Seen.nothing(grid), progress=None
    )


@contextmanager
def _ranks() -> Iterator[Ranks | None]:
    import os

    if int(os.environ.get("WORLD_SIZE", "1")) <= 1:  # not asked of `ranks`, which imports torch
        yield None
        return
    from padim_edge.ranks import joined_by_torchrun

    with joined_by_torchrun() as ranks:
        yield ranks


def _same_on_all(ranks: Ranks, dataset: Dataset, prepare: Callable[[], Kept]) -> Kept:
    """What rank 0 prepares, after all agree on the list of images."""
    from padim_edge.gather import digest_of

    lists = ranks.gathered((len(dataset.good), digest_of(dataset.good)))
    if len(set(lists)) > 1:
        raise PadimEdgeError(
            f"the ranks see different images ({', '.join(str(count) for count, _ in lists)} of them); give every "
            "machine the same folder"
        )
    return ranks.from_first(prepare)


def merge(
    files: Annotated[list[Path], typer.Argument(metavar="FILE FILE...", help="Statistics of different images.")],
    output: Annotated[Path, typer.Option(metavar="FILE", help="Where to write what they add up to.")],
    as_json: JsonOption = False,
) -> None:
    """Add up statistics that were fitted apart; the result is that of one fit on all images."""
    from padim_edge_artifact import kept

    if len(files) < 2:
        raise PadimEdgeError(f"there is {len(files)} file to merge, expected two or more")
    if len({path.resolve() for path in files}) < len(files):
        raise PadimEdgeError("a file is named twice; its images would count twice")
    total = kept.load(files[0])
    digests = {total.statistics.digest(): files[0]}
    for path in files[1:]:
        other = kept.load(path)
        for each, name in ((total, files[0]), (other, path)):
            if each.progress is not None:
                raise PadimEdgeError(f"{name} is of an unfinished fit; finish it with --resume first")
        twin = digests.setdefault(other.statistics.digest(), path)
        if twin is not path:
            raise PadimEdgeError(f"{path} holds the same images as {twin}; they would count twice")
        total = kept.merge(total, other, in_place=True)
        del other
    kept.save(output, total)
    if as_json:
        print_json({"statistics": str(output), "bytes": output.stat().st_size, "images": total.statistics.count})
        return
    typer.echo(f"{output}: {total.statistics.count} good images from {len(files)} files")
