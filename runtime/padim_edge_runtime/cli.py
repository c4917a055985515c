"""The command `padim-edge`: what a device needs. An installed toolkit adds its own commands through entry points."""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import ExitStack, closing
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from padim_edge_artifact.errors import PadimEdgeError

if TYPE_CHECKING:
    from padim_edge_artifact import Metadata
    from padim_edge_runtime.judge import Judged, Unreadable
    from padim_edge_runtime.profile import Profile

__all__ = [
    "DEVICE_HELP",
    "JsonOption",
    "ModelArgument",
    "app",
    "main",
    "print_json",
    "print_trtexec",
    "tell_extrapolated",
    "warn",
]

COMMAND_GROUP = "padim_edge.commands"
"""Entry points of this group are called with the app, to add commands to it."""

DEVICE_HELP = "auto, cpu, cuda or tensorrt; all but auto are used or refused, never replaced."


class _Sentences(TyperGroup):
    """Turns the errors that users can cause into one sentence and exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except PadimEdgeError as error:
            sentence = str(error)
        except KeyboardInterrupt:
            sentence = "interrupted; nothing unfinished stands under a final name"
        except BrokenPipeError:  # the reader of our output has gone: nobody is left to be told
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except MemoryError:
            sentence = "the memory of this machine does not suffice; close other programs or use a larger machine"
        except OSError as error:
            where = f" on {error.filename}" if error.filename else ""
            sentence = f"the system refused ({error.strerror or error}{where}); check the path, its rights and the disk"
        typer.echo(f"padim-edge: {sentence}", err=True)
        raise typer.Exit(1)


app = typer.Typer(
    name="padim-edge",
    cls=_Sentences,
    help="Anomaly detection for inspection devices: PaDiM as one ONNX graph, pixels in, decision out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="A model made by padim-edge export.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


@app.callback()
def _options(
    _: Annotated[
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=lambda asked: _print_version() if asked else None,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    pass


def _print_version() -> None:
    typer.echo(f"padim-edge {version('padim-edge-runtime')}")
    raise typer.Exit


def print_json(content: object) -> None:
    """One JSON document on stdout."""
    typer.echo(json.dumps(content, indent=2, allow_nan=False))


def warn(sentence: str) -> None:
    """One line on stderr."""
    typer.echo(f"padim-edge: {sentence}", err=True)


@app.command()
def infer(
    model: ModelArgument,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE|FOLDER...", help="What to judge.")],
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line on stdout.")] = False,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a table.")] = None,
    heatmaps: Annotated[Path | None, typer.Option(metavar="DIR", help="Also write overlays, one an image.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Use this instead of the model's own threshold.")] = None,
    min_area: Annotated[
        int, typer.Option(min=0, help="Do not report regions of less area, in square pixels of the image.")
    ] = 0,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say why better devices were passed over, and what runs where.")
    ] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Say at the end where the time went, on stderr.")] = False,
) -> None:
    """Judge images: score, decision, regions. Exit code 1 when any image could not be read."""
    from padim_edge_artifact.files import replacing
    from padim_edge_runtime import image_files, progress
    from padim_edge_runtime.detector import Detector
    from padim_edge_runtime.judge import judge, side_by_side
    from padim_edge_runtime.profile import Clock, table

    if threshold is not None and not 0 <= threshold < float("inf"):
        raise PadimEdgeError(f"--threshold is {threshold}, expected a distance of 0 or more")
    files = image_files.find(images)
    at_once = side_by_side(len(files))
    detector = Detector.load(model, device, threads=1 if at_once > 1 else None, tell=warn)
    if verbose:
        for reason in detector.refused:
            warn(reason)
        if detector.device != "cpu":
            warn(detector.placement)
    judged: list[Judged | Unreadable] = []
    with ExitStack() as stack:
        rows = None
        if csv is not None:
            file = stack.enter_context(replacing(csv))
            # Names of files need not be text.
            rows = stack.enter_context(file.open("w", newline="", encoding="utf-8", errors="backslashreplace"))
        advance = stack.enter_context(progress.bar("judging", len(files)))
        clock = Clock()
        results = judge(
            detector, files, threshold=threshold, heatmaps=heatmaps, smallest=min_area, at_once=at_once, clock=clock
        )
        for result in stack.enter_context(closing(results)):
            judged.append(result)
            with clock.stage("output"):
                _tell(result, as_json=as_json)
                advance(1)
        times = clock.profile(len(judged), detector.device)
        if rows is not None:
            _write_table(rows, judged)
    unreadable = _summarise(judged, times)
    for line in table(times) if profile else ():
        typer.echo(line, err=True)
    raise typer.Exit(1 if unreadable else 0)


_WARNINGS = {
    "shift": "moved against the good images; check the camera and the part's place",
    "exposure": "brighter, darker or flatter than any good image; check the light",
}


def _tell(result: Judged | Unreadable, *, as_json: bool) -> None:
    """Print a result."""
    from padim_edge_runtime.judge import Unreadable

    if as_json:
        typer.echo(json.dumps(result.to_json(), allow_nan=False))
    elif isinstance(result, Unreadable):
        warn(result.error)
    else:
        decision = "ANOMALOUS" if result.anomalous else "good     "
        p_value = f"{result.p_value:.3f}" if result.p_value >= 0.001 else "<.001"
        typer.echo(f"{decision}  score {result.score:8.2f}  p {p_value}  {result.path}")
    for note in getattr(result, "notes", ()):
        warn(f"{result.path}: {note}")
    for warning in getattr(result, "warnings", ()):
        warn(f"{result.path}: {_WARNINGS[warning]}")


def _write_table(file: Any, judged: list[Judged | Unreadable]) -> None:
    import csv

    from padim_edge_runtime.judge import COLUMNS

    writer = csv.DictWriter(file, COLUMNS)
    writer.writeheader()
    for result in judged:
        row = result.to_json()
        row["regions"] = len(row["regions"]) if "regions" in row else ""
        writer.writerow({column: row.get(column, "") for column in COLUMNS})


def _summarise(judged: list[Judged | Unreadable], times: Profile) -> int:
    """One line on stderr; returns the number of unreadable images."""
    from statistics import median

    from padim_edge_runtime.judge import Judged

    done = [each for each in judged if isinstance(each, Judged)]
    anomalous = sum(each.anomalous for each in done)
    unreadable = len(judged) - len(done)
    in_model = f", {median(each.milliseconds for each in done):.1f} ms each in the model" if done else ""
    threshold = f" above {done[0].threshold:.2f}" if done else ""
    warn(
        f"{len(judged)} images: {anomalous} anomalous{threshold}, {len(done) - anomalous} good, "
        f"{unreadable} unreadable; on {times.device}, {times.rate:.1f} images/s{in_model}"
    )
    return unreadable


@app.command()
def inspect(
    model: ModelArgument,
    trtexec: Annotated[
        int | None, typer.Option(metavar="BATCH", help="Print the calls of trtexec that build an engine instead.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say why better devices are passed over.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what a model is: class, backbone, preprocessing, images, threshold, licence."""
    import dataclasses

    from padim_edge_artifact.container import read_metadata
    from padim_edge_runtime.devices.here import runs_here

    metadata = read_metadata(model)
    if trtexec is not None:
        print_trtexec(model, metadata, trtexec)
        return
    here = runs_here(model, metadata)
    if as_json:
        print_json(dataclasses.asdict(metadata) | {"runs_here": {"device": here.device, "refused": here.refused}})
        return
    preprocessing, reduction = metadata.preprocessing, metadata.reduction
    (height, width), (h, w) = metadata.input_size, metadata.grid
    crop = (
        f", centre crop {preprocessing.crop[0]}x{preprocessing.crop[1]}" if preprocessing.crop else ", nothing cropped"
    )
    where = "in the graph " if preprocessing.camera else ""
    per_stage = f" ({' + '.join(map(str, reduction.stage_dims))} by stage)" if reduction.stage_dims else ""
    stored = model.stat().st_size + metadata.digests.data_bytes
    rows = {
        "class": metadata.class_name,
        "made by": f"{metadata.created_by}, format version {metadata.format_version}",
        "revision": str(metadata.revision)
        + (f", an update of the model with digest {metadata.parent[:12]}" if metadata.parent else ""),
        "preset": f"{metadata.preset}, {metadata.numbers}",
        "input": f"uint8 RGB (N, {height}, {width}, 3); resize {where}to {preprocessing.resize[0]}x"
        f"{preprocessing.resize[1]} {preprocessing.interpolation}{crop}",
        "backbone": f"{metadata.backbone.name} {', '.join(metadata.backbone.layers)}",
        "weights": f"{metadata.backbone.weights}; sha256 {metadata.backbone.weights_digest[:12]}",
        "weights' licence": metadata.backbone.licence,
        "embedding": f"{reduction.dims} dimensions {reduction.kind}{per_stage}, seed {reduction.seed}; "
        f"{metadata.pooling}x{metadata.pooling} pooling; grid {h}x{w}",
        "Gaussians": f"{metadata.images} good images, ridge {metadata.ridge:g}, map sigma {metadata.sigma:g} px",
        "inspected": "the whole frame"
        if metadata.roi is None
        else f"a region of interest, {100 * metadata.inspected.mean():.1f} % of the frame",
        "threshold": f"{metadata.threshold:.4f}, for a false-alarm rate of {metadata.false_alarm_rate:g}"
        + (" (extrapolated)" if metadata.extrapolated else ""),
        "calibrated on": f"{metadata.calibration.images} {metadata.threshold_rule}; they resolve rates down to "
        f"{metadata.calibration.resolution:.2g}"
        + (", below it a Pareto tail is used" if metadata.extrapolated else ""),
        "size": f"{stored / 1e6:.1f} MB"
        + (f", with {metadata.digests.data_file}" if metadata.digests.data_file else ""),
        "runs here on": here.words,
    }
    for name, value in rows.items():
        typer.echo(f"{name:>17}  {value}")
    for reason in here.refused if verbose else ():
        warn(reason)


