"""The command `infer`."""

from __future__ import annotations

import json
from collections import deque
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_runtime.cli.options import (
    DECISION,
    OUTPUT,
    DeviceOption,
    ModelArgument,
    ProductOption,
    VerboseOption,
    warn,
)

if TYPE_CHECKING:
    from padim_edge_runtime.inspection import Inspection, Unreadable

__all__ = ["infer"]


def infer(
    model: ModelArgument,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE|FOLDER...", help="Images to inspect.")],
    product: ProductOption = None,
    device: DeviceOption = "auto",
    threshold: Annotated[
        float | None, typer.Option(help="Use this instead of the model's own threshold.", rich_help_panel=DECISION)
    ] = None,
    min_area: Annotated[
        int,
        typer.Option(
            min=0,
            help="Do not report regions of less area, in square pixels of the image.",
            rich_help_panel=DECISION,
        ),
    ] = 0,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VERDICT",
            help="anomalous or not-comparable, or both with a comma: exit with 3 where an image is anomalous, with 4 "
            "where one is not comparable.",
            rich_help_panel=DECISION,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per line on stdout.", rich_help_panel=OUTPUT)
    ] = False,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a table.", rich_help_panel=OUTPUT)
    ] = None,
    heatmaps: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write a heat map for each image.", rich_help_panel=OUTPUT)
    ] = None,
    maps: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Also write the anomaly map of each image, in its own size, as TIFF in float32.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    verbose: VerboseOption = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Say at the end where the time went.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Inspect images: good, anomalous or not comparable, with score and regions.

    The exit code is 1 if any image could not be read, or any map could not be written.
    """
    from padim_edge_artifact.files import refuse_inputs, replacing
    from padim_edge_runtime import image_search, pipeline, progress, results
    from padim_edge_runtime.detector import Detector
    from padim_edge_runtime.heatmaps import anomaly_maps, heat_maps
    from padim_edge_runtime.inspection import Unreadable
    from padim_edge_runtime.profile import Clock, table

    choice = pipeline.Choice(threshold=threshold, min_area=min_area)  # before any work is done
    failing = results.failing(fail_on or ())
    searched = image_search.find(images)
    files = list(searched.files)
    if csv is not None:
        refuse_inputs([csv], [model, *(path for path, _ in files)])
    for sentence in searched.sentences():
        warn(sentence)
    threads = pipeline.threads_for(len(files))
    detector = Detector.load(model, device, product=product, threads=threads, tell=warn)
    if verbose:
        for reason in detector.refused:
            warn(reason)
        if detector.device != "cpu":
            warn(detector.placement)
    tally, lost = results.Tally(), deque[str]()
    with ExitStack() as stack:
        rows = None
        if csv is not None:
            file = stack.enter_context(replacing(csv))
            # Names of files need not be text.
            text = stack.enter_context(file.open("w", newline="", encoding="utf-8", errors="backslashreplace"))
            rows = results.Table(text)
        advance = stack.enter_context(progress.bar("inspecting", len(files)))
        clock = Clock()
        hooks: list[pipeline.Hook] = []
        if heatmaps is not None:
            workers = pipeline.workers_of(detector)
            hooks.append(heat_maps(heatmaps, files, workers=workers, clock=clock, lost=lost.append))
        if maps is not None:
            hooks.append(anomaly_maps(maps, files, clock=clock, lost=lost.append))

        def hook(inspection: Inspection) -> None:
            for each in hooks:
                each(inspection)

        paths = (path for path, _ in files)
        found = pipeline.inspect_many(detector, paths, choice, hook=hook if hooks else None, clock=clock)
        for result in stack.enter_context(closing(found)):
            tally.add(result)
            with clock.stage("output"):
                _print(result, as_json=as_json)
                if rows is not None:
                    rows.add(result)
                while lost:
                    tally.lost += 1
                    warn(lost.popleft())
                advance(1)
        times = clock.profile(tally.images, detector.device)
        for missed in searched.missed:  # stderr has named them already, many in one sentence
            unjudged = Unreadable(missed.path, missed.error)
            tally.add(unjudged)
            if as_json:
                _print(unjudged, as_json=True)
            if rows is not None:
                rows.add(unjudged)
    warn(tally.sentence(times))
    for line in table(times) if profile else ():
        typer.echo(line, err=True)
    raise typer.Exit(tally.exit_code(failing))


def _print(result: Inspection | Unreadable, *, as_json: bool) -> None:
    from padim_edge_runtime.inspection import Unreadable
    from padim_edge_runtime.results import line, remarks

    if as_json:
        _echo(json.dumps(result.to_json(), allow_nan=False))
    elif isinstance(result, Unreadable):
        warn(result.error)
    else:
        _echo(line(result))
    if not isinstance(result, Unreadable):
        for sentence in remarks(result):
            warn(sentence)


def _echo(text: str) -> None:
    """Print one line of results.

    Raises:
        PadimEdgeError: It cannot be written.
        BrokenPipeError: Its reader has gone.
    """
    try:
        typer.echo(text)
    except BrokenPipeError:
        raise
    except OSError as error:  # or it would pass for an error of the table, which is open meanwhile
        raise PadimEdgeError(
            f"the results could not be printed ({error.strerror or error}); give stdout a place that has room"
        ) from error
