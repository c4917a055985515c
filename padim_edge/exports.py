"""Exports of one or several classes: outputs, budget and kept statistics around `fit` and `Fitted.export`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from padim_edge import budget as budgets
from padim_edge.datasets import Dataset
from padim_edge.datasets.excluding import without
from padim_edge.datasets.items import first_size
from padim_edge.fitted import ExportOptions, Fitted, check_share, fit_dataset
from padim_edge.improving import improved
from padim_edge.model import Model, Suspect, check_output, moved
from padim_edge.plan import Outputs, require_memory_to_leave_out
from padim_edge.rehearsal.result import Rehearsal
from padim_edge.roi import read_roi
from padim_edge.settled import settled
from padim_edge.suspects import export_without
from padim_edge.visibility import visibility
from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.files import flush, replacing, reserved, staging
from padim_edge_artifact.kept import pack_kept
from padim_edge_artifact.method import Method, Precision
from padim_edge_artifact.unfinished import PAIR
from padim_edge_model.calibration import check_rate
from padim_edge_runtime.devices import trtexec
from padim_edge_runtime.progress import Feedback

__all__ = ["Exported", "Job", "check_trtexec", "export_class", "export_statistics", "output_paths", "stretched"]


@dataclass(frozen=True)
class Job:
    """Everything besides data and output that an export depends on."""

    method: Method
    """Method of the fit; a budget replaces its precision, and may lower the number of its prototypes."""
    weights: str = "auto"
    """`auto`, or the path of a weights file."""
    options: ExportOptions = field(default_factory=ExportOptions)
    """Options of the export."""
    budget: int | None = None
    """Bytes that the model may take; `None` without a budget."""
    keep_statistics: Path | None = None
    """File that the statistics are written to, too."""
    exclude_suspects: bool = False
    """Whether good images that look unlike the others are left out."""
    improve: float | None = None
    """Minutes in which other methods are tried, and the one that sees most is taken; `None` tries none."""


@dataclass(frozen=True)
class Exported:
    """One model of a job."""

    model: Model
    """Model that was written."""
    budget: int | None = None
    """Bytes that it was allowed to take."""
    cost: budgets.Cost | None = None
    """Loss against the exact model, where a budget chose a smaller form."""
    left_out: tuple[Suspect, ...] = ()
    """Good images that were left out because they look unlike the others."""
    rehearsal: Rehearsal | None = None
    """Rehearsal of the model with planted defects; `None` where that was not tried or not possible."""

    def to_json(self) -> dict[str, Any]:
        """Return the object that `export --json` prints."""
        chosen = {} if self.budget is None else {"precision": str(self.model.metadata.precision), "budget": self.budget}
        lost = {} if self.cost is None else {"cost": self.cost.to_json()}
        seen = {} if self.rehearsal is None else {"visibility": _in_short(self.rehearsal)}
        names = {"left_out": [each.item.name for each in self.left_out]} if self.left_out else {}
        return {**self.model.to_json(), **names, **chosen, **lost, **seen}


def output_paths(classes: Sequence[str], output: Path | None) -> list[Path]:
    """Name the model file of each class, and check that all can be written.

    Args:
        classes: Names of the classes.
        output: A file for one class, a folder for several; `None` takes `<class>.onnx` in the working folder.

    Raises:
        PadimEdgeError: A name does not end in `.onnx`, or its folder does not exist.
    """
    folder = output is None or output.is_dir() or len(classes) > 1
    paths = [(output or Path()) / f"{name}.onnx" if folder or output is None else output for name in classes]
    for path in paths:
        check_output(path)
    return paths


def check_trtexec(precision: Precision, batch: int, *, may_be_int8: bool = False) -> None:
    """Refuse calls of trtexec for a model that TensorRT will not take, before the model is made.

    Args:
        precision: Precision of the model.
        batch: Largest batch size of the engine.
        may_be_int8: Whether a budget may choose int8 instead.

    Raises:
        PadimEdgeError: The model is, or may become, int8 for the CPU; or the batch size is below 1.
    """
    trtexec.check_batch(batch)
    if precision.target == "cpu" and (may_be_int8 or precision.name == "int8"):
        found = "--budget may choose int8" if may_be_int8 else "the model is int8"
        raise PadimEdgeError(
            f"{found} for the CPU, which TensorRT does not take; fit with --target tensorrt, or leave --trtexec out"
        )


def export_class(dataset: Dataset, path: Path, job: Job, feedback: Feedback) -> Exported:
    """Fit one class and write its model, within the budget if there is one.

    Raises:
        PadimEdgeError: As from `fit` and `Fitted.export`; or nothing fits the budget.
    """
    check_rate(job.options.false_alarm_rate)
    check_share(job.method, job.options)
    method = settled(dataset, job.method, feedback.tell)
    if job.options.roi is not None:  # before the fit, which takes minutes
        read_roi(Path(job.options.roi), method.preprocessing, dataset)
    if (sentence := stretched(dataset, method)) is not None:
        feedback.tell(sentence)
    asked = method
    if job.budget is not None:
        method = budgets.choose(job.budget, asked, job.weights, len(dataset.good))

    room = Outputs(path, job.keep_statistics)

    def export(some: Dataset, output: Path) -> Model:
        device = job.options.device
        fitted = fit_dataset(some, method, weights=job.weights, device=device, room_for=room, feedback=feedback)
        return fitted.export_with(output, job.options, feedback)

    left_out: tuple[Suspect, ...] = ()
    with _writing(path, job.keep_statistics) as (folder, keep):
        if job.improve is not None:
            return _improved(dataset, method, (folder, path), job, keep, feedback)
        if job.exclude_suspects:
            found, left_out = export_without(dataset, lambda some: export(some, folder / path.name), feedback)
            dataset = without(dataset, {each.item.name for each in left_out})
        else:
            found = export(dataset, folder / path.name)
        keep(found)
        model = moved(found, path)
    seen = None if job.options.fast else _rehearsal(model, job.options, feedback)
    if job.budget is None:
        return Exported(model, left_out=left_out, rehearsal=seen)
    cost = budgets.exact_cost(model, asked, dataset, job.weights, job.options, feedback)
    return Exported(model, job.budget, cost, left_out, seen)


@contextmanager
def _writing(path: Path, statistics: Path | None) -> Iterator[tuple[Path, Callable[[Model], None]]]:
    """Give a temporary folder to make a model in, and a function that keeps its statistics where they are wanted.

    The statistics get their name behind the model: what a kill between both leaves, the next update finishes.
    """
    with ExitStack() as stack:
        stack.enter_context(reserved([path] if statistics is None else [path, statistics]))

        def keep(model: Model) -> None:
            if statistics is not None:
                file = stack.enter_context(replacing(statistics, PAIR))
                pack_kept(file, model.kept)
                flush(file)

        yield stack.enter_context(staging(path)), keep


def _improved(
    dataset: Dataset,
    method: Method,
    places: tuple[Path, Path],
    job: Job,
    keep: Callable[[Model], None],
    feedback: Feedback,
) -> Exported:
    """Write the model of the method that sees most of the planted defects.

    Args:
        dataset: Good images.
        method: Method that was asked for.
        places: A temporary folder, and the final name.
        job: Everything else.
        keep: Function that keeps the statistics of the model that is taken.
        feedback: Progress bars and sentences.
    """
    assert job.improve is not None
    folder, path = places
    quiet, room = Feedback(feedback.report), Outputs(path, job.keep_statistics)

    def make(tried: Method, output: Path) -> tuple[Model, Rehearsal]:
        device = job.options.device
        fitted = fit_dataset(dataset, tried, weights=job.weights, device=device, room_for=room, feedback=quiet)
        model = fitted.export_with(output, job.options, quiet)
        return model, visibility(model, device=device, report=feedback.report)

    both = job.options.memory_share is not None
    found = improved(method, folder / path.name, job.improve, make, feedback.tell, both=both)
    keep(found.model)
    return Exported(moved(found.model, path), rehearsal=found.rehearsal)


def _in_short(rehearsal: Rehearsal) -> dict[str, Any]:
    """Return level and share found of the plainly visible defects, as `export --json` prints them."""
    plain = rehearsal.chart.plain
    return {
        "level": rehearsal.level,
        "found": None if plain is None else plain.count,
        "plain": 0 if plain is None else plain.total,
        "sentence": rehearsal.line,
    }


def _rehearsal(model: Model, options: ExportOptions, feedback: Feedback) -> Rehearsal | None:
    """Return what the model sees, or tell why that cannot be said."""
    try:
        require_memory_to_leave_out(model.kept)
        return visibility(model, device=options.device, report=feedback.report)
    except PadimEdgeError as error:
        feedback.tell(f"visibility: not tried, because {error}")
        return None


def export_statistics(
    fitted: Fitted,
    path: Path,
    options: ExportOptions,
    form: tuple[int | None, bool],
    feedback: Feedback,
) -> Exported:
    """Write a model from kept statistics, without fitting.

    Args:
        fitted: Statistics with good images that are in them, as `load_fitted` reads them.
        path: The `.onnx` file.
        options: Options of the export; its precision is replaced by that of the statistics.
        form: Rank and diagonal of the Gaussians, as in `Precision`.
        feedback: Progress bars.

    Raises:
        PadimEdgeError: As from `Fitted.export`.
    """
    rank, diagonal = form
    precision = replace(fitted.method.precision, rank=rank, diagonal=diagonal)
    with reserved([path]):
        model = fitted.export_with(path, replace(options, precision=precision), feedback)
    return Exported(model, rehearsal=None if options.fast else _rehearsal(model, options, feedback))


def stretched(dataset: Dataset, method: Method) -> str | None:
    """Return a sentence where the good images have another size than the camera frames of the method."""
    preprocessing = method.preprocessing
    camera, size = preprocessing.camera, first_size(dataset, preprocessing.levels)
    if camera is None or size is None or size == camera[::-1]:
        return None
    return (
        f"{dataset.class_name}: the images have {size[1]}x{size[0]} pixels (height x width) and not the "
        f"{camera[0]}x{camera[1]} of --frame; they are stretched to that first, so fit on the camera's own frames"
    )