@app.command()
def verify(
    model: ModelArgument,
    device: Annotated[str | None, typer.Option(help="Only this device; otherwise each that is usable here.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a model on this machine: every byte, the contract, and its self-test on each device."""
    from padim_edge_artifact import DeviceError
    from padim_edge_runtime.detector import Detector
    from padim_edge_runtime.devices.providers import DEVICES

    results: dict[str, dict[str, Any]] = {}
    for each in DEVICES if device is None else (device,):
        try:
            detector = Detector.load(model, each, tell=warn)
            outcome = detector.self_test()
        except DeviceError as error:
            if device is not None or each == "cpu":
                raise
            results[each] = {"passed": None, "reason": str(error)}
        else:
            results[each] = {
                "passed": outcome.passed,
                "difference": outcome.difference,
                "tolerance": outcome.tolerance,
                "score": outcome.score,
                "expected_score": outcome.expected_score,
            }
    if as_json:
        print_json({"model": str(model), "devices": results})
    else:
        for each, row in results.items():
            if row["passed"] is None:
                typer.echo(f"not here  {each}: {row['reason']}")
            else:
                typer.echo(
                    f"{'passed' if row['passed'] else 'FAILED'}    {each}: score {row['score']:.5f}, expected "
                    f"{row['expected_score']:.5f}; largest difference {row['difference']:.1e} of {row['tolerance']:.0e}"
                )
    if any(row["passed"] is False for row in results.values()):
        raise PadimEdgeError("the model answers differently here than where it was made; see the lines above")


def print_trtexec(model: Path, metadata: Metadata, batch: int) -> None:
    """The calls of trtexec, each below the version that it is for, so that a shell takes all of it."""
    from padim_edge_runtime.devices.trtexec import calls

    for version_, call in calls(model, metadata, batch).items():
        typer.echo(f"# TensorRT {version_}\n{call}")


def tell_extrapolated(metadata: Metadata) -> None:
    """Warn where the threshold rests on a model of the tail."""
    if metadata.extrapolated:
        warn(
            f"a false-alarm rate of {metadata.false_alarm_rate:g} is less than {metadata.calibration.images} "
            f"images resolve ({metadata.calibration.resolution:.2g}); the threshold is extrapolated from their tail"
        )


def _add_toolkit() -> None:
    """Let installed toolkits add their commands. A broken one is named and does not take `infer` down with it."""
    for entry in entry_points(group=COMMAND_GROUP):
        try:
            entry.load()(app)
        except (ImportError, PackageNotFoundError) as error:
            warn(f"the commands of {entry.value} are missing ({error}); install padim-edge again")


def _add_own() -> None:
    # These import the options above.
    from padim_edge_learn.cli import recalibrate, update
    from padim_edge_runtime.cli_device import bench, doctor, warm

    for command in (recalibrate, update, doctor, warm, bench):
        app.command()(command)


_add_own()
_add_toolkit()


def main() -> None:
    """Entry point of the command `padim-edge`."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not fit the terminal's encoding
    app()
